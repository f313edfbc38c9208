"""A whole run: problems, model and methods of a config, from questions to a table.

Everything that a run writes lies in its work directory:

    config.json    the config, and a hash of the problems; a directory is never continued with
                   another one
    results.jsonl  one line a problem and method, with every chain, step, score and cut
    summary.json   accuracy and cost of each method, and what the engine did, over all calls except
                   those that were killed; date, command, commit and device of the last one
"""

import dataclasses
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from leco_jax.configuration import as_json, build
from leco_jax.datasets.problem import Problem, problems_hash
from leco_jax.decoding.engine import Engine
from leco_jax.decoding.tasks import run_tasks
from leco_jax.evaluation.experiment_config import METHODS, ExperimentConfig
from leco_jax.evaluation.provenance import provenance
from leco_jax.evaluation.questions import common_prefix, make_questions, without_prefix
from leco_jax.evaluation.summary import summarise
from leco_jax.models.loading import LoadedModel, load_model
from leco_jax.progress import progress_bar
from leco_jax.reasoning.chain_reader import ChainReader, rounded
from leco_jax.reasoning.question import Question, Result
from leco_jax.scoring.presets import StepPreset
from leco_jax.storage.files import read_json, write_json
from leco_jax.storage.results_file import ResultsFile
from leco_jax.storage.workdir import claim, lock, refuse_other

_log = logging.getLogger(__name__)
_APPENDED = 64  # tokens that a policy may put before a pass


class Run(NamedTuple):
    """What a run came to.

    Attributes:
      summary: the lines of the table.
      left: results that are still missing.
      failures: "ID, METHOD: MESSAGE" of each result that is an error.
    """

    summary: list[dict]
    left: int
    failures: list[str]


def run_experiment(
    config: Any,
    workdir: Path,
    *,
    stop: Callable[[], bool] = lambda: False,
) -> Run:
    """Runs every method on every problem that has no result yet.

    Args:
      config: an `ExperimentConfig`, or what `experiment_config` gives.
      workdir: where results go; a run that was interrupted goes on where it was.
      stop: asked before every chunk of tokens; true ends the run, to be continued later.

    Raises:
      ValueError: a config that says something impossible, a work directory of another one, or one
        in which another process writes.
    """
    with lock(workdir):
        return _run(build(ExperimentConfig, config), workdir, stop)


def _run(config: ExperimentConfig, workdir: Path, stop: Callable[[], bool]) -> Run:
    data = config.data
    problems = data.load(data.name, split=data.split, limit=data.limit)
    own = as_json(config)
    own["data"]["problems_sha256"] = problems_hash(problems)
    refuse_other(workdir, own)  # before the model is loaded, which may take long
    # The engine takes the layers over as they are: no weight is held twice.
    model = load_model(config.model.name, dtype=config.model.dtype, unstacked=True)
    questions = make_questions(problems, model.tokenizer, config)
    prefix = common_prefix([q.request.prompt for q in questions])
    preset = config.leco.step_preset
    readers = {method: _reader(model, config, method) for method in config.methods}
    engine = make_engine(model, config, questions, prefix, preset)
    claim(workdir, own)
    results = ResultsFile(workdir / "results.jsonl", key=lambda row: (row["id"], row["method"]))
    continued = bool(results.rows)
    order = [(q.id, method) for q in questions for method in config.methods]
    todo = [key for key in order if key not in results]
    if len(todo) < len(order):
        _log.info("%d of %d results are there already", len(order) - len(todo), len(order))

    by_id = {q.id: without_prefix(q, len(prefix)) for q in questions}
    tasks = (
        ((name, m), METHODS[m](engine, readers[m], by_id[name], config.options(m)))
        for name, m in todo
    )
    started = time.monotonic()
    with progress_bar(total=len(order), initial=len(order) - len(todo), unit="result") as bar:
        for (name, method), result, error in run_tasks(engine, tasks, stop=stop):
            if result is None:
                row = by_id[name].failure(method, error)
                _log.warning("%s, %s: %s", name, method, row["error"])
            else:
                row = dataclasses.asdict(result) | {"method": method, "error": None}
                row["rounds"] = rounded(row["rounds"])
            results.append(row)
            rate = engine.counters.sampled / (time.monotonic() - started)
            bar.set_postfix_str(f"{rate:.0f} tokens/s", refresh=False)
            bar.update()
    results.close(order=order)
    rows = list(results.rows.values())
    summary = summarise(rows)
    path = workdir / "summary.json"
    if todo or not path.exists():
        cost = {
            "seconds": time.monotonic() - started,
            "tokens": dataclasses.asdict(engine.counters),
        }
        earlier = read_json(path) if continued and path.exists() else {}
        made: dict = {"methods": summary, "made": provenance()}
        write_json(path, made | _together(earlier, cost))
    failures = [f"{r['id']}, {r['method']}: {r['error']}" for r in rows if r["error"] is not None]
    return Run(summary, left=sum(key not in results for key in order), failures=failures)


