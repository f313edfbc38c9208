"""A whole run: problems, model and methods of a config, from questions to a table.

Everything that a run writes lies in its work directory:

    config.json    the config, and a hash of the problems; a directory is never continued with
                   another one
    results.jsonl  one line a problem and method, with every chain, step, score and cut
    summary.json   accuracy and cost of each method, and what the engines did, over all calls except
                   those that were killed; date, command, commit and device of the last one

Several processes write results.partN.jsonl each; process 0 joins them at the end, or when the next
run begins.
"""

import contextlib
import dataclasses
import functools
import itertools
import logging
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from jax.sharding import Mesh

from leco_jax.configuration import as_json, build
from leco_jax.datasets.problem import Problem, problems_hash
from leco_jax.decoding.engine import Engine
from leco_jax.decoding.tasks import run_tasks, run_units
from leco_jax.evaluation.experiment_config import METHODS, ExperimentConfig
from leco_jax.evaluation.processes import ONE, Processes, same_everywhere
from leco_jax.evaluation.provenance import provenance
from leco_jax.evaluation.questions import common_prefix, make_questions, without_prefix
from leco_jax.evaluation.shared_results import SharedResults
from leco_jax.evaluation.summary import summarise
from leco_jax.models.loading import LoadedModel, load_model
from leco_jax.progress import progress_bar
from leco_jax.reasoning.chain_reader import ChainReader, rounded
from leco_jax.reasoning.question import Question, Result
from leco_jax.scoring.presets import StepPreset
from leco_jax.storage.files import read_json, write_json
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
    processes: Processes = ONE,
) -> Run:
    """Runs every method on every problem that has no result yet.

    Args:
      config: an `ExperimentConfig`, or what `experiment_config` gives.
      workdir: where results go; a run that was interrupted goes on where it was.
      stop: asked before every chunk of tokens; true ends the run, to be continued later.
      processes: those that share the problems, each with a call of its own.

    Returns:
      The same on every process.

    Raises:
      ValueError: a config that says something impossible, a work directory of another one, one
        in which another run writes, or processes that do not agree.
    """
    with lock(workdir) if processes.lead else contextlib.nullcontext():
        return _run(build(ExperimentConfig, config), workdir, processes.stop(stop), processes)


def _run(
    config: ExperimentConfig, workdir: Path, stop: Callable[[], bool], processes: Processes
) -> Run:
    data = config.data
    problems = data.load(data.name, split=data.split, limit=data.limit)
    own = as_json(config)
    own["data"]["problems_sha256"] = problems_hash(problems)
    same_everywhere(processes, "config", own)
    del own["mesh"]  # says where, not what: a run may go on with another one
    if processes.lead:
        refuse_other(workdir, own)  # before the model is loaded, which may take long
    meshes = processes.meshes(config.mesh.tensor)

    source = config.model
    # The engine takes the layers over as they are: no weight is held twice.
    model = load_model(source.name, dtype=source.dtype, unstacked=True, mesh=meshes[0])
    questions = make_questions(problems, model.tokenizer, config)
    prefix = common_prefix([q.request.prompt for q in questions])
    preset = config.leco.step_preset
    readers = {method: _reader(model, config, method) for method in config.methods}
    engines = [make_engine(model, config, questions, prefix, preset, mesh=meshes[0])]

    def replicas() -> Iterator[Engine]:
        yield engines[0]
        for mesh in meshes[1:]:
            copy = model.on(mesh)
            engines.append(make_engine(copy, config, questions, prefix, preset, mesh=mesh))
            yield engines[-1]

    if processes.lead:
        claim(workdir, own)
    order = [(q.id, method) for q in questions for method in config.methods]
    results = SharedResults(
        workdir / "results.jsonl",
        key=lambda row: (row["id"], row["method"]),
        order=order,
        processes=processes,
    )
    there = len(order) - len(results.missing)
    if there:
        _log.info("%d of %d results are there already", there, len(order))

    by_id = {q.id: without_prefix(q, len(prefix)) for q in questions}
    # All that is missing of a question goes to one engine, which computes its prompt once.
    missing = [
        (by_id[name], [method for _, method in keys])
        for name, keys in itertools.groupby(results.missing, key=lambda key: key[0])
    ]

    def tasks(question: Question, methods: list[str], engine: Engine):
        for m in methods:
            task = METHODS[m](engine, readers[m], question, config.options(m))
            yield (question.id, m), task

    started = time.monotonic()
    with progress_bar(
        total=None if processes.shared else len(order), initial=there, unit="result"
    ) as bar:
        for (name, method), result, error in run_units(
            replicas(),
            (functools.partial(tasks, *missing[i]) for i in processes.take(len(missing))),
            # One engine alone may begin tasks early; others would have to wait for them.
            ahead=0 if processes.shared or len(meshes) > 1 else config.engine.slots,
            stop=stop,
        ):
            if result is None:
                row = by_id[name].failure(method, error)
                _log.warning("%s, %s: %s", name, method, row["error"])
            else:
                row = dataclasses.asdict(result) | {"method": method, "error": None}
                row["rounds"] = rounded(row["rounds"])
            results.append(row)
            sampled = sum(engine.counters.sampled for engine in engines)
            rate = sampled / (time.monotonic() - started)
            bar.set_postfix_str(f"{rate:.0f} tokens/s", refresh=False)
            bar.update()
    by_key, reports = results.close([dataclasses.asdict(engine.counters) for engine in engines])
    run: Run | None = None
    if processes.lead:
        rows = list(by_key.values())
        summary = summarise(rows)
        path = workdir / "summary.json"
        if results.missing or not path.exists():
            tokens = functools.reduce(_together, itertools.chain(*reports))
            cost = {"seconds": time.monotonic() - started, "tokens": tokens}
            earlier = read_json(path) if results.begun and path.exists() else {}
            made: dict = {"methods": summary, "made": provenance()}
            write_json(path, made | _together(earlier, cost))
        run = Run(
            summary,
            left=sum(key not in by_key for key in order),
            failures=[
                f"{r['id']}, {r['method']}: {r['error']}" for r in rows if r["error"] is not None
            ],
        )
    return Run(*processes.exchange(run)[0])


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
    *,
    mesh: Mesh | None = None,
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
      mesh: where the model's weights lie; None: the default device.
    """
    longest = max((len(q.request.prompt) - len(prefix) for q in questions), default=1)
    room = model.config.max_positions - len(prefix)
    return Engine(
        model.model,
        prefix=prefix,
        stop_ids=model.tokenizer.eos_ids,
        token_bytes=model.tokenizer.token_bytes,
        mesh=mesh,
        **engine_options(config, preset, longest=longest, room=room),
    )


def engine_options(
    config: ExperimentConfig, preset: StepPreset, *, longest: int, room: int
) -> dict[str, Any]:
    """What of a config `Engine` takes.

    `longest` is the number of tokens of the longest prompt, `room` that of the positions that the
    model has for a row, both without the shared prefix.
    """
    options = [config.options(method) for method in config.methods]
    passes = max(own.passes for own in options)
    need = longest + passes * (config.generation.max_new_tokens + _APPENDED)
    stats = [*preset.stats, *(name for own in options for name in own.stats), *config.engine.stats]
    return {
        "slots": config.engine.slots,
        "chunk": config.engine.chunk,
        "max_length": max(min(need, room), 2),
        "stats": tuple(dict.fromkeys(stats)),
        "topk": preset.topk,
        "capture": config.engine.capture,
    }
