"""A whole run: problems, model and methods of a config, from questions to a table.

Everything that a run writes lies in its work directory:

    config.json    the configuration; a directory is never continued with another one
    results.jsonl  one line a problem and method, with every chain, step, score and cut
    summary.json   accuracy and cost of each method, and what the engine did
"""

import dataclasses
import json
import logging
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import tqdm

from leco_jax.datasets.problem import Problem
from leco_jax.datasets.registry import load_problems
from leco_jax.decoding.engine import Engine
from leco_jax.decoding.request import Request, Sampling
from leco_jax.decoding.step_scorer import StepScorer
from leco_jax.decoding.tasks import Task, run_tasks
from leco_jax.evaluation.results_file import ResultsFile
from leco_jax.evaluation.summary import summarise
from leco_jax.evaluation.workdir import claim, write_json
from leco_jax.models.loading import LoadedModel, load_model
from leco_jax.reasoning.chain_reader import ChainReader
from leco_jax.reasoning.cot import chain_of_thought
from leco_jax.reasoning.leco import LecoConfig, leco
from leco_jax.reasoning.question import Question
from leco_jax.scoring.presets import PRESETS
from leco_jax.text import prompts
from leco_jax.text.chat import encode_chat
from leco_jax.text.step_tables import step_tables
from leco_jax.text.tokenizer import Tokenizer

_log = logging.getLogger(__name__)

METHODS = ("cot", "leco")
PROMPTS = ("chat", "few_shot")


def run_experiment(
    config: Any, workdir: Path, *, stop: Callable[[], bool] = lambda: False
) -> list[dict]:
    """Runs every method on every problem that has no result yet.

    Args:
        config: see `configs/leco_smollm2.py`, which names every field.
        workdir: where results go; a run that was interrupted goes on where it was.
        stop: asked between results; true ends the run, to be continued later.

    Returns:
        The lines of the summary.

    Raises:
        ValueError: a config that says something impossible, or a work directory of another one.
    """
    _check(config)
    claim(workdir, json.loads(config.to_json()))
    problems = load_problems(
        config.data.name, split=config.data.split, data_dir=config.data.dir or None,
        limit=config.data.limit or None,
    )  # fmt: skip
    model = load_model(config.model.name, dtype=config.model.dtype)
    questions = make_questions(problems, model.tokenizer, config)
    prefix = common_prefix([q.request.prompt for q in questions])
    reader = ChainReader(model.tokenizer, PRESETS[config.leco.preset])
    engine = make_engine(model, config, questions, prefix, reader)
    results = ResultsFile(workdir / "results.jsonl", key=lambda row: (row["id"], row["method"]))
    order = [(q.id, method) for q in questions for method in config.methods]
    todo = [key for key in order if key not in results]
    if len(todo) < len(order):
        _log.info("%d of %d results are there already", len(order) - len(todo), len(order))

    by_id = {q.id: _without_prefix(q, len(prefix)) for q in questions}
    tasks = (
        ((name, method), _task(method, engine, reader, by_id[name], config))
        for name, method in todo
    )
    started = time.monotonic()
    with tqdm.tqdm(total=len(order), initial=len(order) - len(todo), unit="result") as bar:
        for (name, method), result, error in run_tasks(engine, tasks):
            row = {"id": name, "method": method} if result is None else dataclasses.asdict(result)
            results.append(row | {"error": None if error is None else str(error)})
            if error is not None:
                _log.warning("%s, %s: %s", name, method, error)
            rate = engine.counters.sampled / (time.monotonic() - started)
            bar.set_postfix_str(f"{rate:.0f} tokens/s")
            bar.update()
            if stop():
                break
    results.close(order=order)
    summary = summarise(results.rows.values())
    write_json(
        workdir / "summary.json",
        {
            "methods": summary,
            "seconds": time.monotonic() - started,
            "tokens": dataclasses.asdict(engine.counters),
        },
    )
    return summary


def make_questions(problems: list[Problem], tokenizer: Tokenizer, config: Any) -> list[Question]:
    """Writes the prompts of a data set."""
    prompt = _prompter(tokenizer, config.prompt)
    return [
        Question(
            id=problem.id,
            request=Request(
                prompt=tuple(prompt(problem.question)),
                max_new_tokens=config.generation.max_new_tokens,
                sampling=Sampling(
                    temperature=config.generation.temperature,
                    top_k=config.generation.top_k,
                    top_p=config.generation.top_p,
                ),
                seed=config.seed,
                problem=zlib.crc32(problem.id.encode()),
                stop=(prompts.FEW_SHOT_STOP,) if config.prompt == "few_shot" else (),
            ),
            gold=problem.answer,
            kind=problem.kind,
        )
        for problem in problems
    ]


def make_engine(
    model: LoadedModel,
    config: Any,
    questions: list[Question],
    prefix: tuple[int, ...],
    reader: ChainReader,
) -> Engine:
    """Makes an engine whose rows can hold the longest prompt and all of its rounds."""
    longest = max((len(q.request.prompt) - len(prefix) for q in questions), default=1)
    rounds = 1 + config.leco.max_rethinks
    return Engine(
        model.config,
        model.params,
        slots=config.engine.slots,
        chunk=config.engine.chunk,
        max_length=longest + rounds * (config.generation.max_new_tokens + 64),
        prefix=prefix,
        stats=reader.preset.stats,
        topk=reader.preset.topk,
        stop_ids=model.tokenizer.eos_ids,
        token_bytes=model.tokenizer.token_bytes,
        step_scorer=StepScorer(
            step_tables(model.tokenizer, size=model.config.vocab_size), reader.preset
        ),
    )


def common_prefix(rows: list[tuple[int, ...]]) -> tuple[int, ...]:
    """The tokens that all prompts begin with, at least one left over for each."""
    if not rows:
        return ()
    first, last = min(rows), max(rows)  # the two that differ earliest
    shortest = min(map(len, rows)) - 1
    length = 0
    while length < shortest and first[length] == last[length]:
        length += 1
    return first[:length]


def _prompter(tokenizer: Tokenizer, kind: str) -> Callable[[str], list[int]]:
    if kind == "chat":
        return lambda question: encode_chat(tokenizer, prompts.chat_messages(question))
    examples = tokenizer.encode(prompts.few_shot_prefix(), add_bos=tokenizer.wants_bos)
    return lambda question: (
        examples + tokenizer.encode(prompts.few_shot_question(question), continuation=True)
    )


def _without_prefix(question: Question, length: int) -> Question:
    request = dataclasses.replace(question.request, prompt=question.request.prompt[length:])
    return dataclasses.replace(question, request=request)


def _task(
    method: str, engine: Engine, reader: ChainReader, question: Question, config: Any
) -> Task:
    if method == "cot":
        return chain_of_thought(engine, reader, question)
    return leco(engine, reader, question, leco_config(config))


def leco_config(config: Any) -> LecoConfig:
    """LeCo's options as the config gives them."""
    fields = {f.name for f in dataclasses.fields(LecoConfig)}
    return LecoConfig(**{k: v for k, v in config.leco.items() if k in fields})


def _check(config: Any) -> None:
    for name, value, known in (
        ("prompt", config.prompt, PROMPTS),
        ("leco.preset", config.leco.preset, tuple(PRESETS)),
        *(("methods", method, METHODS) for method in config.methods),
    ):
        if value not in known:
            raise ValueError(f"config.{name}={value!r} is none of {', '.join(known)}.")
    leco_config(config)
