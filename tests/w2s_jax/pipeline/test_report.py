"""The page of a finished pipeline, made of hand-written artifacts."""

import json

import pytest

from w2s_jax.pipeline.artifacts import ArtifactStore
from w2s_jax.pipeline.graph import Graph, Stage
from w2s_jax.pipeline.report import model_rows, write_report

MODELS = {
    "weak": [0, 0, 1, 0],
    "weak_ft_1": [0, 1, 1, 0],
    "icl_ft_1": [1, 1, 1, 0],
    "hybrid_ft_1": [1, 1, 1, 0],
    "full_weak": [0, 1, 1, 0],
    "ceiling": [1, 1, 1, 1],
}
SELECT = {
    "questions": 9, "weak_unparsable": 1, "strong_unparsable": 2, "disagreeing": 3, "kept": 3,
    "padded": 0, "precision": {"correct": 2, "known": 3}, "weak_accuracy": {"correct": 3,
    "known": 9}, "icl_accuracy": {"correct": 6, "known": 9},
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


def scores(greedy):
    return {"greedy": greedy, "mean_of_samples": greedy, "pass_at_k": greedy, "any_of_k": greedy,
            "k": 2, "samples": 4, "unanswered": 0}  # fmt: skip


def store(directory, shift=0):
    table = {
        "questions": ["a", "b", "c", "d"],
        "scores": {m: scores([min(1, x + shift) for x in right]) for m, right in MODELS.items()},
        "rows": [{"model": m, "accuracy": sum(right) / 4} for m, right in MODELS.items()],
        "gathered": {
            "select_1": SELECT,
            "pairs": {"questions": 5, "pairs": 2, "chosen_words": None,
                      "chosen_accuracy": {"correct": 0, "known": 0}},
            "votes": {"votes": [VOTE]},
            "splits": {"duplicates": {"problems": 20, "dropped": 1}},
        },
        "notes": [],
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


def test_seeds_are_put_together(tmp_path):
    stores = {0: store(tmp_path / "seed0"), 1: store(tmp_path / "seed1", shift=1)}
    rows, notes = model_rows(stores)
    by_model = {row["model"]: row for row in rows}
    # Seed 1 answers all questions right: (0.25 + 1) / 2.
    assert by_model["weak"]["correct"].startswith("62.5%")
    # (0.875 - 0.625) / (1 - 0.625)
    assert by_model["hybrid_ft_1"]["PGR"] == "0.67"
    assert by_model["hybrid_ft_1"]["over full weak"] == "+12.5"
    assert notes[0].startswith("2 seeds, 4 test questions")
    page = write_report(tmp_path / "report.html", stores, {}).read_text()
    assert "Correct by seed" in page
    assert "Selection by agreement, seed 1" in page


def test_seeds_of_other_questions_are_refused(tmp_path):
    stores = {0: store(tmp_path / "seed0"), 1: store(tmp_path / "seed1")}
    path = tmp_path / "seed1" / "table" / "table.json"
    path.write_text(path.read_text().replace('"d"', '"e"'))
    with pytest.raises(ValueError, match="different test questions"):
        model_rows(stores)
