"""Small rules of the methods: where to cut, when to stop, how to vote, which answer to give."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

if TYPE_CHECKING:  # curation votes without jax
    from leco_jax.reasoning.chain_reader import ScoredStep

CutRule = Literal["weakest", "earlier_of_two_weakest"]
FinalRule = Literal["last", "weighted_vote"]

_FIRST_WEIGHT = 1.5  # what the first answer counts in the vote; published program


def cut_step(
    steps: Sequence[ScoredStep],
    *,
    rule: CutRule | None,
    first: int = 0,
    exclude: Sequence[str] = (),
) -> int | None:
    """Picks the step at which a chain is cut.

    Args:
      steps: the chain's steps in order.
      rule: `"weakest"`, the step of lowest score (the paper), or `"earlier_of_two_weakest"`, the
        one that comes first among the two lowest (the published program). Equal scores go to the
        earlier step.
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
    weakest_first = sorted(candidates, key=lambda i: steps[i].score)
    return min(weakest_first[: 1 if rule == "weakest" else 2], default=None)


def converged(answers: Sequence, equal: Callable) -> bool:
    """Whether the last two answers agree; an answer that could not be read agrees with none."""
    return len(answers) >= 2 and equal(answers[-1], answers[-2])


def final_answer(answers: Sequence, equal: Callable, *, rule: FinalRule | None, stopped: str):
    """Chooses among the answers of all rounds.

    Args:
      answers: in order of their rounds; None where none could be read.
      equal: equality of answers; None equals nothing.
      rule: `"last"`, the last answer that could be read; or `"weighted_vote"` as in the published
        program, which votes when it has converged and after the last rethink: each answer counts
        1 and the first one 1.5, ties going to the earlier.
      stopped: why the method stopped, as in `Result`.

    Returns:
      The answer, None where none could be read.
    """
    if rule == "weighted_vote" and stopped in ("converged", "rounds"):
        return vote(answers, equal, weights=[_FIRST_WEIGHT, *[1.0] * (len(answers) - 1)])
    return next((answer for answer in reversed(answers) if answer is not None), None)


class Candidate(NamedTuple):
    """An answer that was voted for: as it was first seen, and the weight of its votes."""

    answer: Any
    weight: float


def tally(
    answers: Sequence[Any],
    equal: Callable[[Any, Any], bool],
    *,
    weights: Sequence[float] | None = None,
) -> list[Candidate]:
    """Counts votes; each answer gives its weight to those that are equal to it.

    Args:
      answers: one a vote; None (no answer could be read) votes for nothing.
      equal: equality of two answers.
      weights: of each vote; default: 1 each.

    Returns:
      The different answers in the order in which they were first seen.
    """
    weights = [1.0] * len(answers) if weights is None else weights
    candidates: list[Candidate] = []
    for answer, weight in zip(answers, weights, strict=True):
        if answer is None:
            continue
        for i, candidate in enumerate(candidates):
            if equal(candidate.answer, answer):
                candidates[i] = candidate._replace(weight=candidate.weight + weight)
                break
        else:
            candidates.append(Candidate(answer, weight))
    return candidates


def vote(
    answers: Sequence[Any],
    equal: Callable[[Any, Any], bool],
    *,
    weights: Sequence[float] | None = None,
) -> Any:
    """The answer of the greatest weight, None where nobody voted; of several the first seen."""
    candidates = tally(answers, equal, weights=weights)
    return max(candidates, key=lambda c: c.weight).answer if candidates else None
