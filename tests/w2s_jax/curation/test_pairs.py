import collections
import dataclasses

import hypothesis.strategies as st
import pytest
from hypothesis import given

from tests.w2s_jax.curation.written import answer, draws
from w2s_jax.curation import PAIR_RULES, PairRule, Share, build_pairs

RULE = PAIR_RULES["official_code"]


def _fates(funnel):
    names = (
        "questions", "no_weak_row", "top_empty", "below_threshold", "below_second_threshold",
        "no_negatives", "kept",
    )  # fmt: skip
    return [getattr(funnel, name) for name in names]


def test_the_presets():
    paper = PAIR_RULES["paper"]
    assert (paper.threshold, paper.weak_rejected_threshold) == (0.6, 0.6)
    assert (RULE.threshold, RULE.weak_rejected_threshold) == (0.6, 0.8)
    assert all((r.pairs_per_question, r.seed) == (1, 42) for r in PAIR_RULES.values())


def test_a_weak_answer_that_the_samples_share_is_chosen():
    weak = answer("q", 1, words="Weak: ")
    found = build_pairs([weak], draws("q", 1, 1, 1, 2, 1), RULE)
    assert found.rows == [
        {
            "id": "q", "question": "What is q?", "chosen": "Weak: #### 1",
            "rejected": "Try d: #### 2", "chosen_model": "weak", "rejected_model": "strong",
            "chosen_answer": "1", "rejected_answer": "2", "confidence": 0.8,
            "weak_side": "chosen",
        }
    ]  # fmt: skip


def test_a_weak_answer_that_they_do_not_share_is_rejected():
    weak = answer("q", 2, words="Weak: ")
    (row,) = build_pairs([weak], draws("q", 1, 3, 1, 1, 1), RULE).rows
    assert (row["rejected"], row["weak_side"]) == ("Weak: #### 2", "rejected")
    assert row["chosen"] in {f"Try {i}: #### 1" for i in "acde"}
    assert (row["chosen_model"], row["rejected_model"]) == ("strong", "weak")
    # So is one that cannot be read.
    (row,) = build_pairs([answer("q", None)], draws("q", 1, 3, 1, 1, 1), RULE).rows
    assert (row["weak_side"], row["rejected_answer"]) == ("rejected", None)


def test_the_second_threshold_counts_for_rejecting_the_weak_answer_only():
    for values, weak, official, paper in [
        ((1, 1, 1, 2, 2), 1, 1, 1),  # 0.6, shared
        ((1, 1, 1, 2, 2), 2, 0, 1),  # 0.6, not shared
        ((1, 1, 1, 1, 2), 2, 1, 1),  # 0.8, not shared
        ((1, 1, 2, 2, 3), 1, 0, 0),  # 0.4
    ]:
        samples = draws("q", *values)
        assert len(build_pairs([answer("q", weak)], samples, RULE).rows) == official
        assert len(build_pairs([answer("q", weak)], samples, PAIR_RULES["paper"]).rows) == paper


def test_the_funnel_by_hand():
    weak = [
        answer("kept", 1, words="two words ", gold="1"),
        answer("other", 9, words="now three words ", gold="2"),
        answer("agree", 5),
        answer("unsure", 1),
        answer("empty", 1),
        answer("close", 2),
        answer("unasked", 1),
        answer("blank", None, response=" "),
    ]
    samples = [
        *draws("kept", 1, 1, 1, None),
        *draws("agree", 5, 5, 5),
        *draws("unsure", 1, 2),
        *draws("empty", None, None, 1),
        *draws("close", 1, 1, 2),
        *draws("new", 1),
        *draws("other", 2, 2),
        *draws("blank", 3, 3),
    ]
    found = build_pairs(weak, samples, RULE)
    # Two have no weak response to pair with: "new", and "blank", which wrote nothing.
    assert _fates(found.funnel) == [8, 2, 1, 1, 1, 1, 2]
    assert (found.funnel.pairs, found.funnel.weak_chosen) == (2, 1)
    assert found.funnel.without_samples == 1
    assert [row["id"] for row in found.rows] == ["kept", "other"]
    assert found.funnel.chosen_accuracy == Share(2, 2)
    assert found.funnel.rejected_accuracy == Share(0, 2)
    # "two words #### 1" and "Try a: #### 2"; "Try d: I give up." and "now three words #### 9".
    assert (found.funnel.chosen_words, found.funnel.rejected_words) == (4.0, 5.0)
    nothing = build_pairs(weak[2:3], draws("agree", 5), RULE)
    assert (nothing.rows, nothing.funnel.chosen_words) == ([], None)


def test_several_pairs_have_different_texts():
    same = [answer("q", 1, model="strong", sample=i, words="Same. ") for i in range(6)]
    other = answer("q", 1, model="strong", sample=6, words="Other. ")
    rule = dataclasses.replace(RULE, pairs_per_question=3)
    rows = build_pairs([answer("q", 2)], [*same, other], rule).rows
    assert sorted(row["chosen"] for row in rows) == ["Other. #### 1", "Same. #### 1"]
    # The same on the rejected side: seven different texts to draw three of.
    samples = draws("q", *[1] * 11, *range(2, 9))
    rows = build_pairs([answer("q", 1)], samples, rule).rows
    assert len({row["rejected"] for row in rows}) == 3
    assert {row["chosen"] for row in rows} == {"#### 1"}


def test_samples_are_drawn_as_often_as_they_occur():
    counts = collections.Counter()
    for i in range(400):
        texts = ["Often. "] * 3 + ["Seldom. "]
        samples = [
            answer(f"q{i}", 1, model="strong", sample=n, words=text) for n, text in enumerate(texts)
        ]
        (row,) = build_pairs([answer(f"q{i}", 2)], samples, RULE).rows
        counts[row["chosen"]] += 1
    assert 270 < counts["Often. #### 1"] < 330  # 300 expected, deviation 8.7


