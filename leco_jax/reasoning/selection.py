"""Small rules of the methods: where to cut, when to stop, how to vote, which answer to give."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

if TYPE_CHECKING:  # curation votes without jax
    from leco_jax.reasoning.chain_reader import Round, ScoredStep

StepFigure = Literal["score", "average", "divergence", "transition"]
CutRule = Literal["weakest", "earlier_of_two_weakest"]
FinalRule = Literal["last", "weighted_vote", "majority", "mass", "mean_logprob", "weakest_token"]

_FIRST_WEIGHT = 1.5  # what the first answer counts in the vote; published program
_NO_VOTE = ("hook", "no_candidate")  # where the published program takes the latest answer


def cut_step(
    steps: Sequence[ScoredStep],
    *,
    rule: CutRule | None,
    figure: StepFigure = "score",
    first: int = 0,
    exclude: Sequence[str] = (),
) -> int | None:
    """Picks the step at which a chain is cut.

    Args:
      steps: the chain's steps in order.
      rule: `"weakest"`, the step of lowest score (the paper), or `"earlier_of_two_weakest"`, the
        one that comes first among the two lowest (the published program). Equal scores go to the
        earlier step.
      figure: what stands for the score in `rule`; of the divergence the highest is the weakest.
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
    sign = -1 if figure == "divergence" else 1
    weakest_first = sorted(candidates, key=lambda i: sign * getattr(steps[i], figure))
    return min(weakest_first[: 1 if rule == "weakest" else 2], default=None)


def converged(answers: Sequence, equal: Callable) -> bool:
    """Whether the last two answers agree; an answer that could not be read agrees with none."""
    return len(answers) >= 2 and equal(answers[-1], answers[-2])


def final_answer(
    answers: Sequence,
    equal: Callable,
    *,
    rule: FinalRule | None,
    stopped: str,
    rounds: Sequence[Round] = (),
):
    """Chooses among the answers of all rounds.

    Args:
      answers: in order of their rounds; None where none could be read.
      equal: equality of answers; None equals nothing.
      rule: one of

        * `last`: the last answer that could be read;
        * `weighted_vote`: the published program's, which votes when it has converged and after the
          last rethink: each answer counts 1 and the first one 1.5, ties going to the earlier;
        * `majority`: the answer of most rounds, ties going to the earlier;
        * `mass`: see `masses`;
        * `mean_logprob`, `weakest_token`: the answer of the round whose mean, or least, token
          log-probability is highest.
      stopped: why the method stopped, as in `Result`.
      rounds: those of the answers, for the rules that look at log-probabilities.

    Returns:
      The answer, None where none could be read.
    """
    if rule == "majority":
        return vote(answers, equal)
    if rule == "mass":
        return _heaviest(masses(answers, equal, rounds))
    if rule in ("mean_logprob", "weakest_token"):
        name = "mean_logprob" if rule == "mean_logprob" else "min_logprob"
        figures = [getattr(chain, name) for chain in rounds]
        answered = [i for i, answer in enumerate(answers) if answer is not None]
        best = max(answered, key=lambda i: _or_lowest(figures[i]), default=None)
        return None if best is None else answers[best]
    if rule == "weighted_vote" and stopped not in _NO_VOTE:
        return vote(answers, equal, weights=[_FIRST_WEIGHT, *[1.0] * (len(answers) - 1)])
    return next((answer for answer in reversed(answers) if answer is not None), None)


def masses(answers: Sequence, equal: Callable, rounds: Sequence[Round]) -> list[Candidate]:
    """The probability that the model gives each answer, as far as its chains were seen.

    An answer's mass is the sum of exp(sum of log-probabilities) over the different chains that end
    in it, divided by that of the most likely chain. Chains that came twice count once.

    Args:
      answers: of the chains; None counts for nothing.
      equal: equality of answers.
      rounds: the chains.
    """
    top = scale(rounds)
    texts = [chain.text for chain in rounds]
    weights = [
        math.exp(_or_lowest(chain.sum_logprob) - top) if chain.text not in texts[:i] else 0.0
        for i, chain in enumerate(rounds)
    ]
    return tally(answers, equal, weights=weights)


def scale(rounds: Sequence[Round]) -> float:
    """The largest summed log-probability, which `masses` divides by: small ones underflow."""
    finite = [chain.sum_logprob for chain in rounds if chain.sum_logprob is not None]
    return max(finite, default=0.0)


def _or_lowest(figure: float | None) -> float:
    return -math.inf if figure is None else figure


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
    return _heaviest(tally(answers, equal, weights=weights))


def _heaviest(candidates: Sequence[Candidate]) -> Any:
    return max(candidates, key=lambda c: c.weight).answer if candidates else None
