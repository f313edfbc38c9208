"""Four acts at the same weak tokens of the same chain."""

import pytest

from leco_jax.reasoning.acts import ActConfig, act
from tests.leco_jax.reasoning.sums import (
    EQUALS,
    FIVE,
    FOUR,
    ONE,
    PLUS,
    SO,
    WEAK,
    run_on_sum,
)  # fmt: skip

TABLE = WEAK | {SO: {ONE: 0.99}}


def _run(name, **options):
    config = ActConfig(act=name, reflection=" so", **options)
    return run_on_sum(act, config, table=TABLE)


@pytest.mark.heavy
def test_every_act_is_taken_at_the_weakest_token_first():
    first, *forks = _run("fork", budget=3.0)[0].rounds
    assert len(first.token_ends) == 0
    assert [(r.kept, r.appended) for r in forks] == [(6, 0), (1, 0)]
    assert [r.answer for r in forks] == ["4", "5"]
    # The step of the sum begins at 3; its end, and that of the first step, close with a break.
    _, *reflected = _run("reflect", budget=3.0)[0].rounds
    assert [(r.kept, r.appended) for r in reflected] == [(8, 1), (3, 1)]
    assert " so" in reflected[0].text
    _, *drawn = _run("roll_back", budget=3.0)[0].rounds
    assert drawn[0].kept == 3
    _, *again = _run("stop", budget=3.0)[0].rounds
    assert all(r.kept == 0 for r in again)
    assert 1 <= len(again) <= 2


def test_acts_stop_with_the_budget_or_without_a_trigger():
    result, _ = _run("fork", budget=1.0)
    assert (len(result.rounds), result.stopped) == (1, "budget")
    # The first chain has ten tokens; only the later place fits into half of them.
    result, _ = _run("fork", budget=1.5)
    assert [r.kept for r in result.rounds] == [0, 6]
    sure, _ = _run("roll_back", below=0.4)
    assert (len(sure.rounds), sure.stopped) == (1, "passed")


def test_a_chain_that_was_given_up_does_not_vote():
    # Whatever is drawn: a chain without a weak token counts alone, else all do.
    result, _ = run_on_sum(
        act,
        ActConfig(act="stop", budget=9.0, act_temperature=1.0),
        table={EQUALS: {FIVE: 0.5, FOUR: 0.49}, PLUS: {EQUALS: 0.99}},
    )
    assert result.rounds[0].answer == "5"
    assert {r.finish for r in result.rounds} == {"eos"}
    assert result.signal == "model"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"act": "wait"}, "act='wait'"),
        ({"act": "fork", "below": 0.0}, "below=0.0 must lie in"),
        ({"act": "fork", "budget": 0.5}, "budget=0.5 must be at least 1"),
        ({"act": "stop", "act_temperature": 0.0}, "act_temperature=0.0 must be above 0"),
    ],
)
def test_bad_options_are_refused_by_name(options, message):
    with pytest.raises(ValueError, match=message):
        ActConfig(**options)
