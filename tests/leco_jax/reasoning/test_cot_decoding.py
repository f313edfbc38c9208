"""CoT-decoding on a model whose every choice is written down."""

import pytest

from leco_jax.reasoning.confidence import answer_margin
from leco_jax.reasoning.cot_decoding import CotDecodingConfig, cot_decoding
from tests.leco_jax.reasoning.sums import (
    FOUR,
    HMM,
    NL4,
    NL5,
    ONE,
    PLUS,
    SAYS4,
    SAYS5,
    TWO,
    WELL,
    Q,
    run_on_sum,
)  # fmt: skip

# Unsure of its answer on the likeliest way, sure of another one on the two others.
TABLE = {
    ONE: {PLUS: 0.6, HMM: 0.25, WELL: 0.1},
    HMM: {FOUR: 0.99},
    WELL: {FOUR: 0.99},
    FOUR: {NL4: 0.99},
    NL5: {SAYS5: 0.5, SAYS4: 0.4},
    NL4: {SAYS4: 0.7, SAYS5: 0.29},
}


@pytest.mark.heavy
def test_branches_begin_with_the_best_first_tokens_and_sure_answers_win():
    config = CotDecodingConfig(branches=3, branch="after_label")
    result, engine = run_on_sum(cot_decoding, config, table=TABLE)
    assert [one.text.split("\n")[0] for one in result.rounds] == [
        "Step 1: 2 + 2 = 5", "Step 1: hmm 4", "Step 1: well 4",
    ]  # fmt: skip
    assert [one.kept for one in result.rounds] == [0, 1, 1]
    margins = [answer_margin(one) for one in result.rounds]
    assert margins == pytest.approx([0.5 - 0.4, 0.7 - 0.29, 0.7 - 0.29], abs=1e-3)
    assert (result.answer, result.stopped) == ("4", "branches")
    assert engine.counters.given == 0
    single, _ = run_on_sum(
        cot_decoding, CotDecodingConfig(branches=2, branch="after_label", aggregate=False),
        table=TABLE,
    )  # fmt: skip
    assert single.answer == "4"


def test_by_default_the_very_first_token_is_another():
    result, _ = run_on_sum(
        cot_decoding, CotDecodingConfig(branches=2), table={Q: {ONE: 0.9, TWO: 0.09}}
    )
    assert [one.kept for one in result.rounds] == [0, 0]
    assert result.rounds[1].text.startswith("Step 2:")
    with pytest.raises(ValueError, match="branches=0"):
        CotDecodingConfig(branches=0)
