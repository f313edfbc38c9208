"""LeCo's three small rules: which step to cut at, when to stop, which answer to give."""

from collections.abc import Callable, Sequence
from typing import Protocol

from leco_jax.reasoning.vote import vote

CUT_RULES = ("weakest", "earlier_of_two_weakest")
FINAL_RULES = ("last", "weighted_vote")

_ORIGINAL_WEIGHT = 1.5  # what the first answer counts in the vote; published program


class Step(Protocol):
    """What decides whether a step is cut; a `ScoredStep` is one."""

    @property
    def text(self) -> str:
        """Its line, label included."""

    @property
    def score(self) -> float:
        """Its confidence."""


def cut_step(
    steps: Sequence[Step],
    *,
    rule: str,
    first: int = 0,
    exclude: Sequence[str] = (),
) -> int | None:
    """Picks the step at which a chain is cut.

    Args:
        steps: the chain's steps in order.
        rule: `"weakest"`, the step of lowest score (the paper), or `"earlier_of_two_weakest"`,
            the one that comes first among the two lowest (the published program). Equal scores go
            to the earlier step.
        first: steps before this one are never cut: earlier rounds decided to keep them.
        exclude: steps that contain one of these texts, in any case, are no candidates.

    Returns:
        The step's index, or None where there is no candidate.
    """
    candidates = [
        i
        for i in range(first, len(steps))
        if not any(text.lower() in steps[i].text.lower() for text in exclude)
    ]
    if not candidates:
        return None
    weakest_first = sorted(candidates, key=lambda i: steps[i].score)
    return weakest_first[0] if rule == "weakest" else min(weakest_first[:2])


def converged(answers: Sequence, equal: Callable) -> bool:
    """Whether the last two answers agree; an answer that could not be read agrees with none."""
    return len(answers) >= 2 and equal(answers[-1], answers[-2])


def final_answer(answers: Sequence, equal: Callable, *, rule: str):
    """Chooses among the answers of all rounds.

    Args:
        answers: in order of their rounds; None where none could be read.
        equal: equality of answers; None equals nothing.
        rule: `"last"`, or `"weighted_vote"` as in the published program: once two answers in a
            row agree, each answer counts 1 and the first one 1.5, ties going to the earlier;
            otherwise the last one.
    """
    if rule == "last" or not converged(answers, equal):
        return answers[-1]
    return vote(answers, equal, weights=[_ORIGINAL_WEIGHT, *[1.0] * (len(answers) - 1)])
