"""Answers of a model to questions, one JSONL row a sample, going on where a killed run was."""

import dataclasses
import functools
import itertools
import math
import statistics
import zlib
from collections.abc import Callable, Generator, Iterator, Sequence
from pathlib import Path

from jax.sharding import Mesh

from leco_jax.configuration import at_least
from leco_jax.decoding.engine import Engine
from leco_jax.decoding.request import Chain, Request, Sampling
from leco_jax.decoding.tasks import run_units
from leco_jax.evaluation.processes import ONE, Processes
from leco_jax.evaluation.shared_results import SharedResults
from leco_jax.models.loading import LoadedModel
from leco_jax.progress import progress_bar
from leco_jax.reasoning.chain_reader import ChainReader, Round, rounded
from leco_jax.scoring.presets import PRESETS
from leco_jax.text.tokenizer import Tokenizer
from w2s_jax.pipeline.graph import Interrupted
from w2s_jax.training.data import fill_template, template_parts

_STATS = ("logprob", "self_certainty")


@dataclasses.dataclass(frozen=True, kw_only=True)
class GenerationConfig:
    """How answers are generated; all but their length changes only the time."""

    max_new_tokens: int = 512  # most tokens of an answer
    slots: int = 32  # rows that a replica of the model decodes together
    chunk: int = 16  # tokens decoded between two looks
    # devices that share each matrix of a replica; there are as many replicas as devices allow
    tensor: int = 1

    def __post_init__(self):
        at_least(self, max_new_tokens=1, slots=1, chunk=1)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sample:
    """Which answers to generate for each question."""

    number: int = 0  # the sample's number, in the rows and in the random numbers
    temperature: float = 0.0  # 0 is greedy


@dataclasses.dataclass(frozen=True)
class PromptLayout:
    """Writes prompts; worked examples stand before the question, with a blank line between."""

    template: str  # the prompt of one question, with {question}; filled as in training
    demonstrations: tuple[dict, ...] = ()  # rows with "question" and "response"

    def __post_init__(self):
        fields = {name for _, name in template_parts(self.template)} - {None}
        if fields != {"question"}:
            raise ValueError(
                f"the prompt {self.template!r} must hold {{question}} and no other field; it has "
                f"{', '.join(sorted(map(str, fields))) or 'none'}"
            )

    @property
    def stop(self) -> tuple[str, ...]:
        """Ends an answer: a base that has answered tends to go on with a question of its own."""
        head = ""
        for text, name in template_parts(self.template):
            head += text
            if name is not None:
                break
        return (f"\n{head.strip()}",) if head.strip() else ()

    def prefix(self, tokenizer: Tokenizer) -> tuple[int, ...]:
        """The tokens that all prompts begin with."""
        blocks = [self.block(d["question"]) + d["response"] + "\n" for d in self.demonstrations]
        text = "\n".join(blocks)
        return tuple(tokenizer.encode(text, add_bos=tokenizer.wants_bos)) if text else ()

    def rest(self, question: str, tokenizer: Tokenizer) -> tuple[int, ...]:
        """A question's tokens after the prefix: tokenised as in training, apart from answers."""
        if self.demonstrations:
            return tuple(tokenizer.encode("\n" + self.block(question), continuation=True))
        return tuple(tokenizer.encode(self.block(question), add_bos=tokenizer.wants_bos))

    def block(self, question: str) -> str:
        """The prompt of one question as text."""
        return fill_template(self.template, {"question": question})


