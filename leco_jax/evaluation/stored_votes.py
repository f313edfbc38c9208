"""What other rules would have chosen among stored chains: votes, nothing is decoded again."""

import math
import types
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from leco_jax.reasoning.selection import FinalRule, final_answer, vote
from leco_jax.text.checks import find_check

Chains = Sequence[Any]  # rounds of a results line, with their fields as attributes
Rule = Callable[[Sequence[str | None], Chains], str | None]


def _equal(a: str | None, b: str | None) -> bool:
    return a is not None and a == b  # answers are stored in one way of writing


def _final(name: FinalRule) -> Rule:
    return lambda answers, chains: final_answer(
        answers, _equal, rule=name, stopped="samples", rounds=chains
    )


def cisc(answers: Sequence[str | None], chains: Chains, *, temperature: float = 0.1) -> str | None:
    """A vote weighted by the softmax of the mean log-probabilities (CISC, arXiv 2502.06233)."""
    figures = [-math.inf if c.mean_logprob is None else c.mean_logprob for c in chains]
    top = max(figures)
    weights = [math.exp((x - top) / temperature) if x > -math.inf else 0.0 for x in figures]
    return vote(answers, _equal, weights=weights)


def borda(answers: Sequence[str | None], chains: Chains, *, power: float = 1.0) -> str | None:
    """A vote weighted by (N - rank + 1)^power, ranked by mean log-probability.

    The vote of self-certainty (arXiv 2502.18581) with the figure that every run stores.
    """
    figures = [-math.inf if c.mean_logprob is None else c.mean_logprob for c in chains]
    above = [sum(other > figure for other in figures) for figure in figures]
    return vote(answers, _equal, weights=[(len(chains) - i) ** power for i in above])


RULES: dict[str, Rule] = {
    "last": _final("last"),
    "majority": _final("majority"),
    "weighted_vote": _final("weighted_vote"),
    "weakest_token": _final("weakest_token"),
    "mean_logprob": _final("mean_logprob"),
    "mass": _final("mass"),
    "cisc": cisc,
    "borda": borda,
}


def stored_votes(
    rows: Iterable[Mapping[str, Any]], method: str, *, check: str | None = "arithmetic"
) -> Iterator[dict[str, Any]]:
    """Answers each stored question anew by every rule, and by every rule among passing chains.

    Args:
      rows: results lines; those of `method` without an error are read.
      method: whose chains to choose among.
      check: a check's name, for the second half of the rules; None leaves them out.

    Yields:
      Results lines of methods "METHOD: RULE" and "METHOD: RULE, CHECK".
    """
    passes = None if check is None else find_check(check)
    for row in rows:
        if row["method"] != method or row["error"] is not None:
            continue
        chains = [types.SimpleNamespace(**chain) for chain in row["rounds"]]
        answers = [chain.answer for chain in chains]
        voting = [(f"{method}: {{}}", row["signal"], answers)]
        if passes is not None:
            good = [None if passes(c.text) else c.answer for c in chains]
            voting.append((f"{method}: {{}}, {check}", "checks", good if any(good) else answers))
        for name, signal, own in voting:
            for rule, choose in RULES.items():
                answer = choose(own, chains)
                correct = None if row["gold"] is None else answer == row["gold"]
                yield {
                    **row,
                    "method": name.format(rule),
                    "signal": signal,
                    "answer": answer,
                    "correct": correct,
                }
