"""How well a confidence tells right answers from wrong ones, and how far it is a probability."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


class Bin(NamedTuple):
    """Answers of similar confidence: its mean, the share that is right, their number."""

    confidence: float
    correct: float
    answers: int


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
    total = sum(one.answers for one in bins)
    gaps = sum(one.answers * abs(one.confidence - one.correct) for one in bins)
    return gaps / total if total else None


def auroc(large: np.ndarray, small: np.ndarray) -> float | None:
    """How often a value of `large` exceeds one of `small`, ties by half; None without values."""
    if not len(large) or not len(small):
        return None
    ordered = np.sort(small)
    below = np.searchsorted(ordered, large, "left") + np.searchsorted(ordered, large, "right")
    return float(below.sum() / (2 * len(large) * len(small)))
