import math
import types

import pytest

from leco_jax.evaluation.stored_votes import RULES, borda, cisc, deepconf_filter, stored_votes


def _chain(answer, *, mean, text="", total=-1.0):
    return {
        "text": text or f"{answer} {mean}", "answer": answer, "sampled": 5,
        "sum_logprob": total, "mean_logprob": mean, "min_logprob": mean, "token_stats": {},
        "token_ends": (),
    }  # fmt: skip


PLAIN = [name for name, rule in RULES.items() if rule.needs is None]


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
    answers, figures = ["5", "3", "5", "3"], [-0.2, -0.1, -0.3, -0.4]
    assert borda(answers, figures) == "5"
    assert borda(answers, figures, power=2.0) == "3"  # 16 + 1 against 9 + 4
    assert borda(["5", "3"], [None, -9.0]) == "3"


def test_deepconfs_filter_lets_the_most_confident_vote_with_their_confidence():
    answers, figures = ["5", "5", "3", "4", "4"], [1.0, 1.1, 2.5, 0.5, None]
    assert deepconf_filter(answers, figures, keep=0.1) == "3"
    assert deepconf_filter(answers, figures, keep=0.6) == "3"  # 2.5 against 2.1
    assert deepconf_filter(["5", "5", "3"], [1.0, 1.1, 2.0], keep=1.0) == "5"
    assert deepconf_filter(answers, [None] * 5, keep=0.9) is None


def _row(**fields):
    chains = [
        _chain("5", mean=-0.1, text="2 + 2 = 5", total=math.log(0.6)),
        _chain("4", mean=-0.3, text="2 + 2 = 4", total=math.log(0.2)),
        _chain("5", mean=-0.4, text="so 5", total=math.log(0.1)),
    ]
    return {
        "id": "a", "method": "fork", "error": None, "signal": "model", "gold": "4",
        "correct": False, "answer": "5", "rounds": chains, "cost": {"rounds": 1},
    } | fields  # fmt: skip


def test_every_rule_chooses_among_all_chains_and_among_those_that_pass():
    rows = {row["method"]: row for row in stored_votes([_row()], "fork")}
    assert len(rows) == 2 * len(PLAIN)
    plain, passing = rows["fork: mass"], rows["fork: mass, arithmetic"]
    assert (plain["answer"], plain["correct"], plain["signal"]) == ("5", False, "model")
    assert (passing["answer"], passing["correct"], passing["signal"]) == ("4", True, "checks")
    assert rows["fork: last, arithmetic"]["answer"] == "5"


def test_all_count_where_none_passes_and_other_rows_are_passed_over():
    none = _row(rounds=[_chain("5", mean=-0.1, text="2 + 2 = 5")])
    rows = list(stored_votes([none, _row(method="cot"), _row(error="no")], "fork"))
    assert len(rows) == 2 * len(PLAIN)
    assert {row["answer"] for row in rows} == {"5"}
    assert len(list(stored_votes([none], "fork", check=None))) == len(PLAIN)
    (row, *_) = stored_votes([none | {"gold": None}], "fork")
    assert row["correct"] is None
    with pytest.raises(ValueError, match="there is no check 'luck'"):
        list(stored_votes([], "fork", check="luck"))


def test_rules_that_need_a_statistic_come_with_it():
    stats = {"self_certainty": [1.0, 2.0], "topk_logprob": [-1.0, -2.0], "margin": [0.1, 0.2]}
    rounds = [one | {"token_stats": stats, "token_ends": (3, 9)} for one in _row()["rounds"]]
    rows = {r["method"]: r for r in stored_votes([_row(rounds=rounds)], "fork", check=None)}
    assert set(rows) == {f"fork: {name}" for name in RULES}
    assert rows["fork: deepconf_least_90"]["answer"] == "5"


def test_adaptive_stops_take_as_few_of_the_stored_samples_as_they_need():
    same = [_chain("4", mean=-0.1, text=str(i)) for i in range(9)]
    rows = {r["method"]: r for r in stored_votes([_row(rounds=same)], "fork", check=None)}
    assert len(rows["fork: adaptive_beta"]["rounds"]) == 4
    assert len(rows["fork: adaptive_dirichlet"]["rounds"]) == 4
    assert len(rows["fork: majority"]["rounds"]) == 9
    assert rows["fork: adaptive_beta"]["cost"]["rounds"] == 4
    assert rows["fork: majority"]["cost"]["rounds"] == 1
