"""A whole run: problems, model and methods of a config, from questions to a table.

Everything that a run writes lies in its work directory:

    config.json    the configuration, and a hash of the problems; a directory is never continued
                   with others
    results.jsonl  one line a problem and method, with every chain, step, score and cut
    summary.json   accuracy and cost of each method, and what the engine did, in all calls
                   together but those that were killed
"""

import dataclasses
import json
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import tqdm

from leco_jax.datasets.registry import load_problems
from leco_jax.datasets.source_hash import problems_hash
from leco_jax.decoding.engine import Engine
from leco_jax.decoding.step_scorer import StepScorer
from leco_jax.decoding.tasks import run_tasks
from leco_jax.evaluation.figures import rounded
from leco_jax.evaluation.methods import METHODS, method_options
from leco_jax.evaluation.questions import PROMPTS, common_prefix, make_questions, without_prefix
from leco_jax.evaluation.summary import summarise
from leco_jax.models.loading import LoadedModel, load_model
from leco_jax.reasoning.chain_reader import ChainReader
from leco_jax.reasoning.question import Question
from leco_jax.scoring.presets import PRESETS
from leco_jax.storage.files import read_json, write_json
from leco_jax.storage.results_file import ResultsFile
from leco_jax.storage.workdir import claim, lock, refuse_other
from leco_jax.text.step_tables import step_tables

_log = logging.getLogger(__name__)


class Run(NamedTuple):
    """What a run came to.

    Attributes:
        summary: the lines of the table.
        left: results that are still missing.
    """

    summary: list[dict]
    left: int


def run_experiment(config: Any, workdir: Path, *, stop: Callable[[], bool] = lambda: False) -> Run:
    """Runs every method on every problem that has no result yet.

    Args:
        config: see `evaluation.experiment_config`, which names every field.
        workdir: where results go; a run that was interrupted goes on where it was.
        stop: asked before every chunk of tokens; true ends the run, to be continued later.

    Raises:
        ValueError: a config that says something impossible, a work directory of another one, or one
            in which another process writes.
    """
    with lock(workdir):
        return _run(config, workdir, stop)


def _run(config: Any, workdir: Path, stop: Callable[[], bool]) -> Run:
    _check(config)
    options = {method: method_options(method, config) for method in config.methods}
    problems = load_problems(
        config.data.name, split=config.data.split, data_dir=config.data.dir or None,
        limit=config.data.limit or None,
    )  # fmt: skip
    own = json.loads(config.to_json())
    own["data"]["problems_sha256"] = problems_hash(problems)
    refuse_other(workdir, own)  # before the model is loaded, which may take long
    # The engine takes the layers over as they are: no weight is held twice.
    model = load_model(config.model.name, dtype=config.model.dtype, unstacked=True)
    questions = make_questions(problems, model.tokenizer, config)
    prefix = common_prefix([q.request.prompt for q in questions])
    reader = ChainReader(model.tokenizer, PRESETS[config.leco.preset])
    engine = make_engine(model, config, questions, prefix, reader, options)
    claim(workdir, own)
    results = ResultsFile(workdir / "results.jsonl", key=lambda row: (row["id"], row["method"]))
    begun = bool(results.rows)
    order = [(q.id, method) for q in questions for method in config.methods]
    todo = [key for key in order if key not in results]
    if len(todo) < len(order):
        _log.info("%d of %d results are there already", len(order) - len(todo), len(order))

    by_id = {q.id: without_prefix(q, len(prefix)) for q in questions}
    tasks = (
        ((name, method), METHODS[method].task(engine, reader, by_id[name], options[method]))
        for name, method in todo
    )
    started = time.monotonic()
    with tqdm.tqdm(total=len(order), initial=len(order) - len(todo), unit="result") as bar:
        for (name, method), result, error in run_tasks(engine, tasks, stop=stop):
            row = {"id": name, "method": method}
            if result is not None:
                row = dataclasses.asdict(result)
                row["rounds"] = rounded(row["rounds"])
            results.append(row | {"error": None if error is None else _message(error)})
            if error is not None:
                _log.warning("%s, %s: %s", name, method, _message(error))
            rate = engine.counters.sampled / (time.monotonic() - started)
            bar.set_postfix_str(f"{rate:.0f} tokens/s")
            bar.update()
    results.close(order=order)
    summary = summarise(results.rows.values())
    path = workdir / "summary.json"
    if todo or not path.exists():
        cost = {
            "seconds": time.monotonic() - started,
            "tokens": dataclasses.asdict(engine.counters),
        }
        earlier = read_json(path) if begun and path.exists() else {}
        write_json(path, {"methods": summary} | _together(earlier, cost))
    return Run(summary, left=sum(key not in results for key in order))


def _message(error: Exception) -> str:
    return str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"


def _together(earlier: dict, cost: dict) -> dict:
    """Adds the cost of one call to that of those before it."""
    return {
        name: _together(earlier.get(name, {}), value)
        if isinstance(value, dict)
        else earlier.get(name, 0) + value
        for name, value in cost.items()
    }


def make_engine(
    model: LoadedModel,
    config: Any,
    questions: list[Question],
    prefix: tuple[int, ...],
    reader: ChainReader,
    options: dict[str, Any],
) -> Engine:
    """Makes an engine whose rows hold the longest prompt and all passes of a chain.

    As far as the model's positions go: what needs more than `max_positions` is refused.

    Args:
        model: what answers.
        config: an experiment's; `generation` and `engine` are read.
        questions: with their whole prompts.
        prefix: what all prompts begin with.
        reader: of the chains; its preset's figures are captured.
        options: those of each method that will run.
    """
    methods = [(METHODS[name], own) for name, own in options.items()]
    longest = max((len(q.request.prompt) - len(prefix) for q in questions), default=1)
    passes = max(method.passes(own) for method, own in methods)
    need = longest + passes * (config.generation.max_new_tokens + 64)
    stats = dict.fromkeys(reader.preset.stats)
    for method, own in methods:
        stats |= dict.fromkeys(method.stats(own))
    scorer = None
    if any(method.watches_steps(own) for method, own in methods):
        tables = step_tables(model.tokenizer, size=model.config.vocab_size)
        scorer = StepScorer(tables, reader.preset)
    return Engine(
        model.config,
        model.params,
        slots=config.engine.slots,
        chunk=config.engine.chunk,
        max_length=max(min(need, model.config.max_positions - len(prefix)), 2),
        prefix=prefix,
        stats=tuple(stats),
        topk=reader.preset.topk,
        stop_ids=model.tokenizer.eos_ids,
        token_bytes=model.tokenizer.token_bytes,
        capture=config.engine.capture,
        step_scorer=scorer,
    )


def _check(config: Any) -> None:
    for name, value, known in (
        ("prompt", config.prompt, PROMPTS),
        ("leco.preset", config.leco.preset, PRESETS),
        ("engine.capture", config.engine.capture, ("raw", "processed")),
    ):
        if value not in known:
            raise ValueError(f"config.{name}={value!r} is none of {', '.join(known)}.")
    if not config.methods:
        raise ValueError(f"config.methods is empty: name some of {', '.join(METHODS)}.")
    if len(set(config.methods)) < len(config.methods):
        raise ValueError(f"config.methods={config.methods!r} names one of them twice.")
