"""Chains whose first wrong step is known, from files and finished runs, with a model's figures."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from leco_jax.configuration import build
from leco_jax.datasets.labelled_chains import read_labelled_chains
from leco_jax.evaluation.chain_scoring import GivenChain
from leco_jax.evaluation.experiment_config import ExperimentConfig
from leco_jax.evaluation.localisation import (
    LabelledFigures,
    first_wrong_step,
    has_equation,
    localisation,
)
from leco_jax.evaluation.questions import PROMPTS
from leco_jax.evaluation.step_figures import step_figures
from leco_jax.models.loading import LoadedModel
from leco_jax.scoring.presets import StepPreset
from leco_jax.storage.files import read_json
from leco_jax.storage.jsonl import read_rows
from leco_jax.text.prompts import step_lines


@dataclasses.dataclass(frozen=True, kw_only=True)
class SourceOptions:
    """How chains are read and scored.

    Attributes:
      preset: which variant of the step scores.
      batch_tokens: most tokens of a batch, padding included.
      limit: at most so many chains, from the front; None: all.
    """

    preset: StepPreset
    batch_tokens: int
    limit: int | None


@dataclasses.dataclass(frozen=True, kw_only=True)
class LabelledSource:
    """One file's or run's chains.

    Attributes:
      name: of the file or directory.
      chains: those that were scored.
      counts: how many chains there are, of what kind.
      cuts: a line for the table of where LeCo cut, in a run that has it.
    """

    name: str
    chains: list[LabelledFigures]
    counts: dict[str, int]
    cuts: list[dict]


def from_file(
    model: LoadedModel,
    path: Path,
    prompt: str,
    options: SourceOptions,
) -> LabelledSource:
    """Scores the chains of a file; every step may be named. Chains too long for the model are left.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: a bad row.
    """
    encode = PROMPTS[prompt](model.tokenizer, "number")
    labelled = read_labelled_chains(path)[: options.limit]
    given = [
        GivenChain(
            prompt=tuple(encode(chain.question)),
            response=tuple(model.tokenizer.encode(step_lines(chain.steps), continuation=True)),
            named={"line": number},
        )
        for number, chain in enumerate(labelled, 1)
    ]
    fits = [i for i, chain in enumerate(given) if len(chain) <= model.config.max_positions]
    figures = step_figures(
        model, [given[i] for i in fits], options.preset, batch_tokens=options.batch_tokens
    )
    chains = []
    for i, own in zip(fits, figures, strict=True):
        if len(own.texts) != len(labelled[i].steps):
            raise ValueError(f"{labelled[i].id}: a step has no token that can be scored")
        candidates = np.ones(len(own.texts), bool)
        chains.append(LabelledFigures(labelled[i].first_wrong, candidates, own.figures))
    return LabelledSource(
        name=path.name,
        chains=chains,
        counts=_counts(chains, left_out=len(given) - len(fits), why="too long"),
        cuts=[],
    )


def from_run(
    model: LoadedModel,
    workdir: Path,
    method: str,
    options: SourceOptions,
) -> LabelledSource:
    """Scores the first passes of a method of a finished run.

    A step may be named if LeCo may cut it. Chains with a right answer count as right.

    Raises:
      ValueError: the run has no such results, or its data set does not know the first wrong step.
    """
    stored = read_json(workdir / "config.json")
    stored["data"].pop("problems_sha256", None)
    config = build(ExperimentConfig, stored)
    problems = config.data.load(config.data.name, split=config.data.split, limit=config.data.limit)
    solutions = {p.id: p.solution for p in problems if p.solution is not None}
    if not solutions or not all(map(has_equation, _all_but_last(solutions.values()))):
        raise ValueError(
            f"{config.data.name}'s solutions do not have an equation in each step but the last, so "
            "the first wrong step of a chain is not known: use arithmetic_chains"
        )
    rows = [row for _, row in read_rows(workdir / "results.jsonl")]
    own = [row for row in rows if row["method"] == method and row["error"] is None][: options.limit]
    if not own:
        raise ValueError(f"{workdir} has no results of {method!r}")
    encode = PROMPTS[config.prompt](model.tokenizer, "number")
    texts = [row["rounds"][0]["text"] for row in own]
    given = [
        GivenChain(
            prompt=tuple(encode(row["question"])),
            response=tuple(model.tokenizer.encode(text, continuation=True)),
            named={"line": number},
        )
        for number, (row, text) in enumerate(zip(own, texts, strict=True), 1)
    ]
    read = [i for i, chain in enumerate(given) if chain.response]
    figures = step_figures(
        model, [given[i] for i in read], options.preset, batch_tokens=options.batch_tokens
    )
    may_cut = _may_be_named(config.leco.exclude)
    chains = []
    for i, steps in zip(read, figures, strict=True):
        candidates = np.array([may_cut(text) for text in steps.texts])
        wrong = None
        if own[i]["first_correct"] is not True:
            wrong = first_wrong_step(steps.texts, solutions[own[i]["id"]].splitlines())
        if candidates.any() and (wrong is None or wrong < len(steps.texts)):
            chains.append(LabelledFigures(wrong, candidates, steps.figures))
    left_out = len(given) - len(chains)
    cuts = []
    if any(row["method"] == "leco" for row in rows):
        cut_at = localisation(rows, solutions)
        cuts = [
            {"figure": f"LeCo's {cut_at.chains} cuts", "exact": cut_at.exact}
            | {"within_one": cut_at.within_one}
            | dict.fromkeys(("steps", "chains", "false_alarms"))
        ]
    return LabelledSource(
        name=f"{workdir.name}, {method}",
        chains=chains,
        counts=_counts(chains, left_out=left_out, why="that end before they go wrong"),
        cuts=cuts,
    )


def _all_but_last(solutions) -> list[str]:
    return [line for solution in solutions for line in solution.splitlines()[:-1]]


def _may_be_named(exclude: Sequence[str]) -> Callable[[str], bool]:
    parts = [part.lower() for part in exclude]
    return lambda text: not any(part in text.lower() for part in parts)


def _counts(chains: Sequence[LabelledFigures], *, left_out: int, why: str) -> dict[str, int]:
    wrong = sum(chain.first_wrong is not None for chain in chains)
    counts = {"wrong chains": wrong, "right chains": len(chains) - wrong}
    return counts | ({f"left out ({why})": left_out} if left_out else {})
