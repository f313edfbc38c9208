"""Other settings of forks and of LeCo's scores, from stored chains: nothing is decoded again."""

import math
import types
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from leco_jax.reasoning.chain_reader import score_stored
from leco_jax.reasoning.selection import cut_step, final_answer
from leco_jax.scoring.presets import StepPreset

THRESHOLDS = (0.3, 0.5, 0.6, 0.7, 0.8, 0.9)
TAUS = (0.1, 0.2, 0.3, 1 / 3, 0.5, 1.0)
HEADINGS = (1, 3, 5, 8)
SENSITIVITY_COLUMNS = (
    ("tau", ".2f"),
    ("K", "d"),
    ("chains", "d"),
    ("same cut", ".1%"),
    ("before a wrong answer", ".1%"),
)
SENSITIVITY_CAPTION = (
    "same cut: first passes whose weakest step is the same as with the run's own tau and K.\n"
    "before a wrong answer: of those with a wrong answer."
)


def other_forks(
    rows: Iterable[Mapping[str, Any]],
    method: str,
    *,
    thresholds: Sequence[float] = THRESHOLDS,
) -> Iterator[dict[str, Any]]:
    """What fewer forks, or a lower threshold, would have answered.

    Args:
      rows: results lines; those of `method` without an error are read. All forks must have been
        written (`settled=False`, no gate, `depth=1`) and log-probabilities stored (`engine.stats`).
      method: forks.
      thresholds: those above the run's own are left out.

    Yields:
      Results lines of methods "METHOD: p < THRESHOLD" and "METHOD: forks = N".

    Raises:
      ValueError: the run does not have what is needed.
    """
    for row in rows:
        if row["method"] != method or row["error"] is not None:
            continue
        own = row["settings"]
        if "forks" not in own or own["settled"] or own["depth"] > 1 or row["stopped"] != "forks":
            raise ValueError(
                f"{method} did not write all of its forks: run it with {method}.settled=False, "
                f"{method}.depth=1 and no gate"
            )
        greedy, *forks = row["rounds"]
        logprob = greedy["token_stats"].get("logprob")
        if logprob is None:
            raise ValueError('the run stores no log-probabilities: engine.stats=("logprob",)')
        replaced = [logprob[fork["kept"] + fork["appended"]] for fork in forks]
        chances = [0.0 if x is None else math.exp(x) for x in replaced]
        for threshold in thresholds:
            if threshold <= own["threshold"]:
                chosen = [f for f, p in zip(forks, chances, strict=True) if p < threshold]
                yield _again(row, f"{method}: p < {threshold:g}", [greedy, *chosen])
        weakest = sorted(range(len(forks)), key=lambda i: chances[i])
        for count in range(own["forks"]):
            chosen = [forks[i] for i in sorted(weakest[:count])]
            yield _again(row, f"{method}: forks = {count}", [greedy, *chosen])


def _again(row: Mapping[str, Any], method: str, rounds: list[dict[str, Any]]) -> dict[str, Any]:
    chains: Any = [types.SimpleNamespace(**chain) for chain in rounds]
    answer = final_answer(
        [chain.answer for chain in chains],
        lambda a, b: a is not None and a == b,
        rule=row["settings"]["final_rule"],
        stopped=row["stopped"],
        rounds=chains,
    )
    return {
        **row,
        "method": method,
        "answer": answer,
        "correct": None if row["gold"] is None else answer == row["gold"],
        "rounds": rounds,
        "cost": row["cost"] | {"rounds": len(rounds)},
    }


def other_scores(
    rows: Iterable[Mapping[str, Any]],
    method: str,
    preset: StepPreset,
    *,
    taus: Sequence[float] = TAUS,
    headings: Sequence[int] = HEADINGS,
) -> list[dict[str, Any]]:
    """How many cuts another tau or K would move.

    Args:
      rows: results lines; the first passes of `method` are read. Log-probabilities must be stored.
      method: any whose first pass is greedy, such as chain of thought.
      preset: the run's own variant of the scores.
      taus: each with the preset's K.
      headings: values of K, each with the preset's tau.

    Returns:
      A dict a line, with the keys of `SENSITIVITY_COLUMNS`.

    Raises:
      ValueError: there are no such chains, or they store no log-probabilities.
    """
    if preset.renormalise_topk is not None:
        raise ValueError("only scores of true probabilities can be reckoned anew: preset=paper")
    chains = [
        (row["rounds"][0], row["first_correct"])
        for row in rows
        if row["method"] == method and row["error"] is None and row["rounds"][0]["steps"]
    ]
    if not chains or "logprob" not in chains[0][0]["token_stats"]:
        raise ValueError(
            f'{method} has no chains with stored log-probabilities: engine.stats=("logprob",)'
        )
    settings = [(tau, preset.heading_tokens) for tau in taus]
    settings += [(preset.tau, heading) for heading in headings]
    own = [_cut(chain, preset) for chain, _ in chains]
    lines = []
    for tau, heading in dict.fromkeys(settings):
        other = StepPreset(tau=tau, heading_tokens=heading, label=preset.label)
        same = [_cut(chain, other) == cut for (chain, _), cut in zip(chains, own, strict=True)]
        wrong = [s for s, (_, right) in zip(same, chains, strict=True) if right is False]
        lines.append(
            {
                "tau": tau,
                "K": heading,
                "chains": len(chains),
                "same cut": float(np.mean(same)),
                "before a wrong answer": float(np.mean(wrong)) if wrong else None,
            }
        )
    return lines


def _cut(chain: Mapping[str, Any], preset: StepPreset) -> int | None:
    steps = score_stored(chain, preset)
    return cut_step(steps, rule="weakest", exclude=("think step by step", "the answer is"))
