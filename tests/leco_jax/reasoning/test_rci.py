"""RCI on a model whose every choice is written down."""

import pytest

from leco_jax.reasoning.rci import RciConfig, rci
from tests.leco_jax.reasoning.sums import EOS, HMM, SAYS4, WELL, WRONG, run_on_sum

CONFIG = RciConfig(improvements=3, criticise=" hmm", improve=" well")
TABLE = {HMM: {EOS: 0.99}, WELL: {SAYS4: 0.99}}


@pytest.mark.heavy
def test_criticism_and_improvement_take_turns_until_an_answer_is_repeated():
    result, engine = run_on_sum(rci, CONFIG, table=TABLE)
    assert [r.answer for r in result.rounds] == ["5", None, "4", None, "4"]
    assert (result.answer, result.stopped, result.first_correct) == ("4", "converged", False)
    assert result.rounds[0].text == WRONG
    assert result.rounds[1].text == WRONG + " hmm"
    assert result.rounds[2].text.startswith(WRONG + " hmm well")
    assert [r.appended for r in result.rounds] == [0, 1, 1, 1, 1]
    cost = result.cost
    assert (cost.calls, cost.rounds, cost.appended, cost.prefilled) == (5, 5, 4, 1)
    assert cost.sampled == sum(r.sampled for r in result.rounds) == engine.counters.sampled
    assert cost.kept == sum(r.kept for r in result.rounds)


def test_an_improvement_without_an_answer_does_not_repeat_the_old_one():
    config = RciConfig(improvements=1, criticise=" hmm", improve=" well")
    result, _ = run_on_sum(rci, config, table=TABLE | {WELL: {EOS: 0.99}})
    assert [r.answer for r in result.rounds] == ["5", None, None]
    assert (result.stopped, result.answer) == ("rounds", "5")


def test_it_ends_where_the_engine_has_no_room():
    config = RciConfig(improvements=9, criticise=" hmm" * 180, improve=" well")
    result, _ = run_on_sum(rci, config, table=TABLE | {WELL: {EOS: 0.99}})
    assert (result.stopped, result.answer) == ("no_room", "5")
    with pytest.raises(ValueError, match="improvements=0 must be at least 1"):
        RciConfig(improvements=0)
