"""LeCo on each of several samples."""

import pytest

from leco_jax.reasoning.leco import LecoConfig
from leco_jax.reasoning.leco_samples import LecoSamplesConfig, leco_samples
from tests.leco_jax.reasoning.sums import EQUALS, FIVE, FOUR, run_on_sum

TABLE = {EQUALS: {FIVE: 0.5, FOUR: 0.49}}


@pytest.mark.heavy
def test_the_answers_of_leco_vote():
    leco = LecoConfig(policy="avoid", max_rethinks=1)
    config = LecoSamplesConfig(samples=5, temperature=1.0, leco=leco)
    result, engine = run_on_sum(leco_samples, config, table=TABLE, slots=8)
    firsts = [i for i, one in enumerate(result.rounds) if not one.kept]
    assert len(firsts) == 5
    assert firsts[0] == 0
    # Without an answer in common two passes a sample, and one of them goes on from the other.
    lengths = [b - a for a, b in zip(firsts, [*firsts[1:], len(result.rounds)], strict=True)]
    assert set(lengths) == {2}
    assert (result.cost.calls, result.cost.rounds) == (10, 2)
    assert len({one.text for one in result.rounds[::2]}) > 1  # the samples differ
    last = [one.answer for one in result.rounds[1::2]]
    known = [answer for answer in last if answer is not None]
    assert result.answer in known
    assert (result.stopped, result.independent) == ("samples", False)
    assert engine.counters.sampled == result.cost.sampled
