import pytest

from leco_jax.evaluation.summary import (
    SUMMARY_COLUMNS,
    conclusions,
    format_table,
    summarise,
    wilson_interval,
)


def _row(name, *, correct, first, rounds, stopped="converged", answer="1"):
    return {
        "id": name, "method": "leco", "answer": answer, "correct": correct,
        "first_correct": first, "stopped": stopped, "independent": False, "error": None,
        "signal": "model",
        "rounds": [
            {"answer": "1", "sampled": s, "kept": k, "finish": "eos"} for s, k in rounds
        ],
    }  # fmt: skip


ROWS = [
    _row("a", correct=True, first=False, rounds=[(10, 0), (4, 6)]),
    _row("b", correct=False, first=False, rounds=[(20, 0)], stopped="no_candidate", answer=None),
    {"id": "c", "method": "leco", "correct": False, "error": "too long"},
    {"id": "a", "method": "cot", "answer": "1", "correct": None, "first_correct": None,
     "stopped": "single", "independent": True, "error": None, "signal": "model",
     "rounds": [{"answer": "1", "sampled": 10, "kept": 0, "finish": "eos"}]},
]  # fmt: skip


def test_accuracy_and_cost_worked_out_by_hand():
    lines = {line["method"]: line for line in summarise(ROWS)}
    assert set(lines) == {"leco, first pass", "leco", "cot"}
    leco = lines["leco"]
    assert (leco["problems"], leco["errors"], leco["unanswered"]) == (3, 1, 1)
    assert leco["correct"] == pytest.approx(1 / 3)  # what failed counts as wrong
    assert (leco["low"], leco["high"]) == wilson_interval(1, 3)
    assert leco["sampled"] == pytest.approx((10 + 4 + 20) / 2)
    assert leco["kept"] == pytest.approx(6 / 2)
    assert leco["rethinks"] == pytest.approx(1 / 2)
    assert leco["converged"] == pytest.approx(1 / 2)
    assert lines["leco, first pass"]["correct"] == 0
    assert (lines["leco, first pass"]["problems"], lines["leco, first pass"]["errors"]) == (3, 1)
    assert lines["leco, first pass"]["sampled"] == pytest.approx((10 + 20) / 2)
    assert lines["cot"]["correct"] is None  # no gold, no accuracy
    assert lines["cot"]["low"] is None
    for independent in ("cot", "leco, first pass"):
        assert lines[independent]["rethinks"] is None
        assert lines[independent]["converged"] is None


def test_a_failure_without_gold_is_neither_right_nor_wrong():
    (line,) = summarise([ROWS[3], {"id": "b", "method": "cot", "correct": None, "error": "no"}])
    assert (line["problems"], line["errors"], line["correct"]) == (2, 1, None)


def test_a_method_that_failed_everywhere_has_a_line():
    (line,) = summarise([{"id": "b", "method": "cot", "correct": False, "error": "no"}])
    assert (line["problems"], line["errors"], line["correct"]) == (1, 1, 0)


def test_passes_that_their_limit_ended_are_counted():
    row = _row("a", correct=True, first=None, rounds=[(9, 0), (9, 2), (4, 2)])
    for i in (0, 1):
        row["rounds"][i]["finish"] = "length"
    assert {line["method"]: line["truncated"] for line in summarise([row])} == {
        "leco, first pass": 1, "leco": 2,
    }  # fmt: skip


def test_a_first_pass_that_a_watch_ended_has_no_line_of_its_own():
    row = _row("a", correct=True, first=None, rounds=[(3, 0), (9, 2)])
    row["rounds"][0]["finish"] = "weak_step"
    assert [line["method"] for line in summarise([row])] == ["leco"]


def _samples(name, *, correct, count):
    rounds = [(7, 0)] * count
    row = _row(name, correct=correct, first=True, rounds=rounds, stopped="samples")
    return row | {"method": "self_consistency", "independent": True}


def test_samples_have_a_cost_and_neither_a_first_pass_nor_rethinks():
    (line,) = summarise([_samples("a", correct=True, count=10)])
    assert line["method"] == "self_consistency"
    assert line["sampled"] == 70
    assert (line["rethinks"], line["converged"]) == (None, None)


