from fractions import Fraction

import pytest

from leco_jax.reasoning.chain_reader import Round, ScoredStep
from leco_jax.reasoning.selection import (
    Candidate,
    converged,
    cut_step,
    final_answer,
    masses,
    tally,
    vote,
)
from leco_jax.text.answers import answers_equal


def _steps(*scores, texts=None):
    return [
        ScoredStep(
            text=texts[i] if texts else f"step {i}", tokens=(i, i + 1), label_end=i,
            average=0.0, divergence=0.0, transition=0.0, score=score,
        )
        for i, score in enumerate(scores)
    ]  # fmt: skip


# The two chains of the paper's first figure; it marks the second step and the third as the error.
@pytest.mark.parametrize(
    ("scores", "weakest", "earlier"),
    [
        ((1.70, 1.57, 1.71, 1.76), 1, 0),
        ((1.74, 1.72, 1.69, 1.89), 2, 1),
        ((1.0,), 0, 0),
        ((1.0, 1.0, 1.0), 0, 0),  # equal scores: the earlier step
        ((1.5, 1.4, 1.2, 1.3), 2, 2),
    ],
)
def test_cut_rules(scores, weakest, earlier):
    assert cut_step(_steps(*scores), rule="weakest") == weakest
    assert cut_step(_steps(*scores), rule="earlier_of_two_weakest") == earlier


def test_frozen_and_excluded_steps_are_no_candidates():
    steps = _steps(0.1, 0.9, 0.2, texts=["a", "b", "So The Answer is 3"])
    assert cut_step(steps, rule="weakest", first=1) == 2
    assert cut_step(steps, rule="weakest", first=1, exclude=("the answer is",)) == 1
    assert cut_step(steps, rule="weakest", first=2, exclude=("the answer is",)) is None
    assert cut_step([], rule="weakest") is None


def _a(*values):
    return [None if v is None else Fraction(v) for v in values]


@pytest.mark.parametrize(
    ("answers", "agree", "last", "weighted"),
    [
        ((1, 1), True, 1, 1),
        ((1, 2, 2), True, 2, 2),  # 2 against 1.5
        ((1, 2, 3, 3), True, 3, 3),
        ((1, 2, 1, 1), True, 1, 1),
        ((None, 2, 2), True, 2, 2),
        # After the last rethink the published programs vote too, and the first answer counts 1.5.
        ((0, 1, 0, 1), False, 1, 0),
        ((0, 1, 0, 2), False, 2, 0),
        ((0, 1, 2, 3), False, 3, 0),
        ((0, 1, 2, 1), False, 1, 1),
        ((5, None, 5, None), False, 5, 5),
        ((None, 1, None, 2), False, 2, 1),
        ((None, None), False, None, None),
    ],
)
def test_stop_and_final_rules(answers, agree, last, weighted):
    answers = _a(*answers)
    assert converged(answers, answers_equal) is agree
    stopped = "converged" if agree else "rounds"
    for rule, expected in (("last", last), ("weighted_vote", weighted)):
        assert final_answer(answers, answers_equal, rule=rule, stopped=stopped) == expected


@pytest.mark.parametrize("stopped", ["no_candidate", "hook"])
def test_there_is_no_vote_before_the_end(stopped):
    for answers, last in ((_a(1, 2, 3), 3), (_a(1, 2, None), 2), (_a(None), None), ([], None)):
        assert final_answer(answers, answers_equal, rule="weighted_vote", stopped=stopped) == last


@pytest.mark.parametrize(
    ("answers", "winner"),
    [
        ((3, 5, 5), 5),
        ((3, 5, 5, 3), 3),  # a tie goes to the first seen
        ((None, 5, 3, 3, 5), 5),
        ((None, None, None, 2), 2),  # what could not be read outvotes nobody
        ((1, 2, 3), 1),
        ((None, None), None),
        ((), None),
    ],
)
def test_the_majority_of_the_answers_that_could_be_read(answers, winner):
    assert vote(_a(*answers), answers_equal) == (None if winner is None else Fraction(winner))


def test_weights_add_up_over_equal_answers():
    answers = _a(3, 5, None, 5, 7)
    assert tally(answers, answers_equal, weights=[1.5, 1, 9, 0.25, 1]) == [
        Candidate(Fraction(3), 1.5), Candidate(Fraction(5), 1.25), Candidate(Fraction(7), 1),
    ]  # fmt: skip
    assert vote(answers, answers_equal, weights=[1.5, 1, 9, 0.25, 1]) == 3
    assert vote(answers, answers_equal, weights=[1.5, 1, 9, 0.75, 1]) == 5


def test_equality_is_the_callers():
    def close(a, b):
        return a is not None and b is not None and abs(a - b) < 0.1

    assert tally([1.0, 2.0, 1.05], close) == [Candidate(1.0, 2.0), Candidate(2.0, 1.0)]


def test_every_vote_needs_a_weight():
    with pytest.raises(ValueError, match="zip"):
        vote([1, 2], answers_equal, weights=[1.0])


def _chains(*logprobs):
    """Chains of the given token log-probabilities."""
    return [
        Round(
            text=str(p), answer=None, steps=[], kept=0, appended=0, sampled=len(p), finish="eos",
            sum_logprob=sum(p) if p else None,
            mean_logprob=sum(p) / len(p) if p else None,
            min_logprob=min(p) if p else None,
        )
        for p in logprobs
    ]  # fmt: skip


LOG2 = 0.6931472  # one half is one bit


def test_mass_adds_the_probabilities_of_different_chains():
    # 1/4 for 3; 1/8 + 1/8 + 1/16 for 5, of which one chain came twice and one has no figure.
    chains = _chains([-2 * LOG2], [-3 * LOG2], [-LOG2, -2 * LOG2], [-3 * LOG2], [], [-4 * LOG2])
    answers = _a(3, 5, 5, 5, 5, 5)
    found = masses(answers, answers_equal, chains)
    assert [c.weight for c in found] == pytest.approx([1.0, 0.5 + 0.5 + 0.25])
    choose = {"stopped": "samples", "rounds": chains}
    assert final_answer(answers, answers_equal, rule="mass", **choose) == 5
    assert final_answer(_a(3, 5, None, None, None, None), answers_equal, rule="mass", **choose) == 3
    assert final_answer(_a(*[None] * 6), answers_equal, rule="mass", **choose) is None


def test_mass_of_long_chains_does_not_underflow():
    chains = _chains([-2000.0], [-2000.0, -0.1], [-1999.9, -0.3])
    answers = _a(1, 2, 2)
    assert final_answer(answers, answers_equal, rule="mass", stopped="forks", rounds=chains) == 2


def test_the_best_chain_by_its_mean_or_its_weakest_token():
    chains = _chains([-0.1, -1.0], [-0.8, -0.8], [])
    answers = _a(1, 2, 3)
    for rule, best in (("mean_logprob", 1), ("weakest_token", 2), ("majority", 1)):
        found = final_answer(answers, answers_equal, rule=rule, stopped="forks", rounds=chains)
        assert found == best
    for rule in ("mean_logprob", "weakest_token"):
        options = {"rule": rule, "stopped": "forks", "rounds": chains[:1]}
        assert final_answer(_a(None), answers_equal, **options) is None
