"""Adaptive self-consistency: its stops by hand, and its samples beside self-consistency's."""

import math

import numpy as np
import pytest

from leco_jax.reasoning.adaptive import (
    AdaptiveConfig,
    adaptive_self_consistency,
    is_stable,
    leads_all,
    leads_second,
)
from leco_jax.reasoning.self_consistency import SelfConsistencyConfig, self_consistency
from tests.leco_jax.reasoning.ways import run_on_ways, ways_model, ways_question


def _equal(a, b):
    return a is not None and a == b


def test_the_posterior_of_the_leading_answer_by_hand():
    # Beta(2, 1) above a half: 1 - (1/2)^2; Beta(5, 1): 1 - (1/2)^5.
    assert leads_second(1, 0) == 0.75
    assert leads_second(4, 0) == 1 - 0.5**5
    assert leads_second(3, 3) == 0.5
    assert leads_all([4, 0]) == pytest.approx(1 - 0.5**5, abs=1e-9)
    assert leads_all([0, 0, 0]) == pytest.approx(1 / 3, abs=1e-3)
    drawn = np.random.default_rng(0).dirichlet([6, 3, 2, 1], size=200_000)
    assert leads_all([5, 2, 1, 0]) == pytest.approx((drawn.argmax(1) == 0).mean(), abs=4e-3)
    assert math.isclose(leads_all([60, 0]), 1.0, abs_tol=1e-9)


@pytest.mark.parametrize("stop", ["beta", "dirichlet"])
def test_four_equal_answers_are_enough_and_unread_ones_count_for_nothing(stop):
    assert not is_stable([None, "1", "1", "1"], _equal, stop=stop)
    assert is_stable(["1", None, "1", "1", "1"], _equal, stop=stop)
    assert not is_stable([None] * 9, _equal, stop=stop)
    # A second answer takes three more votes to outweigh.
    assert not is_stable(["1"] * 5 + ["2"], _equal, stop=stop)
    assert is_stable(["1"] * 7 + ["2"], _equal, stop=stop)


def test_against_all_others_the_leader_has_a_harder_time():
    votes = ["1"] * 6 + ["2", "3", "4"]
    assert is_stable(votes, _equal, stop="beta")
    assert not is_stable(votes, _equal, stop="dirichlet")


@pytest.mark.heavy
def test_it_stops_within_the_samples_of_self_consistency():
    model = ways_model()
    question = ways_question(3)
    all_of_them = SelfConsistencyConfig(samples=12, temperature=1.0)
    whole, _ = run_on_ways(self_consistency, model, [question], all_of_them, slots=4)
    config = AdaptiveConfig(samples=12, temperature=1.0, stable=0.8)
    found, _ = run_on_ways(adaptive_self_consistency, model, [question], config, slots=4)
    result = found["3"]
    count = len(result.rounds)
    assert result.stopped == "stable"
    assert 2 <= count < 12
    assert result.rounds == whole["3"].rounds[:count]
    assert (result.cost.calls, result.cost.rounds) == (count, count)
    never = AdaptiveConfig(samples=3, temperature=1.0, stable=0.999)
    found, _ = run_on_ways(adaptive_self_consistency, model, [question], never, slots=4)
    assert (found["3"].stopped, len(found["3"].rounds)) == ("samples", 3)


def test_a_threshold_outside_of_0_to_1_is_refused():
    with pytest.raises(ValueError, match=r"stable=1\.0 must lie in"):
        AdaptiveConfig(stable=1.0)
