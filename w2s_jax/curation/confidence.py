"""How sure a model is of an answer: votes among several samples of one question."""

import dataclasses
import math
from collections.abc import Iterable, Sequence
from typing import Any

from leco_jax.reasoning.selection import tally
from leco_jax.text.answers import answers_equal, format_answer
from w2s_jax.curation.answer_rows import (
    Answer,
    Share,
    by_question,
    check_same_model,
    gold_value,
    share_correct,
)

VOTE_METHODS = ("count", "weighted", "cisc")
_NO_ANSWER = object()  # "unreadable" is a candidate like any answer


@dataclasses.dataclass(frozen=True, kw_only=True)
class Vote:
    """The outcome for one question."""

    answer: Any  # the value with the most votes; None if unreadable responses have them
    confidence: float  # its share of the votes, in 0..1
    supporters: tuple[Answer, ...]  # the samples that give it, in order
    others: tuple[Answer, ...]  # all the rest, in order


def vote(
    samples: Sequence[Answer],
    *,
    method: str = "count",
    kind: str = "number",
    temperature: float = 1.0,
) -> Vote:
    """Lets the samples of one question vote on its answer; ties go to the answer first seen.

    Args:
      samples: one model's answers to one question.
      method: what a sample's vote counts. "count": 1 (arXiv 2407.13647). "weighted": its
        `confidence` on a scale from the question's least (0) to its greatest (1); 1 where all are
        equal. "cisc": the softmax over the question's samples of confidence / temperature (arXiv
        2502.06233).
      kind: of answers.
      temperature: of "cisc", in the unit of the confidences; larger is closer to counting.

    Raises:
      ValueError: no samples, or of several questions; an unknown method; a missing confidence.
    """
    if not samples:
        raise ValueError("There are no samples to vote")
    if any(sample.id != samples[0].id for sample in samples):
        raise ValueError(f"The samples belong to several questions: {samples[0].id!r} and others")

    def equal(a: Any, b: Any) -> bool:
        return a is b is _NO_ANSWER or (
            a is not _NO_ANSWER and b is not _NO_ANSWER and answers_equal(a, b, kind=kind)
        )

    values = [_NO_ANSWER if sample.value is None else sample.value for sample in samples]
    weights = _vote_weights(samples, method=method, temperature=temperature)
    candidates = tally(values, equal, weights=weights)
    top = max(candidates, key=lambda candidate: candidate.weight)
    votes_for = [equal(top.answer, value) for value in values]
    return Vote(
        answer=None if top.answer is _NO_ANSWER else top.answer,
        confidence=min(top.weight / math.fsum(weights), 1.0),
        supporters=tuple(s for s, yes in zip(samples, votes_for, strict=True) if yes),
        others=tuple(s for s, yes in zip(samples, votes_for, strict=True) if not yes),
    )


def check_method(method: str) -> None:
    """Raises ValueError if there is no such vote."""
    if method not in VOTE_METHODS:
        raise ValueError(f"No vote {method!r}; there are {list(VOTE_METHODS)}")


def _vote_weights(samples: Sequence[Answer], *, method: str, temperature: float) -> list[float]:
    """What each sample's vote counts."""
    check_method(method)
    if method == "count":
        return [1.0] * len(samples)
    confidences = []
    for sample in samples:
        if sample.confidence is None:
            raise ValueError(
                f"id {sample.id!r}, sample {sample.sample}, has no 'confidence', which the vote "
                f"{method!r} needs; give every sample one, or vote by 'count'"
            )
        confidences.append(sample.confidence)
    least, greatest = min(confidences), max(confidences)
    if method == "weighted":
        span = greatest - least
        return [(c - least) / span if span else 1.0 for c in confidences]
    if not temperature > 0:
        raise ValueError(f"temperature={temperature} must be above 0")
    return [math.exp((c - greatest) / temperature) for c in confidences]


def vote_rows(
    samples: Iterable[Answer],
    *,
    threshold: float | None = None,
    method: str = "count",
    kind: str = "number",
    temperature: float = 1.0,
) -> list[dict[str, Any]]:
    """The `vote` on every question of one model's samples as a row.

    Rows have "id", "question", "answer" (None: most samples cannot be read), "confidence",
    "supporters" and "samples" (counts), "model", "correct" (None without gold). With a `threshold`
    empty top answers and those less sure are left out.

    Raises:
      ValueError: several models, or what `vote` refuses.
    """
    groups = by_question(samples)
    model = check_same_model((s for group in groups.values() for s in group), name="samples")
    rows = []
    for id_, group in groups.items():
        top = vote(group, method=method, kind=kind, temperature=temperature)
        gold = gold_value(group, kind=kind)
        if threshold is not None and (top.answer is None or top.confidence < threshold):
            continue
        rows.append(
            {
                "id": id_,
                "question": group[0].question,
                "answer": format_answer(top.answer, kind=kind),
                "confidence": top.confidence,
                "supporters": len(top.supporters),
                "samples": len(group),
                "model": model,
                "correct": None if gold is None else answers_equal(top.answer, gold, kind=kind),
            }
        )
    return rows


@dataclasses.dataclass(frozen=True, kw_only=True)
class VoteQuality:
    """How well one method's confidence tells right answers from wrong ones."""

    method: str  # of the vote
    questions: int  # all of them
    answered: int  # those whose top answer is not empty
    confident: int  # those of them whose confidence reaches the threshold
    accuracy: Share  # right top answers of all questions; an empty one is wrong
    precision: Share  # right top answers of the confident ones


def compare_votes(
    samples: Iterable[Answer],
    *,
    threshold: float,
    methods: Sequence[str] = VOTE_METHODS,
    kind: str = "number",
    temperature: float = 1.0,
) -> list[VoteQuality]:
    """Votes on the same samples by several methods; answers are used from `threshold` on."""
    groups = list(by_question(samples).values())
    gold = [gold_value(group, kind=kind) for group in groups]
    rows = []
    for method in methods:
        votes = [vote(g, method=method, kind=kind, temperature=temperature) for g in groups]
        outcomes = list(zip(votes, gold, strict=True))
        sure = [(v, g) for v, g in outcomes if v.answer is not None and v.confidence >= threshold]
        rows.append(
            VoteQuality(
                method=method,
                questions=len(votes),
                answered=sum(v.answer is not None for v in votes),
                confident=len(sure),
                accuracy=share_correct(((v.answer, g) for v, g in outcomes), kind=kind),
                precision=share_correct(((v.answer, g) for v, g in sure), kind=kind),
            )
        )
    return rows
