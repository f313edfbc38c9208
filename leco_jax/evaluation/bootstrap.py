"""Paired bootstrap over questions: the range of any figure of several methods' correctness.

Correctness arrays hold one number a question, in the same order for all that are compared: 1 or 0,
or the share of several seeds' runs that are right.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike


@dataclasses.dataclass(frozen=True)
class Interval:
    """A figure and what a bootstrap gives as its range."""

    value: float  # of the questions as they are
    low: float  # lower end
    high: float  # upper end
    # share of the resamples in which the figure does not exist; they are left out, so a share that
    # is not small means that the range says little
    undefined: float = 0.0


def accuracy_difference_interval(
    a: ArrayLike, b: ArrayLike, *, level: float = 0.95, resamples: int = 10_000, seed: int = 0
) -> Interval:
    """The percentile range of mean(a) - mean(b) over resampled questions, the same for both.

    Args:
      a: correctness [Q] of one model.
      b: of another one on the same questions.
      level: share of the resamples between the ends.
      resamples: draws of Q questions with replacement.
      seed: of the draws.
    """
    means = resampled_means([a, b], resamples=resamples, seed=seed)
    first, second = correctness(a), correctness(b)
    return interval(float(first.mean() - second.mean()), means[0] - means[1], level)


def correctness(correct: ArrayLike) -> np.ndarray:
    """Correctness as float64 [Q]; ValueError if it is anything else."""
    values = np.asarray(correct, np.float64)
    if values.ndim != 1 or not len(values):
        raise ValueError(f"correctness must be one value a question, not of shape {values.shape}")
    if not (values.min() >= 0 and values.max() <= 1):
        raise ValueError("correctness must be in 0..1")
    return values


def resampled_means(columns: Sequence[ArrayLike], *, resamples: int, seed: int) -> np.ndarray:
    """Means [columns, resamples] over questions that are drawn for all columns at once."""
    arrays = [correctness(column) for column in columns]
    if len({len(array) for array in arrays}) > 1:
        raise ValueError(
            f"all models must be measured on the same questions, not on {[len(a) for a in arrays]}"
        )
    if resamples < 1:
        raise ValueError(f"resamples={resamples} must be at least 1")
    # Questions with the same outcomes are alike, so how often each kind is drawn is all there is
    # to know: a few counts in place of Q drawn indices.
    kinds, counts = np.unique(np.stack(arrays, axis=1), axis=0, return_counts=True)
    total = len(arrays[0])
    drawn = np.random.default_rng(seed).multinomial(total, counts / total, size=resamples)
    return (drawn @ kinds).T / total


def interval(value: float, resampled: np.ndarray, level: float) -> Interval:
    """The percentile range of a figure's resampled values [resamples]."""
    if not 0 < level < 1:
        raise ValueError(f"level={level} must be between 0 and 1")
    low, high = np.quantile(resampled, [(1 - level) / 2, (1 + level) / 2])
    return Interval(value, float(low), float(high))
