import itertools
import math

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

from w2s_jax.measures import (
    accuracy,
    any_of_k,
    gap_recovered_interval,
    median_gap_recovered,
    pass_at_k,
    performance_gap_recovered,
)


def test_accuracy_by_hand():
    found = accuracy([True, True, True, False])
    assert (found.value, found.count) == (0.75, 4)
    assert found.standard_error == pytest.approx(math.sqrt(0.75 * 0.25 / 4))
    seeds = accuracy([0.5, 1.0])  # shares of two seeds' runs
    assert (seeds.value, seeds.standard_error) == (0.75, pytest.approx(0.25 / math.sqrt(2)))


@pytest.mark.parametrize("bad", [[], [[1, 0]], [0.5, 2.0], [-1, 0], [math.nan]])
def test_what_is_no_correctness_is_refused(bad):
    with pytest.raises(ValueError, match="correctness must be"):
        accuracy(bad)


def test_pass_at_k_by_hand():
    # 1 - C(3,2)/C(5,2) = 1 - 3/10; one right one of five is among two with chance 2/5.
    np.testing.assert_allclose(pass_at_k([0, 1, 2, 4, 5], 5, k=2), [0, 0.4, 0.7, 1, 1])
    np.testing.assert_allclose(pass_at_k([0, 3, 10], 10, k=1), [0, 0.3, 1])
    # Factorials of a thousand are no floats: 1 - 500/1000 * 499/999.
    np.testing.assert_allclose(pass_at_k([500], 1000, k=2), [1 - 0.5 * 499 / 999])


@given(st.lists(st.booleans(), min_size=1, max_size=7), st.data())
def test_pass_at_k_is_the_mean_over_all_choices(correct, data):
    k = data.draw(st.integers(1, len(correct)))
    choices = [any(chosen) for chosen in itertools.combinations(correct, k)]
    found = pass_at_k([sum(correct)], len(correct), k=k)
    np.testing.assert_allclose(found, [np.mean(choices)], atol=1e-12)


def test_any_of_the_first_k():
    correct = [[0, 0, 1], [0, 1, 0], [0, 0, 0]]
    np.testing.assert_array_equal(any_of_k(correct, k=2), [0, 1, 0])
    np.testing.assert_array_equal(any_of_k(correct, k=3), [1, 1, 0])


def test_impossible_k_is_refused():
    with pytest.raises(ValueError, match=r"k=6 must be in 1..5"):
        pass_at_k([1], 5, k=6)
    with pytest.raises(ValueError, match=r"in 0..5"):
        pass_at_k([6], 5, k=1)
    with pytest.raises(ValueError, match="whole numbers"):
        pass_at_k([0.5], 5, k=1)
    for k in (0, 3):
        with pytest.raises(ValueError, match=f"k={k}"):
            any_of_k([[1, 0]], k=k)


def test_the_published_gaps_recovered():
    # GSM8K, M_plus: weak floor, hybrid of the last iteration, strong ceiling.
    rows = [(33.81, 62.62, 71.95), (25.17, 56.03, 71.95), (59.51, 68.39, 71.95)]
    gaps = [performance_gap_recovered(*row) for row in rows]
    assert [round(100 * gap, 1) for gap in gaps] == [75.5, 66.0, 71.4]
    assert performance_gap_recovered(0.2, 0.1, 0.4) == pytest.approx(-0.5)
    assert performance_gap_recovered(0.2, 0.5, 0.4) == pytest.approx(1.5)


def test_the_gap_is_undefined_where_the_weak_model_reaches_the_ceiling():
    assert performance_gap_recovered(0.5, 0.6, 0.5) is None
    assert performance_gap_recovered(0.6, 0.9, 0.5) is None
    assert median_gap_recovered([0.2, None, 0.6, 0.5, None]) == 0.5
    assert median_gap_recovered([0.2, 0.6]) == pytest.approx(0.4)
    assert median_gap_recovered([None]) is None


def test_an_interval_agrees_with_drawing_indices():
    rng = np.random.default_rng(1)
    weak, strong, ceiling = (rng.random(200) < p for p in (0.3, 0.5, 0.7))
    found = gap_recovered_interval(weak, strong, ceiling, resamples=20_000)
    index = np.random.default_rng(2).integers(0, 200, (20_000, 200))
    w, s, c = (np.asarray(x, float)[index].mean(axis=1) for x in (weak, strong, ceiling))
    low, high = np.quantile((s - w) / (c - w), [0.025, 0.975])
    assert found.value == performance_gap_recovered(weak.mean(), strong.mean(), ceiling.mean())
    assert (found.low, found.high) == (pytest.approx(low, abs=0.02), pytest.approx(high, abs=0.02))


def test_resamples_without_a_gap_are_counted():
    weak, strong, ceiling = [1, 0, 0, 0], [1, 1, 0, 0], [1, 0, 1, 0]
    found = gap_recovered_interval(weak, strong, ceiling, resamples=20_000)
    # The gap is the third question's alone: absent with chance (3/4)^4.
    assert found.undefined == pytest.approx(0.75**4, abs=0.015)
    assert found.value == 1.0
    assert gap_recovered_interval(ceiling, strong, weak) is None
    assert gap_recovered_interval(weak, strong, weak) is None
