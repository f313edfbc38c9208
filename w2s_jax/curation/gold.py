"""Answers held to gold where gold is known; no selection looks at it."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterable
from typing import Any

from leco_jax.text.answers import answers_equal, extract_answer, format_answer
from w2s_jax.curation.answer_rows import Answer


@dataclasses.dataclass(frozen=True)
class Share:
    """How many of those with a gold answer are right.

    Attributes:
      correct: right ones.
      known: those whose gold answer is known.
    """

    correct: int
    known: int

    @property
    def value(self) -> float | None:
        """The share in 0..1, None where no gold is known."""
        return self.correct / self.known if self.known else None

    def __str__(self) -> str:
        return f"{self.correct / self.known:.2%} of {self.known}" if self.known else "gold unknown"


def gold_value(answers: Iterable[Answer], *, kind: str = "number") -> Any:
    """The gold answer that answers to one question carry, None where none does.

    Raises:
      ValueError: they carry different ones.
    """
    found: Any = None
    for answer in answers:
        if answer.gold is None:
            continue
        value = _read(answer.gold, kind)
        if found is None:
            found = value
        elif not answers_equal(found, value, kind=kind):
            raise ValueError(
                f"id {answer.id!r} has two gold answers, {format_answer(found, kind=kind)} and "
                f"{answer.gold}: one of the files is wrong."
            )
    return found


def share_correct(pairs: Iterable[tuple[Any, Any]], *, kind: str = "number") -> Share:
    """Counts right answers among (value, gold value); those without gold are left out."""
    graded = [answers_equal(value, gold, kind=kind) for value, gold in pairs if gold is not None]
    return Share(sum(graded), len(graded))


@functools.lru_cache(maxsize=1 << 16)
def _read(gold: str, kind: str) -> Any:
    # The samples of a question all carry the same text.
    return extract_answer(gold, kind=kind)
