import math
import types

import pytest

from leco_jax.evaluation.stored_votes import RULES, borda, cisc, stored_votes


def _chain(answer, *, mean, text="", total=-1.0):
    return {
        "text": text or f"{answer} {mean}", "answer": answer, "sampled": 5,
        "sum_logprob": total, "mean_logprob": mean, "min_logprob": mean,
    }  # fmt: skip


def _rounds(*chains):
    rounds = [types.SimpleNamespace(**chain) for chain in chains]
    return [chain.answer for chain in rounds], rounds


def test_cisc_weighs_votes_by_a_softmax():
    # Weights 1, and twice exp(-0.1 / 0.1) = 0.368: one sure chain against two that are less so.
    sample = _rounds(
        _chain("3", mean=-0.1), _chain("5", mean=-0.2), _chain("5", mean=-0.2, text="x")
    )
    assert cisc(*sample) == "3"
    assert cisc(*sample, temperature=1.0) == "5"
    assert cisc(*_rounds(_chain(None, mean=None))) is None


def test_borda_weighs_votes_by_rank():
    # Ranks 1 to 4 weigh 4, 3, 2, 1: 4 + 1 for "3" against 3 + 2 for "5", a tie to the first seen.
    chains = [
        _chain("5", mean=-0.2), _chain("3", mean=-0.1), _chain("5", mean=-0.3),
        _chain("3", mean=-0.4),
    ]  # fmt: skip
    assert borda(*_rounds(*chains)) == "5"
    assert borda(*_rounds(*chains), power=2.0) == "3"  # 16 + 1 against 9 + 4


def _row(**fields):
    chains = [
        _chain("5", mean=-0.1, text="2 + 2 = 5", total=math.log(0.6)),
        _chain("4", mean=-0.3, text="2 + 2 = 4", total=math.log(0.2)),
        _chain("5", mean=-0.4, text="so 5", total=math.log(0.1)),
    ]
    return {
        "id": "a", "method": "fork", "error": None, "signal": "model", "gold": "4",
        "correct": False, "answer": "5", "rounds": chains,
    } | fields  # fmt: skip


def test_every_rule_chooses_among_all_chains_and_among_those_that_pass():
    rows = {row["method"]: row for row in stored_votes([_row()], "fork")}
    assert len(rows) == 2 * len(RULES)
    plain, passing = rows["fork: mass"], rows["fork: mass, arithmetic"]
    assert (plain["answer"], plain["correct"], plain["signal"]) == ("5", False, "model")
    assert (passing["answer"], passing["correct"], passing["signal"]) == ("4", True, "checks")
    assert rows["fork: last, arithmetic"]["answer"] == "5"


def test_all_count_where_none_passes_and_other_rows_are_passed_over():
    none = _row(rounds=[_chain("5", mean=-0.1, text="2 + 2 = 5")])
    rows = list(stored_votes([none, _row(method="cot"), _row(error="no")], "fork"))
    assert len(rows) == 2 * len(RULES)
    assert {row["answer"] for row in rows} == {"5"}
    assert len(list(stored_votes([none], "fork", check=None))) == len(RULES)
    (row, *_) = stored_votes([none | {"gold": None}], "fork")
    assert row["correct"] is None
    with pytest.raises(ValueError, match="there is no check 'luck'"):
        list(stored_votes([], "fork", check="luck"))
