"""Watches that end a chain early when its confidence falls."""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from leco_jax.decoding.request import Chain

LOW_CONFIDENCE = "low_confidence"
WEAK_STEP = "weak_step"
ENDED_BY_WATCH = (LOW_CONFIDENCE, WEAK_STEP)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ConfidenceFloor:
    """Ends a chain whose confidence, averaged over `window` tokens, falls below `threshold` nats.

    Source: DeepConf online (arXiv 2508.15260). A token's confidence is `-topk_logprob`; the
    threshold comes from whole chains written before, as a percentile of their `lowest_confidence`.
    A chain shorter than the window is never ended.
    """

    threshold: float
    window: int = 2048
    stats = ("topk_logprob",)

    def look(self, chain: Chain, fresh: int) -> tuple[str, int] | None:
        """See `Watch`."""
        start = max(0, fresh - self.window + 1)
        means = _windows(chain.stats["topk_logprob"][start:], self.window)
        low = np.flatnonzero(means < self.threshold)
        return (LOW_CONFIDENCE, start + self.window + int(low[0])) if low.size else None

    def would_end(self, chain: Chain) -> bool:
        """Whether it would have ended a chain that was written without it."""
        return self.look(chain, 0) is not None


def lowest_confidence(chain: Chain, *, window: int) -> float:
    """The least confidence of a chain over a window, or over all of it where it is shorter."""
    values = chain.stats["topk_logprob"]
    return float(_windows(values, min(window, len(values))).min())


def confidence_floor(chains: Sequence[Chain], *, percentile: float, window: int) -> ConfidenceFloor:
    """The floor that whole chains set for others: a percentile of their lowest confidences."""
    lowest = [lowest_confidence(chain, window=window) for chain in chains if chain.tokens]
    threshold = float(np.percentile(lowest, percentile)) if lowest else -math.inf
    return ConfidenceFloor(threshold=threshold, window=window)


def _windows(topk_logprob: Sequence[float], window: int) -> np.ndarray:
    """The confidence of each whole window; none if there are fewer tokens."""
    total = np.concatenate([[0.0], np.cumsum(-np.asarray(topk_logprob, np.float64))])
    return (total[window:] - total[:-window]) / window


@dataclasses.dataclass(frozen=True, kw_only=True)
class WeakStep:
    """Ends a chain as soon as a closed step is weaker than all others by a margin.

    Ours: what LeCo would cut at the end need not be continued to the end.
    """

    margin: float  # by how much its score has to lie below every other closed step's
    # gives a chain's closed steps, each with a `score`, or none where no token from a given one on
    # closes a step
    closed_steps: Callable[[Chain, int], Sequence[Any]]
    first: int = 0  # steps before this one are never the reason, but others are compared with them
    # asked about the closed steps and the weakest one's number; false lets the chain go on
    agrees: Callable[[Sequence[Any], int], bool] = lambda steps, weakest: True
    stats = ("logprob",)

    def look(self, chain: Chain, fresh: int) -> tuple[str, int] | None:
        """See `Watch`."""
        first_look = chain.sampled == len(chain.tokens) - fresh  # since the chain was resumed
        steps = self.closed_steps(chain, 0 if first_look else fresh)
        scores = [step.score for step in steps]
        if len(scores) < 2:
            return None
        weakest = min(range(len(scores)), key=lambda i: scores[i])
        others = min(score for i, score in enumerate(scores) if i != weakest)
        if weakest < self.first or not scores[weakest] < others - self.margin:
            return None
        return (WEAK_STEP, len(chain.tokens)) if self.agrees(steps, weakest) else None
