"""Figures of an evaluation: accuracy, pass@k, the performance gap recovered, and their spread.

Correctness arrays hold one number a question, in the same order for all models that are compared:
1 or 0, or the share of several seeds' runs that are right.
"""

import dataclasses
import math
import statistics
from collections.abc import Iterable

import numpy as np
from numpy.typing import ArrayLike

from leco_jax.evaluation.bootstrap import Interval, correctness, interval, resampled_means


@dataclasses.dataclass(frozen=True)
class Accuracy:
    """The share of right answers."""

    value: float  # in 0..1
    standard_error: float  # of the value, over the questions
    count: int  # questions


def accuracy(correct: ArrayLike) -> Accuracy:
    """The mean of correctness [Q], with sqrt(variance / Q); for 0 and 1 that is sqrt(p(1-p)/Q)."""
    values = correctness(correct)
    return Accuracy(float(values.mean()), float(values.std() / math.sqrt(len(values))), len(values))


def pass_at_k(num_correct: ArrayLike, num_samples: int, *, k: int) -> np.ndarray:
    """The chance that k of a question's samples, drawn without replacement, hold a right one.

    1 - C(n-c, k) / C(n, k) with c = num_correct, int [Q], and n = num_samples; float64 [Q], whose
    mean is the data set's pass@k. The unbiased estimator of Chen et al. 2021 (arXiv 2107.03374).

    Raises:
      ValueError: k is not in 1..n, or a count not in 0..n.
    """
    counts = np.asarray(num_correct)
    if not 1 <= k <= num_samples:
        raise ValueError(f"k={k} must be in 1..{num_samples}, the number of samples")
    if counts.dtype.kind not in "iu":
        raise ValueError(f"num_correct counts samples: whole numbers, not {counts.dtype}")
    if counts.size and not (counts.min() >= 0 and counts.max() <= num_samples):
        raise ValueError(f"num_correct must be in 0..{num_samples}, the number of samples")
    # Whole numbers: factorials of a few hundred samples are out of a float's range.
    drawn = math.comb(num_samples, k)
    table = [1 - math.comb(num_samples - c, k) / drawn for c in range(num_samples + 1)]
    return np.asarray(table)[counts]


def any_of_k(correct: ArrayLike, *, k: int) -> np.ndarray:
    """Whether one of the first k samples is right: what arXiv 2407.13647 reports as pass@k.

    `correct` is bool [Q, n], samples in the order in which they were drawn; float64 [Q], 1 or 0.
    """
    values = np.asarray(correct, bool)
    if values.ndim != 2 or not 1 <= k <= values.shape[1]:
        raise ValueError(f"k={k} must be in 1..n of correctness [Q, n], here {values.shape}")
    return values[:, :k].max(axis=1).astype(np.float64)


def performance_gap_recovered(weak: float, strong: float, ceiling: float) -> float | None:
    """How much of the way from weak to ceiling the strong model comes on weak supervision.

    (strong - weak) / (ceiling - weak): 0 is no better than the supervisor, 1 as good as training
    on gold; both can be passed. The three are accuracies: of the weak model, and of the strong one
    trained on the weak one's answers and on gold. None where weak >= ceiling: there is no gap.
    Source: Burns et al. 2023 (arXiv 2312.09390).
    """
    return None if weak >= ceiling else (strong - weak) / (ceiling - weak)


def median_gap_recovered(gaps: Iterable[float | None]) -> float | None:
    """The median over tasks, without those where it is undefined; None if it is so in all."""
    defined = [gap for gap in gaps if gap is not None]
    return statistics.median(defined) if defined else None


def gap_recovered_interval(
    weak: ArrayLike,
    strong: ArrayLike,
    ceiling: ArrayLike,
    *,
    level: float = 0.95,
    resamples: int = 10_000,
    seed: int = 0,
) -> Interval | None:
    """The percentile range of the performance gap recovered over resampled questions.

    Arguments as of `performance_gap_recovered`, correctness [Q] in place of accuracies, and of
    `accuracy_difference_interval` in `leco_jax.evaluation.bootstrap`. The range is over those
    resamples in which the gap exists; None if it does not exist at all.
    """
    means = resampled_means([weak, strong, ceiling], resamples=resamples, seed=seed)
    values = [float(correctness(x).mean()) for x in (weak, strong, ceiling)]
    value = performance_gap_recovered(*values)
    gap = means[2] - means[0]
    there = gap > 1e-12  # above the rounding of means
    if value is None or not there.any():
        return None
    recovered = (means[1] - means[0])[there] / gap[there]
    return dataclasses.replace(interval(value, recovered, level), undefined=float(1 - there.mean()))
