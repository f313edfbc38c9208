"""A problem made ready for a model: its prompt in tokens, and what a right answer is."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

from leco_jax.decoding.request import Request
from leco_jax.reasoning.result import Result, Round
from leco_jax.text.answers import answers_equal, format_answer


@dataclasses.dataclass(frozen=True, kw_only=True)
class Question:
    """One problem.

    Attributes:
        id: the problem's name in its data set.
        request: prompt, length, sampling and random numbers of a first pass.
        gold: the right answer as a value of its kind, or None where it is unknown.
        kind: kind of the answer, a name of `leco_jax.text.answers`.
    """

    id: str
    request: Request
    gold: Any
    kind: str = "number"

    @property
    def equal(self) -> Callable[[Any, Any], bool]:
        """Equality of two answers; None equals nothing."""
        return functools.partial(answers_equal, kind=self.kind)

    def result(
        self,
        *,
        method: str,
        answers: Sequence[Any],
        answer: Any,
        stopped: str,
        rounds: Sequence[Round],
        independent: bool,
        settings: dict,
    ) -> Result:
        """Writes a method's final answer down, beside the answers of all its whole passes."""
        return Result(
            id=self.id,
            method=method,
            answer=format_answer(answer, kind=self.kind),
            gold=format_answer(self.gold, kind=self.kind),
            correct=None if self.gold is None else self.equal(answer, self.gold),
            first_correct=None if self.gold is None else self.equal(answers[0], self.gold),
            stopped=stopped,
            rounds=list(rounds),
            independent=independent,
            settings=settings | {"seed": self.request.seed, "sample": self.request.sample},
        )
