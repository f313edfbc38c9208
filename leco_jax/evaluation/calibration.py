"""How well a confidence tells right answers from wrong ones, and how far it is a probability."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


class Bin(NamedTuple):
    """Answers of similar confidence: its mean, the share that is right, their number."""

    confidence: float
    correct: float
    count: int


def reliability(
    confidences: Sequence[float], right: Sequence[bool], *, bins: int = 10
) -> list[Bin]:
    """Puts answers, in order of confidence, into bins of nearly equal number, ten or more each."""
    order = np.argsort(np.asarray(confidences, float), kind="stable")
    parts = np.array_split(order, max(min(bins, len(order) // 10), 1))
    figures, correct = np.asarray(confidences, float), np.asarray(right, float)
    return [
        Bin(float(figures[part].mean()), float(correct[part].mean()), len(part))
        for part in parts
        if len(part)
    ]


def calibration_error(bins: Sequence[Bin]) -> float | None:
    """The expected calibration error: the mean of |confidence - correct| over all answers."""
    total = sum(one.count for one in bins)
    gaps = sum(one.count * abs(one.confidence - one.correct) for one in bins)
    return gaps / total if total else None


def auroc(confidences: Sequence[float], right: Sequence[bool]) -> float | None:
    """The share of pairs of a right and a wrong answer in which the right one has more confidence.

    Equal confidences count half (Mann-Whitney). None where all answers are right, or all wrong.
    """
    figures, correct = np.asarray(confidences, float), np.asarray(right, bool)
    good, bad = np.sort(figures[correct]), figures[~correct]
    if not len(good) or not len(bad):
        return None
    below = np.searchsorted(good, bad, "left") + np.searchsorted(good, bad, "right")
    return float(1 - below.sum() / (2 * len(good) * len(bad)))
