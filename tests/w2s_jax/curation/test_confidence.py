import math

import hypothesis.strategies as st
import pytest
from hypothesis import given

from tests.w2s_jax.curation.written import answer, draws
from w2s_jax.curation import VOTE_METHODS, Share, compare_votes, vote, vote_rows


def _scored(*pairs):
    return [
        answer("q", value, sample=i, confidence=confidence)
        for i, (value, confidence) in enumerate(pairs)
    ]


@pytest.mark.parametrize(
    ("values", "answer", "confidence"),
    [
        ((7,), 7, 1.0),
        ((1, 2, 2), 2, 2 / 3),
        ((1, 2, 2, 1), 1, 0.5),  # a tie: the first seen
        ((1, None, None), None, 2 / 3),  # the empty answer is a candidate
        ((None, 1), None, 0.5),
        ((1, None), 1, 0.5),
        (("1/2", 3, "0.50", 3, ".5"), 0.5, 0.6),  # equal values, not equal texts
    ],
)
def test_counting(values, answer, confidence):
    samples = draws("q", *values)
    found = vote(samples)
    assert (found.answer, found.confidence) == (answer, confidence)
    assert [s.value == answer for s in found.supporters] == [True] * len(found.supporters)
    assert len(found.supporters) == round(confidence * len(samples))
    assert sorted([*found.supporters, *found.others], key=lambda s: s.sample) == samples


def test_weights_are_scaled_to_the_range_of_the_question():
    # -4 -> 0, -3 -> 1/4, -1 -> 3/4, 0 -> 1.
    samples = _scored((1, -4.0), (1, -3.0), (2, 0.0), (None, -1.0))
    found = vote(samples, method="weighted")
    assert (found.answer, found.confidence) == (2, pytest.approx(1 / 2))
    assert found.supporters == (samples[2],)
    assert vote(samples).answer == 1
    # Without any difference every vote counts the same.
    level = vote(_scored((1, 3.0), (2, 3.0), (2, 3.0)), method="weighted")
    assert (level.answer, level.confidence) == (2, pytest.approx(2 / 3))


def test_cisc_is_a_softmax_of_the_confidences():
    samples = _scored((1, math.log(2)), (2, math.log(3)), (1, math.log(2)))
    found = vote(samples, method="cisc")
    assert (found.answer, found.confidence) == (1, pytest.approx(4 / 7))
    # At half the temperature the weights are squared: 4, 9, 4.
    found = vote(samples, method="cisc", temperature=0.5)
    assert (found.answer, found.confidence) == (2, pytest.approx(9 / 17))
    # Nothing overflows.
    assert vote(_scored((1, 1e6), (2, -1e6)), method="cisc").confidence == 1.0


def test_what_cannot_be_voted_on_is_refused():
    samples = draws("q", 1, 2)
    for method in ("weighted", "cisc"):
        with pytest.raises(ValueError, match="id 'q', sample 0, has no 'confidence'"):
            vote(samples, method=method)
    with pytest.raises(ValueError, match="No vote 'loud'"):
        vote(samples, method="loud")
    with pytest.raises(ValueError, match="several questions"):
        vote([*samples, *draws("p", 1)])
    with pytest.raises(ValueError, match="no samples"):
        vote([])
    with pytest.raises(ValueError, match="temperature=0"):
        vote(_scored((1, 1.0)), method="cisc", temperature=0)


pairs = st.tuples(st.sampled_from([None, 1, 2, 3]), st.floats(-50, 50))


@given(st.lists(pairs, min_size=1, max_size=10), st.sampled_from(VOTE_METHODS))
def test_the_winner_has_the_largest_share(found, method):
    samples = _scored(*found)
    outcome = vote(samples, method=method)
    assert 0 < outcome.confidence <= 1
    assert outcome.confidence >= 1 / len({value for value, _ in found}) - 1e-9
    assert len(outcome.supporters) + len(outcome.others) == len(samples)
    assert {s.value for s in outcome.supporters} == {outcome.answer}
    assert outcome.answer not in {s.value for s in outcome.others}


def test_rows_and_what_a_threshold_leaves_out():
    samples = [
        *draws("a", 1, 1, 1, 2, gold="1"),
        *draws("b", 1, 2, 3, 4),
        *draws("c", None, None, 1, 1, gold="3"),
    ]
    rows = vote_rows(samples)
    assert rows[0] == {
        "id": "a", "question": "What is a?", "answer": "1", "confidence": 0.75, "supporters": 3,
        "samples": 4, "model": "strong", "correct": True,
    }  # fmt: skip
    assert [(r["answer"], r["correct"]) for r in rows[1:]] == [("1", None), (None, False)]
    assert [r["id"] for r in vote_rows(samples, threshold=0.25)] == ["a", "b"]
    assert [r["id"] for r in vote_rows(samples, threshold=0.75)] == ["a"]
    with pytest.raises(ValueError, match="samples come from 2 models"):
        vote_rows([*samples, *draws("d", 1, model="another")])


def test_methods_are_compared_on_the_same_samples():
    def question(id_, *pairs):
        return [
            answer(id_, value, sample=i, confidence=c, gold="1")
            for i, (value, c) in enumerate(pairs)
        ]

    samples = [
        *question("a", (1, 9.0), (2, 0.0), (2, 0.0)),  # most are wrong, the surest is right
        *question("b", (1, 1.0), (1, 1.0), (2, 1.0)),
        *question("c", (None, 5.0), (None, 5.0), (1, 4.0)),
    ]
    count, weighted = compare_votes(samples, threshold=2 / 3, methods=("count", "weighted"))
    assert (count.method, count.questions, count.answered, count.confident) == ("count", 3, 2, 2)
    assert (count.accuracy, count.precision) == (Share(1, 3), Share(1, 2))
    assert (weighted.answered, weighted.confident) == (2, 2)
    assert (weighted.accuracy, weighted.precision) == (Share(2, 3), Share(2, 2))
