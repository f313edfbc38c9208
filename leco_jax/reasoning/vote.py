"""Votes among answers: every answer gives its weight to those that are equal to it."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple


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
    """Counts votes.

    Args:
        answers: one a vote; None (no answer could be read) votes for nothing.
        equal: equality of two answers.
        weights: of each vote; default: 1 each.

    Returns:
        The different answers in the order in which they were first seen.
    """
    weights = [1.0] * len(answers) if weights is None else weights
    found: list[Candidate] = []
    for answer, weight in zip(answers, weights, strict=True):
        if answer is None:
            continue
        for i, candidate in enumerate(found):
            if equal(candidate.answer, answer):
                found[i] = candidate._replace(weight=candidate.weight + weight)
                break
        else:
            found.append(Candidate(answer, weight))
    return found


def vote(
    answers: Sequence[Any],
    equal: Callable[[Any, Any], bool],
    *,
    weights: Sequence[float] | None = None,
) -> Any:
    """The answer of the greatest weight, None where nobody voted; of several the first seen."""
    candidates = tally(answers, equal, weights=weights)
    return max(candidates, key=lambda c: c.weight).answer if candidates else None
