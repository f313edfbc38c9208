"""What other rules would have chosen among stored chains: votes, nothing is decoded again."""

import math
import types
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from leco_jax.decoding.programs import MARGIN
from leco_jax.reasoning.adaptive import StopRule, is_stable
from leco_jax.reasoning.confidence import (
    Part,
    answer_margin,
    deepconf_confidence,
    mean_statistic,
)
from leco_jax.reasoning.selection import FinalRule, final_answer, vote
from leco_jax.text.checks import find_check

Answers = Sequence[str | None]
Chains = Sequence[Any]  # rounds of a results line, with their fields as attributes


class Choice(NamedTuple):
    """What a rule chose, and among how many of the first chains."""

    answer: str | None
    chains: int


class Rule(NamedTuple):
    """A rule over stored chains.

    Attributes:
      choose: gives the answer and how many chains it took, from answers, chains and the window of
        DeepConf's confidences.
      needs: a statistic that has to be stored, or None.
    """

    choose: Callable[[Answers, Chains, int], Choice]
    needs: str | None = None


def _equal(a: str | None, b: str | None) -> bool:
    return a is not None and a == b  # answers are stored in one way of writing


def _of_all(choose: Callable[[Answers, Chains], str | None], needs: str | None = None) -> Rule:
    return Rule(lambda answers, chains, _: Choice(choose(answers, chains), len(chains)), needs)


def _final(name: FinalRule) -> Rule:
    return _of_all(
        lambda answers, chains: final_answer(
            answers, _equal, rule=name, stopped="samples", rounds=chains
        )
    )


def cisc(answers: Answers, chains: Chains, *, temperature: float = 0.1) -> str | None:
    """A vote weighted by the softmax of the mean log-probabilities (CISC, arXiv 2502.06233)."""
    figures = [-math.inf if c.mean_logprob is None else c.mean_logprob for c in chains]
    top = max(figures)
    weights = [math.exp((x - top) / temperature) if x > -math.inf else 0.0 for x in figures]
    return vote(answers, _equal, weights=weights)


def borda(answers: Answers, figures: Sequence[float | None], *, power: float = 1.0) -> str | None:
    """A vote weighted by (N - rank + 1)^power, ranked by a figure of the chains.

    The vote of self-certainty (arXiv 2502.18581).
    """
    known = [-math.inf if figure is None else figure for figure in figures]
    above = [sum(other > figure for other in known) for figure in known]
    return vote(answers, _equal, weights=[(len(known) - i) ** power for i in above])


def deepconf_filter(
    answers: Answers, figures: Sequence[float | None], *, keep: float
) -> str | None:
    """DeepConf offline (arXiv 2508.15260): the most confident chains, their votes weighted by it.

    Args:
      answers: of the chains.
      figures: their confidences, see `deepconf_confidence`.
      keep: share of the chains that vote, at least one.
    """
    order = sorted(
        (i for i, figure in enumerate(figures) if figure is not None),
        key=lambda i: -figures[i],  # type: ignore[operator]
    )
    best = order[: max(1, round(keep * len(figures)))]
    weights = [figures[i] or 0.0 for i in best]
    return vote([answers[i] for i in best], _equal, weights=weights)


def _deepconf(part: Part, keep: float) -> Rule:
    def choose(answers: Answers, chains: Chains, window: int) -> Choice:
        figures = [deepconf_confidence(c, part, window=window) for c in chains]
        return Choice(deepconf_filter(answers, figures, keep=keep), len(chains))

    return Rule(choose, "topk_logprob")


def _adaptive(stop: StopRule) -> Rule:
    def choose(answers: Answers, chains: Chains, _: int) -> Choice:
        count = 1
        while count < len(answers) and not is_stable(answers[:count], _equal, stop=stop):
            count += 1
        return Choice(vote(answers[:count], _equal), count)

    return Rule(choose)


def _self_certainty(answers: Answers, chains: Chains) -> str | None:
    return borda(answers, [mean_statistic(chain, "self_certainty") for chain in chains])


def _margin(answers: Answers, chains: Chains) -> str | None:
    return vote(answers, _equal, weights=[answer_margin(chain) or 0.0 for chain in chains])


RULES: dict[str, Rule] = {
    "last": _final("last"),
    "majority": _final("majority"),
    "weighted_vote": _final("weighted_vote"),
    "weakest_token": _final("weakest_token"),
    "mean_logprob": _final("mean_logprob"),
    "mass": _final("mass"),
    "cisc": _of_all(cisc),
    "borda": _of_all(lambda answers, chains: borda(answers, [c.mean_logprob for c in chains])),
    "self_certainty": _of_all(_self_certainty, "self_certainty"),
    "margin": _of_all(_margin, MARGIN),
    "adaptive_beta": _adaptive("beta"),
    "adaptive_dirichlet": _adaptive("dirichlet"),
    **{
        f"deepconf_{part}_{share}": _deepconf(part, share / 100)
        for part in ("mean", "tail", "bottom", "least")
        for share in (10, 90)
    },
}


def stored_votes(
    rows: Iterable[Mapping[str, Any]],
    method: str,
    *,
    check: str | None = "arithmetic",
    window: int = 2048,
) -> Iterator[dict[str, Any]]:
    """Answers each stored question anew by every rule, and by every rule among passing chains.

    Args:
      rows: results lines; those of `method` without an error are read.
      method: whose chains to choose among.
      check: a check's name, for the second half of the rules; None leaves them out.
      window: of DeepConf's confidences, in tokens.

    Yields:
      Results lines of methods "METHOD: RULE" and "METHOD: RULE, CHECK". Rules that need a statistic
      which is not stored (`engine.stats`) are left out.
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
            for rule, (choose, needs) in RULES.items():
                if needs is not None and needs not in chains[0].token_stats:
                    continue
                answer, count = choose(own, chains, window)
                correct = None if row["gold"] is None else answer == row["gold"]
                yield {
                    **row,
                    "method": name.format(rule),
                    "signal": signal,
                    "answer": answer,
                    "correct": correct,
                    "rounds": row["rounds"][:count],
                    "cost": row["cost"] | ({"rounds": count} if count < len(chains) else {}),
                }
