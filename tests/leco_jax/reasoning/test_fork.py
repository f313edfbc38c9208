"""Forks on a model whose every choice is written down; probabilities are worked out by hand."""

import math

import pytest

from leco_jax.reasoning.checking import Checks
from leco_jax.reasoning.fork import ForkConfig, fork
from tests.leco_jax.reasoning.sums import (
    EQUALS,
    FIVE,
    FOUR,
    HMM,
    NL,
    NL5,
    RIGHT,
    SAYS5,
    SO,
    TWO,
    WEAK,
    WELL,
    WRONG,
    run_on_sum,
)  # fmt: skip

C = 0.99
# Everything but the weak tokens: Q, label, break, label, 2 +, 2 =, break, answer, end.
REST = C**8


@pytest.mark.heavy
def test_the_latest_weak_token_is_forked_first_and_nothing_is_fed_twice():
    result, engine = run_on_sum(fork, ForkConfig(settled=False), table=WEAK)
    first, second, third = result.rounds
    assert [r.answer for r in result.rounds] == ["5", "4", "5"]
    assert (first.kept, second.kept, third.kept) == (0, 6, 1)
    assert [r.appended for r in result.rounds] == [0, 0, 0]
    assert second.text.splitlines()[0] == "Step 2: hmm"
    assert third.text.splitlines()[0] == "Step 2: well"
    assert math.exp(first.sum_logprob) == pytest.approx(REST * 0.6 * 0.5, rel=1e-3)
    assert math.exp(second.sum_logprob) == pytest.approx(REST * 0.6 * 0.45, rel=1e-3)
    assert math.exp(third.sum_logprob) == pytest.approx(REST * 0.3 * 0.5, rel=1e-3)
    assert result.answer == "5"  # 0.30 + 0.15 against 0.27
    assert (result.stopped, result.signal, result.method) == ("forks", "model", "fork")
    assert engine.counters.given == 0
    assert engine.counters.sampled == sum(r.sampled for r in result.rounds)


def test_mass_adds_up_what_leads_to_the_same_answer():
    # The other first step makes the model sure of the right sum; it can only be told by the whole.
    table = WEAK | {
        HMM: {NL: 0.99}, WELL: {SO: 0.99}, SO: {FOUR: 0.99}, TWO: {HMM: 0.55, WELL: 0.4},
    }  # fmt: skip
    result, _ = run_on_sum(fork, ForkConfig(), table=table)
    assert [r.answer for r in result.rounds] == ["5", "4", "4"]
    assert result.answer == "4"  # 0.55 * 0.45 + 0.4 against 0.55 * 0.5
    last, _ = run_on_sum(fork, ForkConfig(final_rule="weakest_token"), table=table)
    assert last.answer == "5"


def test_it_ends_where_no_fork_can_change_the_answer():
    table = {EQUALS: {FIVE: 0.69, FOUR: 0.3}}  # 0.69 * 0.99^3 is more than the 0.31 that is left
    result, _ = run_on_sum(fork, ForkConfig(), table=table)
    assert (result.stopped, len(result.rounds), result.answer) == ("settled", 1, "5")
    every, _ = run_on_sum(fork, ForkConfig(settled=False), table=table)
    assert (every.stopped, len(every.rounds), every.answer) == ("forks", 2, "5")
    close, _ = run_on_sum(fork, ForkConfig(), table={EQUALS: {FIVE: 0.5, FOUR: 0.45}})
    assert (close.stopped, len(close.rounds)) == ("forks", 2)


def test_threshold_number_and_kind_of_tokens_can_be_chosen():
    none, _ = run_on_sum(fork, ForkConfig(threshold=0.4), table=WEAK)
    assert len(none.rounds) == 1
    one, _ = run_on_sum(fork, ForkConfig(forks=1, settled=False), table=WEAK)
    assert [r.kept for r in one.rounds] == [0, 6]  # 0.5 is weaker than 0.6
    config = ForkConfig(tokens="weakest_step", settled=False)
    step, _ = run_on_sum(fork, config, table=WEAK)
    weakest = min(step.rounds[0].steps, key=lambda s: s.score)
    assert [r.kept for r in step.rounds[1:]] == [
        kept for kept in (6, 1) if weakest.tokens[0] <= kept < weakest.tokens[1]
    ]
    config = ForkConfig(exclude=("HMM",), settled=False)
    assert [r.kept for r in run_on_sum(fork, config, table=WEAK)[0].rounds] == [0, 6]