def generate_answers(
    load: Callable[[Mesh], LoadedModel],
    questions: Sequence[dict],
    path: Path,
    *,
    model_name: str,
    layout: PromptLayout,
    samples: Sequence[Sample],
    config: GenerationConfig,
    kind: str,
    seed: int,
    stop: Callable[[], bool],
    processes: Processes = ONE,
) -> dict:
    """Writes answers into a file; those that are there already are kept.

    Several processes share the questions, each on replicas of its own.

    A row has "id", "question", "response", "model", "sample", "answer" (as text, None if none was
    found), "gold" where the question has it, "tokens", "finish" and, from the model's own
    distribution, "step_score" (mean of LeCo's scores over steps), "weakest_step" (their least),
    "self_certainty" and "mean_logprob" (means over tokens).

    Args:
      load: gives what answers, its weights on a mesh.
      questions: rows with "id", "question" and perhaps "gold".
      path: the JSONL file.
      model_name: provenance, written into every row.
      layout: how a question becomes a prompt.
      samples: which answers.
      config: length and batch.
      kind: of answers.
      seed: of the random numbers.
      stop: asked before every chunk of tokens; true raises `Interrupted` on all processes.
      processes: those that share the questions; each must call it.

    Returns:
      Counts, the same on every process: "questions", "answers", "tokens" sampled, and "unanswered".
    """
    first, *others = processes.meshes(config.tensor)
    model = load(first)
    tokenizer = model.tokenizer
    prefix = layout.prefix(tokenizer)
    prompts = {q["id"]: layout.rest(q["question"], tokenizer) for q in questions}
    longest = max(map(len, prompts.values())) + config.max_new_tokens

    def replicas() -> Iterator[Engine]:
        for mesh in (first, *others):
            yield Engine(
                (model if mesh is first else model.on(mesh)).model, slots=config.slots,
                chunk=config.chunk, prefix=prefix, max_length=longest, stats=_STATS,
                stop_ids=tokenizer.eos_ids, token_bytes=tokenizer.token_bytes, mesh=mesh,
            )  # fmt: skip

    reader = ChainReader(tokenizer, PRESETS["paper"])
    order = [(q["id"], s.number) for q in questions for s in samples]
    results = SharedResults(
        path, key=lambda row: (row["id"], row["sample"]), order=order, processes=processes
    )
    by_id, by_number = {q["id"]: q for q in questions}, {s.number: s for s in samples}
    # All that is missing of a question goes to one replica, which computes its prompt once.
    missing = [list(keys) for _, keys in itertools.groupby(results.missing, key=lambda key: key[0])]

    def task(engine: Engine, question: dict, sample: Sample) -> Generator[list[Chain], None, dict]:
        chain = engine.submit(
            Request(
                prompt=prompts[question["id"]], max_new_tokens=config.max_new_tokens,
                sampling=Sampling(temperature=sample.temperature), sample=sample.number,
                seed=seed, problem=zlib.crc32(question["id"].encode()), stop=layout.stop,
            )
        )  # fmt: skip
        yield [chain]
        return _row(reader.read(chain, kind=kind).round, chain, question)

    def tasks(keys: list[tuple[str, int]], engine: Engine):
        return ((key, task(engine, by_id[key[0]], by_number[key[1]])) for key in keys)

    with progress_bar(
        total=None if processes.shared else len(order),
        initial=len(order) - len(results.missing),
        unit="answer",
        label=model_name,
    ) as bar:
        for (name, number), row, error in run_units(
            replicas(),
            (functools.partial(tasks, missing[i]) for i in processes.take(len(missing))),
            # One replica alone may begin tasks early; others would have to wait for them.
            ahead=0 if processes.shared or others else config.slots,
            stop=stop,
        ):
            if row is None:
                raise ValueError(f"question {name}: {error}")
            results.append({"id": name, "model": model_name, "sample": number} | row)
            bar.update()
    rows, _ = results.close(None)
    counts = {
        "questions": len(questions),
        "answers": len(rows),
        "tokens": sum(row["tokens"] for row in rows.values()),
        "unanswered": sum(row["answer"] is None for row in rows.values()),
    }
    counts = processes.exchange(counts)[0]
    if counts["answers"] < len(order):
        raise Interrupted
    return counts


def _row(read: Round, chain: Chain, question: dict) -> dict:
    scores = [step.score for step in read.steps]
    row = {
        "question": question["question"],
        "response": read.text.strip(),
        "answer": read.answer,
        "tokens": read.sampled,
        "finish": read.finish,
        "step_score": _mean(scores),
        "weakest_step": min(scores, default=None),
        "self_certainty": _mean(chain.stats["self_certainty"]),
        "mean_logprob": _mean(chain.stats["logprob"]),
    }
    return rounded(row) | ({"gold": question["gold"]} if question.get("gold") is not None else {})


def _mean(values: Sequence[float]) -> float | None:
    mean = statistics.fmean(values) if len(values) else math.nan
    return mean if math.isfinite(mean) else None
