"""Other settings from stored rounds."""

import math

import pytest

from leco_jax.evaluation.sensitivity import other_forks, other_scores
from leco_jax.reasoning.chain_reader import ScoredStep, score_stored
from leco_jax.scoring.presets import PRESETS

SETTINGS = {
    "forks": 3, "settled": False, "depth": 1, "threshold": 0.7, "final_rule": "mass",
}  # fmt: skip


def _round(answer, total, *, kept=0, appended=0, logprobs=()):
    return {
        "text": f"{answer} {kept}", "answer": answer, "sum_logprob": math.log(total),
        "kept": kept, "appended": appended, "sampled": 5, "token_stats": {"logprob": logprobs},
    }  # fmt: skip


def _row(**fields):
    probabilities = [0.9, 0.6, 0.4, 0.2]
    greedy = _round("5", 0.4, logprobs=[math.log(p) for p in probabilities])
    forks = [
        _round("4", 0.3, kept=3),
        _round("4", 0.3, kept=1, appended=1),
        _round("6", 0.9, kept=1),
    ]
    return {
        "id": "a", "method": "fork", "error": None, "signal": "model", "gold": "4",
        "stopped": "forks", "settings": SETTINGS, "rounds": [greedy, *forks],
        "cost": {"rounds": 4},
    } | fields  # fmt: skip


def test_fewer_forks_and_lower_thresholds_choose_among_fewer_chains():
    found = {row["method"]: row for row in other_forks([_row(), _row(method="cot")], "fork")}
    # Places with 0.2, 0.4 and 0.6: "4" twice has 0.6 against 0.4; the fork at 0.6 has 0.9.
    assert found["fork: forks = 0"]["answer"] == "5"
    assert found["fork: forks = 1"]["answer"] == "5"
    assert found["fork: forks = 2"]["answer"] == "4"
    assert found["fork: p < 0.3"]["answer"] == "5"
    assert (found["fork: p < 0.5"]["answer"], found["fork: p < 0.5"]["correct"]) == ("4", True)
    assert found["fork: p < 0.7"]["answer"] == "6"
    assert len(found["fork: p < 0.5"]["rounds"]) == found["fork: p < 0.5"]["cost"]["rounds"] == 3
    assert "fork: p < 0.8" not in found  # the run wrote no forks there


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"settings": SETTINGS | {"settled": True}}, "fork.settled=False"),
        ({"stopped": "passed"}, "no gate"),
        ({"rounds": [_round("5", 0.4) | {"token_stats": {}}]}, "engine.stats="),
    ],
)
def test_a_run_without_all_forks_is_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        list(other_forks([_row(**fields)], "fork"))


def _scored_round():
    # "Step 1:" " 2" " +" " 3" "\n" " so" " 5" and an end token without text.
    text = "Step 1: 2 + 3\n so 5"
    ends = [7, 9, 11, 13, 14, 17, 19, 19]
    logprob = [-0.1, -0.2, -1.0, -0.3, -0.1, -0.05, -2.0, -0.1]
    steps = [
        {"text": "Step 1: 2 + 3", "tokens": [0, 5], "label_end": 1},
        {"text": " so 5", "tokens": [5, 8], "label_end": 5},
    ]
    return {
        "text": text, "steps": steps, "token_ends": ends, "token_stats": {"logprob": logprob},
    }  # fmt: skip


def test_stored_steps_are_scored_like_written_ones():
    first, second = score_stored(_scored_round(), PRESETS["paper"])
    p = [math.exp(x) for x in (-0.2, -1.0, -0.3)]
    assert isinstance(first, ScoredStep)
    assert first.average == pytest.approx(sum(p) / 3)  # neither label nor line break
    assert first.transition == pytest.approx(sum(p) / 3)
    assert second.average == pytest.approx((math.exp(-0.05) + math.exp(-2.0)) / 2)
    share = [x / sum(p) for x in p]
    kl = math.log(3) + sum(x * math.log(x) for x in share)
    assert first.divergence == pytest.approx(math.log(kl**0.3 + 1), abs=1e-5)


def test_cuts_of_other_scores_are_counted():
    row = {
        "id": "a", "method": "cot", "error": None, "first_correct": False,
        "rounds": [_scored_round()],
    }  # fmt: skip
    lines = other_scores([row], "cot", PRESETS["paper"], taus=(0.3, 1.0), headings=(3,))
    own = [line for line in lines if (line["tau"], line["K"]) == (0.3, 3)]
    assert [line["same cut"] for line in own] == [1.0]
    assert [(line["tau"], line["chains"]) for line in lines] == [(0.3, 1), (1.0, 1)]
    assert {line["same cut"] for line in lines} <= {0.0, 1.0}
    with pytest.raises(ValueError, match="no chains with stored"):
        other_scores([], "cot", PRESETS["paper"])
    with pytest.raises(ValueError, match="true probabilities"):
        other_scores([row], "cot", PRESETS["official_code"])
