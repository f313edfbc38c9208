"""The page of a finished pipeline, made of hand-written artifacts."""

import json

import pytest

from w2s_jax.pipeline.artifacts import ArtifactStore
from w2s_jax.pipeline.graph import Graph, Stage
from w2s_jax.pipeline.report import model_columns, model_rows, write_report
from w2s_jax.pipeline.tabulate import Scores, score_rows

MODELS = {
    "weak": [0, 0, 1, 0],
    "weak_ft_1": [0, 1, 1, 0],
    "icl_ft_1": [1, 1, 1, 0],
    "hybrid_ft_1": [1, 1, 1, 0],
    "full_weak": [0, 1, 1, 0],
    "ceiling": [1, 1, 1, 1],
    "m_pro_dpo": [1, 1, 1, 1],
}
SELECT = {
    "questions": 9, "weak_unparsable": 1, "strong_unparsable": 2, "disagreeing": 3, "kept": 3,
    "demonstrations": 2, "padded": 0, "precision": {"correct": 2, "known": 3},
    "weak_accuracy": {"correct": 3, "known": 9}, "icl_accuracy": {"correct": 6, "known": 9},
}  # fmt: skip
VOTE = {
    "vote": "count", "confidence": "", "accuracy": 0.5, "confident": 4, "precision": 0.75,
    "pairs": 2, "chosen_accuracy": None, "rejected_accuracy": 0.25,
}  # fmt: skip
PAIR = {
    "id": "q", "question": "How many <b>nuts</b>?", "chosen": "Step 1: 2 < 3.", "rejected": "No.",
    "chosen_model": "hybrid_ft_1", "rejected_model": "weak", "chosen_answer": "2",
    "rejected_answer": None, "confidence": 0.9, "weak_side": "rejected",
}  # fmt: skip


def scores(greedy, samples=4):
    sampled = greedy if samples else []
    return {"greedy": greedy, "mean_of_samples": sampled, "pass_at_k": sampled,
            "any_of_k": sampled, "k": max(samples // 2, 1), "samples": samples,
            "unanswered": 0}  # fmt: skip


def store(directory, shift=0, samples=4, models=MODELS, resamples=300):
    found = {m: scores([min(1, x + shift) for x in right], samples) for m, right in models.items()}
    given = {model: Scores(**fields) for model, fields in found.items()}
    rows, notes = score_rows(given, resamples=resamples, seed=0)
    table = {
        "questions": ["a", "b", "c", "d"],
        "scores": found,
        "rows": rows,
        "gathered": {
            "select_1": SELECT,
            "pairs": {"questions": 5, "pairs": 2, "chosen_words": None,
                      "chosen_accuracy": {"correct": 0, "known": 0}},
            "votes": {"votes": [VOTE]},
            "splits": {"duplicates": {"problems": 20, "dropped": 1}},
        },
        "notes": notes,
        "resamples": resamples,
    }  # fmt: skip
    names = ("table", "pairs")
    graph = Graph([Stage(name=name, needs=(), settings={}, run=lambda work: {}) for name in names])
    for name in names:
        (directory / name).mkdir(parents=True)
    (directory / "table" / "table.json").write_text(json.dumps(table))
    (directory / "pairs" / "pairs.jsonl").write_text(json.dumps(PAIR) + "\n")
    return ArtifactStore(directory, graph)


def test_the_page_has_table_curves_funnel_votes_and_pairs(tmp_path):
    path = write_report(tmp_path / "report.html", {0: store(tmp_path / "seed0")}, {"seeds": [0]})
    page = path.read_text()
    for text in ("hybrid_ft_1", "75.0% ±", "Correct over the rounds", "<svg", "66.7%", "weighted"):
        assert (text in page) == (text != "weighted")
    assert "2 &lt; 3" in page
    assert "&lt;b&gt;nuts" in page
    assert "rejected (weak: None)" in page
    assert "Correct by seed" not in page
    assert "of them demonstrations" in page


def test_seeds_are_put_together(tmp_path):
    stores = {0: store(tmp_path / "seed0"), 1: store(tmp_path / "seed1", shift=1)}
    rows, notes = model_rows(stores)
    by_model = {row["model"]: row for row in rows}
    # Seed 1 answers all questions right: (0.25 + 1) / 2.
    assert by_model["weak"]["correct"].startswith("62.5%")
    # (0.875 - 0.625) / (1 - 0.625)
    assert by_model["hybrid_ft_1"]["PGR"] == "0.67"
    assert by_model["hybrid_ft_1"]["over full weak"] == "+12.5"
    # Seed 0 has one and three quarters of the answers right, seed 1 all.
    assert by_model["weak"]["seeds"] == "25.0 to 100.0"
    assert by_model["hybrid_ft_1"]["seeds"] == "75.0 to 100.0"
    # The last hybrid student is M_plus: 100 - 87.5.
    assert by_model["m_pro_dpo"]["over M_plus"] == "+12.5"
    assert by_model["hybrid_ft_1"]["over M_plus"] == "-"
    assert notes[0].startswith("2 seeds, 4 test questions")
    assert "over questions alone" in notes[0]
    assert "the range over the seeds stands beside" in notes[0]
    page = write_report(tmp_path / "report.html", stores, {}).read_text()
    assert "Correct by seed" in page
    # Seed 1 has no gap, for its weak model is at the ceiling: the median is seed 0's alone.
    assert "<td>0.67</td></tr>" in page.split("median PGR")[1]
    assert "Selection by agreement, seed 1" in page


def test_seeds_of_other_questions_are_refused(tmp_path):
    stores = {0: store(tmp_path / "seed0"), 1: store(tmp_path / "seed1")}
    path = tmp_path / "seed1" / "table" / "table.json"
    path.write_text(path.read_text().replace('"d"', '"e"'))
    with pytest.raises(ValueError, match="different test questions"):
        model_rows(stores)


def test_the_table_leaves_out_what_was_not_measured(tmp_path):
    models = {model: right for model, right in MODELS.items() if model != "ceiling"}
    rows, notes = model_rows({0: store(tmp_path, samples=0, models=models)})
    assert [head.strip() for head, _ in model_columns(rows)] == [
        "model", "correct", "over full weak", "95 %", "over M_plus", "95 %"
    ]  # fmt: skip
    assert "No strong ceiling" in notes[-1]
    assert "pass@k" not in notes[0]
    assert "PGR" not in notes[0]
    page = write_report(tmp_path / "report.html", {0: store(tmp_path / "s", models=models)}, {})
    assert "weak floor" in page.read_text()


def test_the_config_s_resamples_are_the_table_s_and_those_without_a_gap_are_shown(tmp_path):
    few, many = (
        model_rows({0: store(tmp_path / str(n), resamples=n)}) for n in (5, 3_000)
    )  # fmt: skip
    assert "(5 resamples)" in few[1][0]
    assert "(3,000 resamples)" in many[1][0]
    gap = "95 %"
    assert [row[gap] for row in few[0]] != [row[gap] for row in many[0]]
    # The gap is three of the four questions: absent with chance 1/4^4.
    (row,) = (row for row in many[0] if row["model"] == "hybrid_ft_1")
    assert row[gap].endswith("% undefined)")
    assert "Resamples without a gap (undefined) are left out" in many[1][0]