def test_gains_and_losses_are_counted_problem_by_problem_against_the_first_line():
    rows = [
        _row("a", correct=True, first=False, rounds=[(1, 0), (1, 0)]),
        _row("b", correct=True, first=False, rounds=[(1, 0), (1, 0)]),
        _row("c", correct=False, first=True, rounds=[(1, 0), (1, 0)]),
        _row("d", correct=True, first=True, rounds=[(1, 0), (1, 0)]),
        _samples("a", correct=False, count=2),
        _samples("c", correct=False, count=2),
        _samples("e", correct=True, count=2),  # the first line does not know it
    ]
    found = {line["method"]: (line["gained"], line["lost"]) for line in summarise(rows)}
    assert found == {"leco, first pass": (0, 0), "leco": (2, 1), "self_consistency": (0, 1)}


def test_p_is_of_the_gains_and_losses_and_the_first_line_has_none():
    lines = summarise(
        [_row(str(i), correct=True, first=False, rounds=[(1, 0), (1, 0)]) for i in range(6)]
    )
    assert [line["p"] for line in lines] == [None, 2 / 2**6]


def test_a_first_pass_that_a_line_before_shows_is_left_out():
    rows = [
        _row("a", correct=True, first=False, rounds=[(9, 0), (4, 2)]),
        _row("b", correct=True, first=True, rounds=[(8, 0), (4, 2)]),
    ]
    first = [
        row
        | {"method": "cot", "independent": True, "correct": row["first_correct"]}
        | {"rounds": row["rounds"][:1]}
        for row in rows
    ]
    assert [line["method"] for line in summarise([*first, *rows])] == ["cot", "leco"]
    dearer = [row | {"rounds": [row["rounds"][0] | {"sampled": 99}]} for row in first]
    found = [line["method"] for line in summarise([*dearer, *rows])]
    assert found == ["cot", "leco, first pass", "leco"]


def test_the_interval_of_a_share_is_wilsons():
    # Newcombe 1998, table I, method 3.
    assert wilson_interval(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert wilson_interval(15, 148) == pytest.approx((0.0624, 0.1605), abs=5e-5)
    assert wilson_interval(0, 20) == pytest.approx((0.0, 0.1611), abs=5e-5)
    assert wilson_interval(29, 29) == pytest.approx((0.8830, 1.0), abs=5e-5)
    (line,) = summarise([_row("a", correct=True, first=None, rounds=[(1, 0)])])[1:]
    assert (line["low"], line["high"]) == wilson_interval(1, 1)


def test_the_table_lines_up_and_shows_unknowns():
    text = format_table(summarise(ROWS), SUMMARY_COLUMNS).splitlines()
    assert text[0].split()[:3] == ["method", "signal", "problems"]
    assert text[3].startswith("cot ")
    assert text[3].split()[:5] == ["cot", "model", "1", "0", "-"]
    assert text[2].split()[4] == "33.3%"


def test_nothing_gives_an_empty_table():
    assert summarise([]) == []
    assert format_table([], SUMMARY_COLUMNS).split()[0] == "method"


def test_the_best_of_each_signal_is_said_with_its_cost():
    def line(method, signal, correct, sampled, p=0.5):
        return {
            "method": method, "signal": signal, "correct": correct, "sampled": sampled, "p": p,
        }  # fmt: skip

    cot = line("cot", "model", 0.75, 80.0, None)
    leco, fork = line("leco", "model", 0.7, 150.0), line("fork", "model", 0.765, 120.0, 0.012)
    checked = line("checked", "checks", 0.82, 100.0, 1e-9)
    tool = line("correct", "tool", 0.86, 96.0, 1e-20)
    samples = line("self_consistency", "model", 0.72, 240.0, 0.2)
    assert conclusions([cot, leco, checked, fork, tool, samples]) == [
        "By the model alone fork does best, against cot +1.5 points (p = 0.012) at 1.50 times its "
        "tokens; self_consistency has -3.0 points (p = 0.2) at 3.00 times its tokens.",
        "By checks checked does best, against cot +7.0 points (p = 1e-09) at 1.25 times its tokens."
        " By a tool correct does best, against cot +11.0 points (p = 1e-20) at 1.20 times its "
        "tokens.",
    ]
    assert conclusions([cot, samples]) == [
        "By the model alone self_consistency does best, against cot -3.0 points (p = 0.2) at 3.00 "
        "times its tokens."
    ]
    assert conclusions([cot]) == []
    assert conclusions([cot | {"correct": None}, leco]) == []
    assert conclusions([]) == []
