from fractions import Fraction

import pytest

from leco_jax.reasoning.scored_chain import ScoredStep
from leco_jax.reasoning.selection import converged, cut_step, final_answer
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
    ("answers", "agree", "last", "vote"),
    [
        ((1,), False, 1, 1),
        ((1, 2), False, 2, 2),
        ((1, 1), True, 1, 1),
        ((1, 2, 2), True, 2, 2),  # 2 against 1.5
        ((1, 2, 3, 3), True, 3, 3),
        ((1, 2, 1, 2), False, 2, 2),  # no agreement: the vote is not held
        ((1, 2, 1, 1), True, 1, 1),
        ((None, None), False, None, None),
        ((None, 2, 2), True, 2, 2),
    ],
)
def test_stop_and_final_rules(answers, agree, last, vote):
    answers = _a(*answers)
    assert converged(answers, answers_equal) is agree
    assert final_answer(answers, answers_equal, rule="last") == (None if last is None else last)
    assert final_answer(answers, answers_equal, rule="weighted_vote") == vote
