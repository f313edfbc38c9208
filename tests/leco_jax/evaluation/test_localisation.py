import numpy as np
import pytest

from leco_jax.evaluation.localisation import (
    LabelledFigures,
    figure_table,
    first_wrong_step,
    localisation,
)
from leco_jax.evaluation.step_figures import against_place, boundaries

SOLUTION = [
    "Step 1: Mia has 3 + 4 = 7 pens.",
    "Step 2: Then 7 * 2 = 14.",
    "Step 3: Then 14 - 5 = 9.",
    "Step 4: The answer is \\boxed{9}.",
]


@pytest.mark.parametrize(
    ("changes", "wrong"),
    [
        ({0: "Step 1: 3 + 4 = 8"}, 0),
        ({0: "Step 1: 3 - 4 = 7", 1: "Step 2: 7 * 3 = 21"}, 0),
        ({1: "Step 2: 7 * 3 = 21"}, 1),
        ({2: "Step 3: The answer is \\boxed{14}."}, 2),  # a step is missing
        ({1: "Step 2: So it doubles."}, 1),
        ({3: "Step 4: The answer is \\boxed{8}."}, 3),  # all equations are right
        ({0: "Step 1: Tom has 3+4=7 coins"}, 3),  # other words
    ],
)
def test_the_first_wrong_step_is_the_first_with_another_equation(changes, wrong):
    assert first_wrong_step([changes.get(i, s) for i, s in enumerate(SOLUTION)], SOLUTION) == wrong


def test_a_chain_that_ends_early_goes_wrong_where_it_ends():
    assert first_wrong_step(SOLUTION[:2], SOLUTION) == 2


def _row(cut, changes, *, correct=False, method="leco", error=None):
    steps = [{"text": changes.get(i, text)} for i, text in enumerate(SOLUTION)]
    return {
        "id": "a", "method": method, "error": error, "first_correct": correct,
        "rounds": [{"steps": steps, "cut": cut}], "settings": {"exclude": ["The answer is"]},
    }  # fmt: skip


def test_cuts_are_compared_with_a_random_step():
    middle, end = {1: "Step 2: 7 * 3 = 21"}, {3: "Step 4: The answer is \\boxed{8}."}
    rows = [
        _row(1, middle),
        _row(2, middle),
        _row(0, end),  # the wrong step may not be cut: a random one never finds it
        _row(1, middle, correct=True),
        _row(1, middle, method="cot"),
        _row(None, middle),
        {"method": "leco", "error": "too long"},
    ]
    cuts = localisation(rows, {"a": "\n".join(SOLUTION)})
    assert cuts.chains == 3
    assert cuts.exact == pytest.approx(1 / 3)
    assert cuts.within_one == pytest.approx(2 / 3)
    assert cuts.random == pytest.approx((1 / 3 + 1 / 3 + 0) / 3)
    with pytest.raises(ValueError, match="no wrong first pass"):
        localisation(rows[3:], {})


def _figures(first_wrong, values, candidates=None):
    values = np.asarray(values, float)
    if candidates is None:
        candidates = np.ones(len(values), bool)
    return LabelledFigures(first_wrong, np.asarray(candidates, bool), {"score": values})


def test_the_least_step_is_compared_with_the_first_wrong_one():
    chains = [
        _figures(1, [3, 1, 2, 0.5], [1, 1, 1, 0]),  # hit: the last step may not be named
        _figures(2, [2, 1, 2]),  # beside it
        _figures(0, [5, 6, 6, 1]),  # missed
        _figures(None, [4, 4]),
        _figures(None, [0.9, 4]),
    ]
    line, chance = figure_table(chains)
    assert (line["exact"], line["within_one"]) == (pytest.approx(1 / 3), pytest.approx(2 / 3))
    # Right steps 3, 2, 1, 4, 4, 0.9, 4 against the wrong ones 1, 2, 5.
    assert line["steps"] == pytest.approx(((1 + 1 + 0.5 + 1 + 1 + 0 + 1) + (1 + 0.5 + 3)) / 21)
    # Least steps 4 and 0.9 of right chains against 1, 1, 1.
    assert line["chains"] == pytest.approx(0.5)
    assert line["false_alarms"] == pytest.approx(0.5)
    assert chance["exact"] == pytest.approx((1 / 3 + 1 / 3 + 1 / 4) / 3)
    assert chance["within_one"] == pytest.approx((1 + 2 / 3 + 1 / 2) / 3)
    with pytest.raises(ValueError, match="none of the chains"):
        figure_table(chains[3:])


def test_without_right_chains_nothing_is_said_of_them():
    line, chance = figure_table([_figures(0, [1, 2])])
    for name in ("chains", "false_alarms"):
        assert line[name] is None
        assert chance[name] is None
    assert line["steps"] is None
    assert line["exact"] == 1


def test_a_figure_against_its_place():
    figures = [np.array([1.0, 10.0])] * 6 + [np.array([3.0, 30.0])] * 6 + [np.array([2, 20, 40.0])]
    against = against_place(figures)
    assert against[0][0] == pytest.approx(against[0][1], abs=0.1)
    assert against[12][0] == pytest.approx(0)
    # The third place has one chain only and counts with the second.
    assert against[12][2] > against[6][1] > 0


def test_boundaries_are_the_least_probable_fiftieth():
    probability = np.linspace(1, 0.01, 100)
    steps = np.arange(100) // 10
    assert [list(found) for found in boundaries([(steps, probability)])] == [[9, 9]]
