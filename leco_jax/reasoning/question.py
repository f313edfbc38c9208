"""What a method is given for one problem, what it asks of the engine, and what it hands back."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

from leco_jax.decoding.request import Request
from leco_jax.reasoning.chain_reader import Round
from leco_jax.text.answers import answers_equal, format_answer


@dataclasses.dataclass(frozen=True, kw_only=True)
class MethodConfig:
    """Base of the methods' options: what a method asks of the engine.

    Attributes:
      passes: most passes that one chain takes, one after another.
      stats: statistics that have to be captured, beside those of the step scores.
      stored: those of them that its rounds have to keep.
      signal: what it looks at: "model" (the model's own tokens and confidence), "checks" (also
        what the text claims, without gold) or "tool" (the text is put right for the model).
    """

    @property
    def passes(self) -> int:
        return 1

    @property
    def stats(self) -> tuple[str, ...]:
        return ()

    @property
    def stored(self) -> tuple[str, ...]:
        return ()

    @property
    def signal(self) -> str:
        return "model"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cost:
    """What an answer took, counted alike for every method.

    Attributes:
      calls: chains begun or taken up again.
      rounds: of these the most that had to come one after another.
      prefilled: tokens of the prompt, without what all questions share; a method's chains share it.
      appended: tokens that the method put into chains.
      sampled: tokens that the model wrote.
      kept: tokens that a call took over from the one before it.
    """

    calls: int
    rounds: int
    prefilled: int
    appended: int
    sampled: int
    kept: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Result:
    """A method's answer to a problem and how it came about; `asdict` of it is a results line.

    Attributes:
      id: the problem's.
      method: the method's name.
      question: the problem's text.
      answer: the final answer as text, or None.
      gold: the right answer as text, or None where the data set has none.
      correct: whether they are equal; None without gold.
      first_correct: the same of the first whole pass's answer.
      stopped: why the method stopped: "converged", "rounds" (no rethink was left),
        "no_candidate", "hook", "single" (it has one pass), "samples" (all are there), "forks" (none
        is left), "settled" (no fork can change the answer), "passed" (a gate let a chain pass),
        "stable" (no further sample is likely to change the majority), "budget" (another round would
        not fit into it), "branches" (all are there) or "no_room" (the engine has no more slots).
      rounds: every pass, or every sample.
      independent: whether no round goes on from another one.
      signal: what the method looks at, see `MethodConfig`.
      settings: its options, seed and policy included.
      cost: what it took.
    """

    id: str
    method: str
    question: str
    answer: str | None
    gold: str | None
    correct: bool | None
    first_correct: bool | None
    stopped: str
    rounds: list[Round]
    independent: bool
    signal: str
    settings: dict
    cost: Cost


@dataclasses.dataclass(frozen=True, kw_only=True)
class Question:
    """One problem, made ready for a model.

    Attributes:
      id: the problem's name in its data set.
      request: prompt in tokens, length, sampling and random numbers of a first pass.
      gold: the right answer as a value of its kind, or None where it is unknown.
      kind: the kind of the answer, a name of `leco_jax.text.answers`.
      text: the problem's text, for the results.
    """

    id: str
    request: Request
    gold: Any
    kind: str = "number"
    text: str = ""

    @property
    def equal(self) -> Callable[[Any, Any], bool]:
        """Equality of two answers; None equals nothing."""
        return functools.partial(answers_equal, kind=self.kind)

    def failure(self, method: str, error: Exception | None) -> dict:
        """The results line of a method that failed on it: counted as wrong where gold is known."""
        return {
            "id": self.id,
            "method": method,
            "question": self.text,
            "gold": format_answer(self.gold, kind=self.kind),
            "correct": None if self.gold is None else False,
            "error": str(error)
            if isinstance(error, ValueError)
            else f"{type(error).__name__}: {error}",
        }

    def result(
        self,
        *,
        answers: Sequence[Any],
        answer: Any,
        config: "MethodConfig",
        rounds: list[Round],
        in_sequence: int | None = None,
        **fields: Any,
    ) -> Result:
        """Makes a method's result.

        Args:
          answers: of all its whole passes.
          answer: the final one.
          config: the method's options.
          rounds: every pass or sample.
          in_sequence: how many of them came one after another; default: all.
          **fields: the other fields of `Result`.
        """
        return Result(
            id=self.id,
            question=self.text,
            answer=format_answer(answer, kind=self.kind),
            gold=format_answer(self.gold, kind=self.kind),
            correct=None if self.gold is None else self.equal(answer, self.gold),
            first_correct=None if self.gold is None else self.equal(answers[0], self.gold),
            signal=config.signal,
            settings=dataclasses.asdict(config)
            | {"seed": self.request.seed, "sample": self.request.sample},
            rounds=rounds,
            cost=Cost(
                calls=len(rounds),
                rounds=len(rounds) if in_sequence is None else in_sequence,
                prefilled=len(self.request.prompt),
                appended=sum(each.appended for each in rounds),
                sampled=sum(each.sampled for each in rounds),
                kept=sum(each.kept for each in rounds),
            ),
            **fields,
        )
