import pytest

from leco_jax.evaluation.localisation import first_wrong_step, localisation

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
