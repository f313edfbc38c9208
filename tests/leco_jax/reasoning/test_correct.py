"""The calculator: a false sum is overwritten, and the model goes on."""

import pytest

from leco_jax.reasoning.correct import CorrectConfig, correct
from leco_jax.text.checks import Failure
from tests.leco_jax.reasoning.sums import EQUALS, FIVE, FOUR, RIGHT, WRONG, run_on_sum


@pytest.mark.heavy
def test_the_true_value_takes_the_false_ones_place():
    result, engine = run_on_sum(correct, CorrectConfig())
    assert [r.text for r in result.rounds] == [WRONG, RIGHT]
    assert [(r.kept, r.appended, r.sampled) for r in result.rounds] == [(0, 0, 7), (3, 1, 3)]
    assert (result.answer, result.correct, result.first_correct) == ("4", True, False)
    assert (result.stopped, result.signal, result.method) == ("passed", "tool", "correct")
    assert engine.counters.given == 1


def test_a_right_chain_is_left_alone():
    result, _ = run_on_sum(correct, CorrectConfig(), table={EQUALS: {FOUR: 0.8, FIVE: 0.1}})
    assert (len(result.rounds), result.stopped) == (1, "passed")


def fives(text):
    """A check of one's own that never agrees and knows no better."""
    at = text.find("5")
    return Failure(at, at + 1, (at, at + 1), "5") if at >= 0 else Failure(0, 1)


def test_corrections_end_and_what_has_no_truth_is_not_corrected():
    own = CorrectConfig(checked_by=f"{__name__}:fives", corrections=2)
    result, _ = run_on_sum(correct, own)
    assert (len(result.rounds), result.stopped, result.answer) == (3, "rounds", "5")
    result, _ = run_on_sum(correct, own, table={EQUALS: {FOUR: 0.8, FIVE: 0.1}})
    assert (len(result.rounds), result.stopped) == (1, "no_candidate")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"checked_by": "luck"},
            "there is no check 'luck': name one of arithmetic, repeats, unfinished",
        ),
        ({"corrections": 0}, "corrections=0"),
    ],
)
def test_bad_options_are_refused_by_name(options, message):
    with pytest.raises(ValueError, match=message):
        CorrectConfig(**options)
