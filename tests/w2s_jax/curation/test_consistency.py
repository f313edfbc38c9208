import hypothesis.strategies as st
import pytest
from hypothesis import given

from tests.w2s_jax.curation.written import answer
from w2s_jax.curation import Share, select_consistent, training_rows


def _sets(*triples, gold=True):
    """Both sets from (weak value, strong value, gold value) a question."""
    ids = [f"q{i}" for i in range(len(triples))]
    golds = [{"gold": str(g)} if gold and g is not None else {} for _, _, g in triples]
    weak = [
        answer(i, w, words="Weak. ", **g)
        for i, (w, _, _), g in zip(ids, triples, golds, strict=True)
    ]
    icl = [
        answer(i, s, model="strong", words="Strong. ")
        for i, (_, s, _) in zip(ids, triples, strict=True)
    ]
    return weak, icl


TRIPLES = [
    (1, 1, 1),  # kept, right
    (2, 2, 5),  # kept, wrong
    (None, 3, 3),  # no weak answer
    (None, None, 3),  # neither: counted with the weak ones
    (4, None, 4),  # no strong answer
    (5, 6, 5),  # they differ, the weak one is right
    (7, 8, 8),  # they differ, the strong one is right
    ("1/2", "0.5", None),  # one value in two spellings; gold unknown
]


def test_the_funnel_by_hand():
    weak, icl = _sets(*TRIPLES)
    found = select_consistent(weak, icl)
    funnel = found.funnel
    assert [s.weak.id for s in found.questions] == ["q0", "q1", "q7"]
    assert all(s.consistent for s in found.questions)
    assert (found.weak_model, found.icl_model) == ("weak", "strong")
    counts = ("questions", "weak_unparsable", "strong_unparsable", "disagreeing", "kept", "padded")
    assert [getattr(funnel, name) for name in counts] == [8, 2, 1, 2, 3, 0]
    assert funnel.precision == Share(1, 2)
    assert funnel.weak_accuracy == Share(3, 7)  # q0, q4, q5
    assert funnel.icl_accuracy == Share(3, 7)  # q0, q2, q6
    assert (funnel.precision.value, str(funnel.precision)) == (0.5, "50.00% of 2")


def test_the_order_of_the_strong_answers_does_not_matter_and_gold_is_never_used():
    weak, icl = _sets(*TRIPLES)
    blind, blind_icl = _sets(*TRIPLES, gold=False)
    with_gold = select_consistent(weak, icl[::-1], pad_to=4)
    without = select_consistent(blind, blind_icl, pad_to=4)
    assert training_rows(with_gold, "hybrid") == training_rows(without, "hybrid")
    assert without.funnel.precision == Share(0, 0)
    assert without.funnel.precision.value is None
    assert str(without.funnel.precision) == "gold unknown"


def test_training_rows_of_each_set():
    selection = select_consistent(*_sets(*TRIPLES[:3]))
    weak, icl = training_rows(selection, "weak"), training_rows(selection, "icl")
    assert weak[1] == {
        "id": "q1", "question": "What is q1?", "solution": "Weak. #### 2", "model": "weak",
        "source": "weak", "consistent": True,
    }  # fmt: skip
    assert icl[0]["solution"] == "Strong. #### 1"
    assert (icl[0]["model"], icl[0]["source"]) == ("strong", "icl")
    assert training_rows(selection, "hybrid") == [weak[0], icl[0], weak[1], icl[1]]
    with pytest.raises(ValueError, match="No training set 'both'"):
        training_rows(selection, "both")


def test_padding_adds_readable_questions_that_differ():
    weak, icl = _sets(*TRIPLES)
    found = select_consistent(weak, icl, pad_to=4)
    assert found.funnel.padded == 1
    assert len(found.questions) == 4
    (added,) = [s for s in found.questions if not s.consistent]
    assert added.weak.id in ("q5", "q6")
    assert [s.weak.id for s in found.questions] == sorted(s.weak.id for s in found.questions)
    # Both of them, and no more than there are; precision is still that of the consistent ones.
    everything = select_consistent(weak, icl, pad_to=100)
    assert [s.weak.id for s in everything.questions] == ["q0", "q1", "q5", "q6", "q7"]
    assert everything.funnel.padded_weak == everything.funnel.padded_icl == Share(1, 2)
    assert everything.funnel.precision == Share(1, 2)
    assert {row["consistent"] for row in training_rows(everything, "weak")} == {True, False}
    assert select_consistent(weak, icl, pad_to=2).funnel.padded == 0


def test_padding_is_drawn_by_the_seed():
    weak, icl = _sets(*[(i, i + 1, None) for i in range(200)])

    def added(seed):
        found = select_consistent(weak, icl, pad_to=20, seed=seed).questions
        return {s.weak.id for s in found}

    assert added(1) == added(1) != added(2)
    # 20 of 200 drawn twice share 2 on average.
    assert len(added(1) & added(2)) < 10


def test_bad_sets_are_refused():
    weak, icl = _sets(*TRIPLES[:2])
    with pytest.raises(ValueError, match="strong answers come from 2 models"):
        select_consistent(weak, [icl[0], answer("q1", 2, model="other")])
    with pytest.raises(ValueError, match="answer different questions"):
        select_consistent(weak, icl[:1])
    with pytest.raises(ValueError, match="each question must have one answer"):
        select_consistent([*weak, answer("q0", 1, sample=1)], icl)
    with pytest.raises(ValueError, match="two gold answers, 1 and 9"):
        select_consistent(weak, [answer("q0", 1, model="strong", gold="9"), icl[1]])
    with pytest.raises(ValueError, match="pad_to=-1"):
        select_consistent(weak, icl, pad_to=-1)


values = st.sampled_from([None, 1, 2, "3/2", "1.5"])


@given(st.lists(st.tuples(values, values, values), min_size=1, max_size=12), st.integers(0, 9))
def test_every_question_has_one_fate_and_what_is_kept_agrees(triples, pad_to):
    found = select_consistent(*_sets(*triples), pad_to=pad_to)
    funnel = found.funnel
    assert (
        funnel.questions
        == len(triples)
        == (funnel.weak_unparsable + funnel.strong_unparsable + funnel.disagreeing + funnel.kept)
    )
    assert len(found.questions) == funnel.kept + funnel.padded
    assert funnel.padded == min(max(pad_to - funnel.kept, 0), funnel.disagreeing)
    for question in found.questions:
        assert question.weak.id == question.icl.id
        assert None not in (question.weak.value, question.icl.value)
        assert (question.weak.value == question.icl.value) == question.consistent
    order = [int(s.weak.id[1:]) for s in found.questions]
    assert order == sorted(order)