def test_an_empty_sample_is_no_response_to_reject():
    samples = [*draws("q", 1, 1, 1), answer("q", None, model="strong", sample=3, response="")]
    assert build_pairs([answer("q", 1)], samples, RULE).funnel.no_negatives == 1


def test_a_vote_by_confidence_decides_other_questions():
    samples = [
        answer("q", value, model="strong", sample=i, words="A try: ", confidence=c)
        for i, (value, c) in enumerate([(1, 9.0), (2, 0.0), (2, 0.0), (2, 0.0)])
    ]
    (by_count,) = build_pairs([answer("q", 1)], samples, PAIR_RULES["paper"]).rows
    rule = PairRule(vote="cisc")
    (by_confidence,) = build_pairs([answer("q", 1)], samples, rule).rows
    assert (by_count["weak_side"], by_confidence["weak_side"]) == ("rejected", "chosen")
    # The temperature reaches the vote: hot enough, it counts.
    hot = dataclasses.replace(rule, temperature=1e6)
    assert build_pairs([answer("q", 1)], samples, hot).rows[0]["weak_side"] == "rejected"


def test_a_published_mix_of_weak_models_is_refused():
    weak = [answer("a", 1, model="Mistral-7b"), answer("b", 1, model="Gemma-2b")]
    samples = [*draws("a", 1, 1, 2), *draws("b", 1, 1, 2)]
    with pytest.raises(ValueError, match=r"weak answers come from 2 models: 'Mistral-7b' \(1\)"):
        build_pairs(weak, samples, RULE)
    with pytest.raises(ValueError, match="samples come from 2 models"):
        build_pairs(weak[:1], [*draws("a", 1), *draws("a", 1, model="again")], RULE)


def test_files_that_do_not_belong_together_are_refused():
    with pytest.raises(ValueError, match=r"None of the 1 questions.*begin with 'b'.*with 'a'"):
        build_pairs([answer("a", 1)], draws("b", 1), RULE)
    with pytest.raises(ValueError, match="different questions"):
        build_pairs([answer("a", 1)], draws("a", 1, question="Another?"), RULE)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"threshold": 1.1}, r"threshold=1.1 must be in 0..1"),
        ({"threshold": float("nan")}, "threshold=nan"),
        ({"threshold": 0.7}, "weak_rejected_threshold=0.6 is below threshold=0.7"),
        ({"pairs_per_question": 4}, "must be 1, 2 or 3"),
        ({"vote": "loud"}, "No vote 'loud'"),
    ],
)
def test_impossible_rules_are_refused(options, reason):
    with pytest.raises(ValueError, match=reason):
        PairRule(**options)


values = st.sampled_from([None, None, 1, 1, 2, 3])
questions = st.lists(
    st.tuples(values, st.lists(values, min_size=1, max_size=8)), min_size=1, max_size=6
)
rules = st.builds(
    PairRule,
    threshold=st.sampled_from([0.0, 0.5]),
    weak_rejected_threshold=st.sampled_from([0.5, 0.8]),
    pairs_per_question=st.sampled_from([1, 2, 3]),
    vote=st.sampled_from(["count", "weighted", "cisc"]),
    seed=st.integers(0, 3),
)


def _both(found):
    weak = [answer(f"q{i}", value, words="Weak: ") for i, (value, _) in enumerate(found)]
    # Few different texts, so that some are repeated.
    samples = [
        answer(
            f"q{i}",
            value,
            model="strong",
            sample=n,
            words=f"Way {'xyz'[n % 3]}: ",
            confidence=n % 4,
        )
        for i, (_, group) in enumerate(found)
        for n, value in enumerate(group)
    ]
    return weak, samples


@given(questions, rules)
def test_the_invariants_of_pairs(found, rule):
    weak, samples = _both(found)
    pairs = build_pairs(weak, samples, rule)
    by_id = collections.defaultdict(list)
    for row in pairs.rows:
        by_id[row["id"]].append(row)
        assert row["chosen_answer"] is not None
        assert row["chosen_answer"] != row["rejected_answer"]
        assert row["confidence"] >= rule.threshold
        if row["weak_side"] == "rejected":
            assert row["confidence"] >= rule.weak_rejected_threshold
    order = [int(id_[1:]) for id_ in by_id]
    assert order == sorted(order)
    for id_, rows in by_id.items():
        (side,) = {row["weak_side"] for row in rows}
        other = "rejected" if side == "chosen" else "chosen"
        assert {row[side] for row in rows} == {weak[int(id_[1:])].response}
        assert {row[f"{side}_model"] for row in rows} == {"weak"}
        assert {row[f"{other}_model"] for row in rows} == {"strong"}
        assert len({row[other] for row in rows}) == len(rows) <= rule.pairs_per_question
    counts = _fates(pairs.funnel)
    assert counts[0] == sum(counts[1:])
    assert (pairs.funnel.kept, pairs.funnel.pairs) == (len(by_id), len(pairs.rows))
    assert build_pairs(weak, samples, rule) == pairs
    # A question's pairs do not depend on the others.
    for i in range(len(found)):
        alone = build_pairs(weak[i : i + 1], [s for s in samples if s.id == f"q{i}"], rule)
        assert alone.rows == by_id[f"q{i}"]


def test_another_seed_draws_other_samples():
    weak = [answer(f"q{i}", 1) for i in range(20)]
    samples = [s for i in range(20) for s in draws(f"q{i}", 2, 2, 2, 2, 2)]

    def chosen(seed):
        return [row["chosen"] for row in build_pairs(weak, samples, PairRule(seed=seed)).rows]

    assert chosen(1) == chosen(1) != chosen(2)
