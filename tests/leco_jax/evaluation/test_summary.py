import pytest

from leco_jax.evaluation.summary import SUMMARY_COLUMNS, format_table, summarise


def _row(name, *, correct, first, rounds, stopped="converged", answer="1"):
    return {
        "id": name, "method": "leco", "answer": answer, "correct": correct,
        "first_correct": first, "stopped": stopped, "error": None,
        "rounds": [
            {"answer": "1", "sampled": s, "kept": k, "finish": "eos"} for s, k in rounds
        ],
    }  # fmt: skip


ROWS = [
    _row("a", correct=True, first=False, rounds=[(10, 0), (4, 6)]),
    _row("b", correct=False, first=False, rounds=[(20, 0)], stopped="no_candidate", answer=None),
    {"id": "c", "method": "leco", "error": "too long"},
    {"id": "a", "method": "cot", "answer": "1", "correct": None, "first_correct": None,
     "stopped": "single", "error": None,
     "rounds": [{"answer": "1", "sampled": 10, "kept": 0, "finish": "eos"}]},
]  # fmt: skip


def test_accuracy_and_cost_worked_out_by_hand():
    lines = {line["method"]: line for line in summarise(ROWS)}
    assert set(lines) == {"leco, first pass", "leco", "cot"}
    leco = lines["leco"]
    assert (leco["problems"], leco["errors"], leco["unanswered"]) == (3, 1, 1)
    assert leco["correct"] == pytest.approx(1 / 2)
    assert leco["sampled"] == pytest.approx((10 + 4 + 20) / 2)
    assert leco["kept"] == pytest.approx(6 / 2)
    assert leco["rethinks"] == pytest.approx(1 / 2)
    assert leco["converged"] == pytest.approx(1 / 2)
    assert lines["leco, first pass"]["correct"] == 0
    assert lines["leco, first pass"]["sampled"] == pytest.approx((10 + 20) / 2)
    assert lines["cot"]["correct"] is None  # no gold, no accuracy


def test_a_first_pass_that_a_watch_ended_has_no_line_of_its_own():
    row = _row("a", correct=True, first=None, rounds=[(3, 0), (9, 2)])
    row["rounds"][0]["finish"] = "weak_step"
    assert [line["method"] for line in summarise([row])] == ["leco"]


def test_the_table_lines_up_and_shows_unknowns():
    text = format_table(summarise(ROWS), SUMMARY_COLUMNS).splitlines()
    assert text[0].split()[:3] == ["method", "problems", "errors"]
    assert text[3].startswith("cot ")
    assert text[3].split()[3] == "-"
    assert text[2].split()[3] == "50.0%"


def test_nothing_gives_an_empty_table():
    assert summarise([]) == []
    assert format_table([], SUMMARY_COLUMNS).split()[0] == "method"
