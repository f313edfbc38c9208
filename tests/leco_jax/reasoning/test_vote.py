from fractions import Fraction

import pytest

from leco_jax.reasoning.vote import Candidate, tally, vote
from leco_jax.text.answers import answers_equal


def _a(*values):
    return [None if v is None else Fraction(v) for v in values]


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
