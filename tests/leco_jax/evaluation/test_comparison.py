import itertools

import pytest

from leco_jax.evaluation.comparison import (
    COMPARISON_COLUMNS,
    compare,
    discordant,
    mcnemar,
    sign_flip_p,
)
from leco_jax.evaluation.summary import format_table


def test_mcnemars_p_worked_out_by_hand():
    assert mcnemar(0, 0) == 1
    assert mcnemar(1, 1) == 1
    assert mcnemar(5, 0) == mcnemar(0, 5) == 2 / 32
    # 2 * (1 + 6 + 15) / 64
    assert mcnemar(4, 2) == pytest.approx(44 / 64)
    # Gains and losses of 3,000 problems, by the normal approximation with continuity: z = 3.337.
    assert mcnemar(73, 37) == pytest.approx(0.0008, abs=1e-4)
    assert 0 < mcnemar(600, 10) < 1e-100


def test_gained_and_lost_are_of_the_problems_that_both_know():
    here = {"a": True, "b": True, "c": False, "d": True}
    there = {"a": False, "b": True, "c": True, "e": False}
    assert discordant(here, there) == (1, 1)


def test_sign_flips_of_whole_problems_by_counting_all_of_them():
    differences = [2, -1, 3, 1, 0]
    sums = [
        abs(sum(d * sign for d, sign in zip(differences, signs, strict=True)))
        for signs in itertools.product([1, -1], repeat=5)
    ]
    assert sign_flip_p(differences) == sum(s >= 5 for s in sums) / 2**5
    assert sign_flip_p([]) == 1.0


def _row(name, method, correct, sampled, error=None, signal="model"):
    row = {"id": name, "method": method, "correct": correct, "error": error}
    rounds = [{"sampled": sampled}]
    return row if error else row | {"rounds": rounds, "signal": signal, "cost": {"rounds": 1}}


def test_methods_side_by_side():
    rows = [
        _row("a", "fork", True, 30, signal="checks"),
        _row("b", "fork", True, 10, signal="checks"),
        _row("c", "fork", False, 0, error="too long"),
        _row("a", "cot", False, 10),
        _row("b", "cot", True, 10),
        _row("c", "cot", False, 10),
        _row("d", "cot", True, 30),
    ]
    base, fork = compare(rows, against="cot")
    assert (base["method"], base["problems"], base["correct"], base["p"]) == ("cot", 4, 0.5, None)
    assert fork["problems"] == 3
    assert fork["correct"] == pytest.approx(2 / 3)  # what failed counts as wrong
    assert (fork["gained"], fork["lost"], fork["p"]) == (1, 0, 1.0)
    assert fork["points"] == pytest.approx(100 / 3)
    assert (fork["sampled"], fork["ratio"]) == (20, pytest.approx(20 / 15))
    assert (base["signal"], fork["signal"]) == ("model", "checks")
    assert format_table([base, fork], COMPARISON_COLUMNS).splitlines()[2].startswith("fork")


def test_what_cannot_be_compared_is_refused():
    with pytest.raises(ValueError, match="no results of 'leco'; there are cot"):
        compare([_row("a", "cot", True, 1)], against="leco")
    with pytest.raises(ValueError, match="a, cot: there is no gold"):
        compare([_row("a", "cot", None, 1)], against="cot")