def _together(earlier: dict, cost: dict) -> dict:
    """Adds the cost of one call to that of those before it."""
    return {
        name: _together(earlier.get(name, {}), value)
        if isinstance(value, dict)
        else earlier.get(name, 0) + value
        for name, value in cost.items()
    }


def answer(
    model: LoadedModel,
    question: str,
    *,
    method: str = "leco",
    config: ExperimentConfig | None = None,
) -> Result:
    """Answers one question of one's own; many of them are a run (`run_experiment`).

    Args:
      model: what answers (`load_model`).
      question: its text.
      method: a name in `METHODS`.
      config: its prompt, `generation`, `engine`, and the method's options are read;
        None: the defaults.

    Returns:
      The answer with every round: text, steps, scores and cuts. Nothing is graded.

    Raises:
      ValueError: no such method, or the prompt does not fit the model.
    """
    config = dataclasses.replace(config or ExperimentConfig(), methods=(method,))
    preset = config.leco.step_preset
    questions = make_questions(
        [Problem(id="own", question=question, answer=None, gold="")], model.tokenizer, config
    )
    engine = make_engine(model, config, questions, (), preset)
    reader = _reader(model, config, method)
    task = METHODS[method](engine, reader, questions[0], config.options(method))
    ((_, result, error),) = run_tasks(engine, [(method, task)])
    if result is None:
        raise error or RuntimeError("the task was stopped")
    return result


def _reader(model: LoadedModel, config: ExperimentConfig, method: str) -> ChainReader:
    """What reads a method's chains; they store the statistics that it, or the config, asks for."""
    own = config.options(method).stored
    asked = config.engine.stats if method in (config.engine.stats_of or config.methods) else ()
    return ChainReader(
        model.tokenizer,
        config.leco.step_preset,
        config.generation.truncated,
        stored=tuple(dict.fromkeys([*own, *asked])),
    )


def make_engine(
    model: LoadedModel,
    config: ExperimentConfig,
    questions: list[Question],
    prefix: tuple[int, ...],
    preset: StepPreset,
) -> Engine:
    """Makes an engine whose rows hold the longest prompt and all passes of a chain.

    Where the model has too few positions for that, they have as many as there are; a request that
    needs more is refused.

    Args:
      model: what answers.
      config: `methods` and their options, `generation` and `engine` are read.
      questions: with their whole prompts.
      prefix: what all prompts begin with.
      preset: of the step scores; its statistics are captured.
    """
    options = [config.options(method) for method in config.methods]
    longest = max((len(q.request.prompt) - len(prefix) for q in questions), default=1)
    passes = max(own.passes for own in options)
    need = longest + passes * (config.generation.max_new_tokens + _APPENDED)
    return Engine(
        model.model,
        slots=config.engine.slots,
        chunk=config.engine.chunk,
        max_length=max(min(need, model.config.max_positions - len(prefix)), 2),
        prefix=prefix,
        stats=tuple(
            dict.fromkeys(
                [
                    *preset.stats,
                    *(name for own in options for name in own.stats),
                    *config.engine.stats,
                ]
            )
        ),
        topk=preset.topk,
        stop_ids=model.tokenizer.eos_ids,
        token_bytes=model.tokenizer.token_bytes,
        capture=config.engine.capture,
    )
