"""Gate, cut and filter in LeCo and self-consistency; the fork's are in test_fork."""

import pytest

from leco_jax.reasoning.checking import Checks
from leco_jax.reasoning.leco import LecoConfig, leco
from leco_jax.reasoning.self_consistency import SelfConsistencyConfig, self_consistency
from tests.leco_jax.reasoning.sums import (
    EOS,
    EQUALS,
    FIVE,
    FOUR,
    NL,
    NL4,
    NL5,
    RIGHT,
    SAYS4,
    SAYS5,
    SO,
    WELL,
    WRONG,
    run_on_sum,
)  # fmt: skip

GATE = Checks(names=("arithmetic",), gate=True)
FILTER = Checks(names=("arithmetic",), filter=True)
RIGHT_SUM = {EQUALS: {FOUR: 0.8, FIVE: 0.1}}


@pytest.mark.heavy
def test_a_gate_saves_leco_the_rethinks_of_what_passes():
    config = LecoConfig(policy="avoid", checks=GATE)
    result, _ = run_on_sum(leco, config, table=RIGHT_SUM)
    assert (result.stopped, len(result.rounds), result.signal) == ("passed", 1, "checks")
    flagged, _ = run_on_sum(leco, config)
    assert len(flagged.rounds) > 1


def test_a_cut_lies_at_the_step_that_fails_and_not_at_the_weakest():
    # An unsure step after the false sum, which confidence alone would cut.
    table = {NL5: {WELL: 0.4, SO: 0.3}, WELL: {NL: 0.9}, SO: {NL: 0.9}, NL: {SAYS5: 0.99}}
    plain, _ = run_on_sum(leco, LecoConfig(policy="avoid", max_rethinks=1), table=table)
    assert plain.rounds[0].cut == 1
    checks = Checks(names=("arithmetic",), cut=True)
    config = LecoConfig(policy="avoid", max_rethinks=1, checks=checks)
    assert run_on_sum(leco, config, table=table)[0].rounds[0].cut == 0
    # A chain that does not fail is cut where it is weakest.
    unsure = table | RIGHT_SUM | {NL4: {WELL: 0.4, SO: 0.3}}
    assert run_on_sum(leco, config, table=unsure)[0].rounds[0].cut == 1


def test_a_filter_chooses_among_the_chains_that_pass():
    config = SelfConsistencyConfig(samples=40, temperature=1.0)
    plain, _ = run_on_sum(self_consistency, config)
    texts = [r.text for r in plain.rounds]
    assert 0 < texts.count(RIGHT) < texts.count(WRONG)
    assert plain.answer == "5"
    filtered = SelfConsistencyConfig(samples=40, temperature=1.0, checks=FILTER)
    result, _ = run_on_sum(self_consistency, filtered)
    assert result.rounds == plain.rounds
    assert (result.answer, result.signal) == ("4", "checks")
    # Where none passes, all count.
    cold = SelfConsistencyConfig(samples=5, temperature=0.1, checks=FILTER)
    none, _ = run_on_sum(self_consistency, cold)
    assert [r.text for r in none.rounds] == [WRONG] * 5
    assert none.answer == "5"


def test_a_gate_draws_one_sample_first():
    config = SelfConsistencyConfig(samples=5, temperature=1.0, checks=GATE)
    passed, _ = run_on_sum(self_consistency, config, table={EQUALS: {FOUR: 1 - 1e-6}})
    assert (passed.stopped, len(passed.rounds), passed.answer) == ("passed", 1, "4")
    flagged, _ = run_on_sum(self_consistency, config, table={EQUALS: {FIVE: 1 - 1e-6}})
    assert (flagged.stopped, len(flagged.rounds)) == ("samples", 5)


def test_samples_may_be_chosen_by_mass():
    by_mass = SelfConsistencyConfig(samples=40, temperature=1.0, final_rule="mass")
    table = {EQUALS: {FOUR: 0.55, FIVE: 0.44}, NL4: {SAYS4: 0.3, SAYS5: 0.1}, SAYS4: {EOS: 0.5}}
    result, _ = run_on_sum(self_consistency, by_mass, table=table)
    answers = [r.answer for r in result.rounds]
    assert answers.count("4") > 1
    assert result.answer == "5"  # one chain of 0.44 against 0.55 * 0.3 * 0.5


def ends_in_five(text):
    """A check of one's own."""
    from leco_jax.text.checks import Failure

    return Failure(0, 1) if "{5}" in text else None


def test_a_check_may_be_ones_own_and_the_earliest_failure_counts():
    own = Checks(names=("arithmetic", f"{__name__}:ends_in_five"), gate=True)
    failure = own.failure(WRONG)
    assert (failure.start, failure.end) == (0, 1)
    assert own.failure(RIGHT) is None


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Checks(names=("luck",), gate=True), "there is no check 'luck'"),
        (lambda: Checks(names=("no.such:check",), gate=True), "there is no check 'no.such:check'"),
        (lambda: Checks(gate=True), r"gate=True needs a check"),
        (lambda: Checks(names=("arithmetic",)), "have no use: set gate, cut or filter"),
        (lambda: Checks(confidence="luck"), "confidence='luck'"),
        (
            lambda: SelfConsistencyConfig(checks=Checks(names=("arithmetic",), cut=True)),
            "samples are not cut",
        ),
    ],
)
def test_bad_options_are_refused_by_name(make, message):
    with pytest.raises(ValueError, match=message):
        make()
