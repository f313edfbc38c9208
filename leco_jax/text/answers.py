"""Kinds of answers: how one is read from a response, when two are equal, how one is written."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from leco_jax.text.number_answers import extract_number, format_number, read_gold_number


@dataclasses.dataclass(frozen=True, kw_only=True)
class AnswerKind:
    """One kind of answer."""

    name: str  # what data sets and configs call it
    # the answer of a response, None where there is none; never raises
    extract: Callable[[str], Any]
    # the value of a data set's answer, None where the text is not wholly one answer
    read_gold: Callable[[str], Any]
    equal: Callable[[Any, Any], bool]  # whether two answers (neither None) are the same
    format: Callable[[Any], str]  # the answer as text for result files


ANSWER_KINDS: dict[str, AnswerKind] = {}


def register_answer_kind(kind: AnswerKind) -> AnswerKind:
    """Adds a kind of answers under its name; a name is given once."""
    if kind.name in ANSWER_KINDS:
        raise ValueError(f"there is an answer kind {kind.name!r} already")
    ANSWER_KINDS[kind.name] = kind
    return kind


def answer_kind(name: str) -> AnswerKind:
    """Returns a kind of answers by name."""
    if name not in ANSWER_KINDS:
        raise ValueError(f"no answer kind {name!r}; known are {sorted(ANSWER_KINDS)}")
    return ANSWER_KINDS[name]


def extract_answer(text: str, *, kind: str = "number") -> Any:
    """Returns the answer of a response as a value of its kind, or None where there is none."""
    return answer_kind(kind).extract(text)


def answers_equal(a: Any, b: Any, *, kind: str = "number") -> bool:
    """Says whether two answers are the same; None (no answer) equals nothing, not even None."""
    return a is not None and b is not None and bool(answer_kind(kind).equal(a, b))


def format_answer(answer: Any, *, kind: str = "number") -> str | None:
    """Returns an answer as text, None for None."""
    return None if answer is None else answer_kind(kind).format(answer)


register_answer_kind(
    AnswerKind(
        name="number",
        extract=extract_number,
        read_gold=read_gold_number,
        equal=lambda a, b: a == b,
        format=format_number,
    )
)
