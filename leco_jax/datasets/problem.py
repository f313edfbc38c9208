"""The one form in which every data set gives its problems."""

from __future__ import annotations

import dataclasses
from typing import Any


@dataclasses.dataclass(frozen=True, kw_only=True)
class Problem:
    """A question with its gold answer.

    Attributes:
      id: unique over data sets and splits, the same in every run: "gsm8k/test/12".
      question: the text of the question.
      answer: the gold answer as a value of its kind (numbers: an exact `Fraction`).
      gold: the gold answer as the data set writes it.
      kind: the kind of answer, a name in `leco_jax.text.answers.ANSWER_KINDS`.
      solution: the data set's worked solution, None where it has none.
    """

    id: str
    question: str
    answer: Any
    gold: str
    kind: str = "number"
    solution: str | None = None