def test_weakest_first_feeds_the_tokens_of_the_first_chain_again():
    table = WEAK | {TWO: {HMM: 0.45, WELL: 0.44}, EQUALS: {FIVE: 0.5, FOUR: 0.45}}
    config = ForkConfig(order="weakest", settled=False)
    result, engine = run_on_sum(fork, config, table=table)
    assert [(r.kept, r.appended) for r in result.rounds] == [(0, 0), (1, 0), (1, 5)]
    assert engine.counters.given == 5
    latest, _ = run_on_sum(fork, ForkConfig(settled=False), table=table)
    assert {r.text for r in latest.rounds} == {r.text for r in result.rounds}


def test_forks_have_forks_of_their_own_behind_the_place_where_they_differ():
    result, _ = run_on_sum(fork, ForkConfig(depth=2, settled=False), table=WEAK)
    # The fork at the sum forks there again, a token that is neither; the one at "hmm" at its sum.
    kept = [r.kept for r in result.rounds]
    assert kept == [0, 6, 6, 1, 6, 1]
    texts = [r.text for r in result.rounds]
    assert len(set(texts)) == len(texts)


CHECKED = Checks(names=("arithmetic",), gate=True, filter=True)


def test_a_gate_lets_a_chain_without_a_false_sum_pass():
    right = {EQUALS: {FOUR: 0.6, FIVE: 0.3}}
    result, _ = run_on_sum(fork, ForkConfig(checks=CHECKED), table=right)
    assert (result.stopped, result.signal) == ("passed", "checks")
    assert [r.text for r in result.rounds] == [RIGHT]


def test_a_flagged_chain_is_forked_until_one_passes_which_then_counts_alone():
    config = ForkConfig(threshold=0.9, checks=CHECKED)
    result, _ = run_on_sum(fork, config)
    assert [r.text for r in result.rounds] == [WRONG, RIGHT]
    assert (result.stopped, result.answer) == ("passed", "4")  # for all its 0.15 against 0.8
    unfiltered, _ = run_on_sum(
        fork, ForkConfig(threshold=0.9, checks=Checks(names=("arithmetic",), gate=True))
    )
    assert unfiltered.answer == "5"
    filtered, _ = run_on_sum(
        fork, ForkConfig(threshold=0.9, checks=Checks(names=("arithmetic",), filter=True))
    )
    assert (filtered.stopped, filtered.answer) == ("forks", "4")


def test_a_cut_forks_inside_the_false_sum_whatever_its_probability():
    checks = Checks(names=("arithmetic",), gate=True, cut=True, filter=True)
    result, engine = run_on_sum(fork, ForkConfig(checks=checks))
    assert [r.text for r in result.rounds] == [WRONG, RIGHT]
    assert result.rounds[1].kept == 3
    assert engine.counters.given == 0
    # Where the next one is false too, what was forbidden stays so.
    table = {EQUALS: {FIVE: 0.8, SO: 0.1, FOUR: 0.05}, SO: {FIVE: 0.99}, NL5: {SAYS5: 0.99}}
    result, _ = run_on_sum(fork, ForkConfig(checks=checks, forks=2), table=table)
    assert [r.kept for r in result.rounds] == [0, 3] + [3] * (len(result.rounds) - 2)
    assert len({r.text for r in result.rounds}) == len(result.rounds)


@pytest.mark.parametrize(("least", "rounds"), [(0.79, 1), (0.81, 2)])
def test_a_gate_by_confidence(least, rounds):
    gate = Checks(confidence="min_logprob", below=math.log(least))
    result, _ = run_on_sum(fork, ForkConfig(threshold=0.9, settled=False, checks=gate))
    assert (len(result.rounds), result.signal) == (rounds, "model")
    assert result.stopped == ("passed" if rounds == 1 else "forks")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"forks": 0}, "forks=0 must be at least 1"),
        ({"depth": 0}, "depth=0"),
        ({"threshold": 0.0}, "threshold=0.0 must lie in"),
        ({"tokens": "all"}, "tokens='all'"),
        ({"order": "first"}, "order='first'"),
        ({"exclude": ("",)}, "exclude"),
        ({"final_rule": "luck"}, "final_rule='luck'"),
    ],
)
def test_bad_options_are_refused_by_name(options, message):
    with pytest.raises(ValueError, match=message):
        ForkConfig(**options)
