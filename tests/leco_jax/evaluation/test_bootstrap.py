import math

import numpy as np
import pytest

from leco_jax.evaluation.bootstrap import accuracy_difference_interval


def test_a_difference_has_the_range_that_theory_gives():
    # 100 questions, right in both 40, in a only 30, in b only 10, in none 20.
    a = [1] * 40 + [1] * 30 + [0] * 10 + [0] * 20
    b = [1] * 40 + [0] * 30 + [1] * 10 + [0] * 20
    found = accuracy_difference_interval(a, b, resamples=40_000)
    deviation = math.sqrt((0.3 + 0.1 - 0.2**2) / 100)
    assert found.value == pytest.approx(0.2)
    assert found.low == pytest.approx(0.2 - 1.96 * deviation, abs=0.011)
    assert found.high == pytest.approx(0.2 + 1.96 * deviation, abs=0.011)
    assert found.undefined == 0.0
    half = accuracy_difference_interval(a, b, level=0.5, resamples=40_000)
    assert half.high - half.low == pytest.approx(2 * 0.674 * deviation, abs=0.011)


def test_questions_are_drawn_for_both_models_at_once():
    # Two models that differ in no question differ in no resample.
    right = np.random.default_rng(0).random(50) < 0.5
    found = accuracy_difference_interval(right, right)
    assert (found.value, found.low, found.high) == (0.0, 0.0, 0.0)
    # Shifting the pairing must be felt.
    rolled = accuracy_difference_interval(right, np.roll(right, 1))
    assert rolled.low < 0 < rolled.high


def test_intervals_are_the_same_for_a_seed():
    rng = np.random.default_rng(0)
    a, b = rng.random(30), rng.random(30)
    first = accuracy_difference_interval(a, b, seed=1, resamples=100)
    assert first == accuracy_difference_interval(a, b, seed=1, resamples=100)
    assert first != accuracy_difference_interval(a, b, seed=2, resamples=100)


def test_bad_intervals_are_refused():
    with pytest.raises(ValueError, match=r"same questions.*\[2, 3\]"):
        accuracy_difference_interval([1, 0], [1, 0, 1])
    with pytest.raises(ValueError, match="level=95"):
        accuracy_difference_interval([1, 0], [1, 1], level=95)
    with pytest.raises(ValueError, match="resamples=0"):
        accuracy_difference_interval([1, 0], [1, 1], resamples=0)
