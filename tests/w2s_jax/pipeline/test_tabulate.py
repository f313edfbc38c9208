import pytest

from w2s_jax.curation import Answer
from w2s_jax.pipeline.graph import StageError
from w2s_jax.pipeline.tabulate import Scores, average_scores, grade, last_hybrid, score_rows


def answer(name, sample, value, gold="4"):
    return Answer(
        id=name, question=f"{name}?", response=str(value), model="m", sample=sample, gold=gold,
        value=value,
    )  # fmt: skip


def scores(greedy):
    return Scores(
        greedy=greedy, mean_of_samples=[], pass_at_k=[], any_of_k=[], k=1, samples=0, unanswered=0
    )


def test_greedy_and_samples_are_told_apart():
    rows = [answer("a", s, v) for s, v in enumerate((4, 4, 3, 4, None))]
    rows += [answer("b", s, v) for s, v in enumerate((None, 3, 3, 4, 3))]
    ids, found = grade(rows, kind="number", stage="eval_x")
    assert ids == ["a", "b"]
    assert found.greedy == [1, 0]
    assert found.mean_of_samples == [0.5, 0.25]
    # k = 2 of 4 samples: 1 - C(2,2)/C(4,2) and 1 - C(3,2)/C(4,2).
    assert found.k == 2
    assert found.pass_at_k == pytest.approx([5 / 6, 1 / 2])
    assert found.any_of_k == [1, 1]
    assert found.unanswered == 1


def test_a_question_without_gold_is_named():
    with pytest.raises(StageError, match="'eval_x': question a has no gold"):
        grade([answer("a", 0, 4, gold=None)], kind="number", stage="eval_x")


def test_rows_have_the_gap_recovered_and_the_gain_over_full_weak():
    rows, notes = score_rows(
        {
            "weak": scores([1, 0, 0, 0]),
            "full_weak": scores([1, 1, 0, 0]),
            "hybrid_ft_1": scores([1, 1, 1, 0]),
            "ceiling": scores([1, 1, 1, 1]),
        },
        resamples=200,
        seed=0,
    )
    by_model = {row["model"]: row for row in rows}
    assert by_model["hybrid_ft_1"]["pgr"]["value"] == pytest.approx(2 / 3)
    assert by_model["hybrid_ft_1"]["beyond_full_weak"]["value"] == pytest.approx(0.25)
    assert by_model["full_weak"]["pgr"]["value"] == pytest.approx(1 / 3)
    assert by_model["weak"]["pgr"] is None
    assert by_model["ceiling"]["pgr"] is None
    assert by_model["ceiling"]["beyond_m_plus"]["value"] == pytest.approx(0.25)
    assert by_model["hybrid_ft_1"]["beyond_m_plus"] is None
    assert by_model["weak"]["accuracy"] == 0.25
    assert notes == []


def test_m_plus_is_the_last_hybrid_student_and_the_comparison_is_paired():
    assert last_hybrid(["weak", "hybrid_ft_9", "hybrid_ft_10", "full_weak"]) == "hybrid_ft_10"
    assert last_hybrid(["weak"]) is None
    rows, _ = score_rows(
        {
            "weak": scores([0] * 8),
            "hybrid_ft_1": scores([1, 0] * 4),
            "full_weak": scores([0] * 8),
            # Better by two points in a hundred on every question: no doubt is left.
            "m_pro_dpo": scores([1, 0.02] * 4),
        },
        resamples=500,
        seed=0,
    )
    found = rows[-1]["beyond_m_plus"]
    assert found["value"] == pytest.approx(0.01)
    assert 0 <= found["low"] <= found["high"] <= 0.02


def test_a_weak_model_above_the_ceiling_leaves_no_gap_and_is_said():
    rows, notes = score_rows(
        {"weak": scores([1, 1]), "full_weak": scores([1, 0]), "ceiling": scores([1, 0])},
        resamples=20,
        seed=0,
    )
    assert all(row["pgr"] is None for row in rows)
    assert "undefined" in notes[0]
    assert "100.0%" in notes[0]


def test_seeds_are_averaged_question_by_question():
    def table(greedy, questions=("a", "b")):
        one = {"greedy": greedy, "mean_of_samples": [], "pass_at_k": [], "any_of_k": [], "k": 1,
               "samples": 0, "unanswered": sum(greedy)}  # fmt: skip
        return {"questions": list(questions), "scores": {"weak": one}}

    found = average_scores([table([1, 0]), table([1, 1])])
    assert found["weak"].greedy == [1, 0.5]
    assert found["weak"].unanswered == 1.5
    with pytest.raises(ValueError, match="different test questions"):
        average_scores([table([1, 0]), table([1, 1], questions=("a", "c"))])


def test_without_a_ceiling_there_is_no_gap_and_that_is_said():
    rows, notes = score_rows(
        {"weak": scores([1, 0]), "full_weak": scores([1, 0]), "hybrid_ft_1": scores([1, 1])},
        resamples=20,
        seed=0,
    )
    assert all(row["pgr"] is None for row in rows)
    assert rows[2]["beyond_full_weak"]["value"] == 0.5
    assert "No strong ceiling" in notes[0]
