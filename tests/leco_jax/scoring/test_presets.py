"""Both presets on one chain, against numbers worked out by hand."""

import jax.numpy as jnp
import numpy as np
import pytest

from leco_jax import scoring
from leco_jax.scoring.presets import PRESETS, StepPreset

# "Step 1:" is the label of the first step (two tokens); the second has none.
PROBABILITY = [0.9, 0.8, 0.5, 0.25, 0.25, 0.5, 0.4, 0.1]
IN_LABEL = [True, True, False, False, False, False, False, False]
LABEL_OUT = [-1, -1, 0, 0, 0, 0, 1, 1]
LABEL_IN = [0, 0, 0, 0, 0, 0, 1, 1]


def scores(preset, step_ids):
    return PRESETS[preset].step_scores(
        jnp.log(jnp.array(PROBABILITY)), jnp.array(step_ids), jnp.array(IN_LABEL), num_steps=2
    )


@pytest.mark.heavy
def test_paper():
    # Step 0: p = 1/2, 1/4, 1/4, 1/2; mean 3/8, first three 1/3. P = 1/3, 1/6, 1/6, 1/3, so
    # KL = ln 4 − (2/3 ln 3 + 1/3 ln 6) = 0.0566330, KL^0.3 = 0.4225916, ln(1.4225916) = 0.3524803.
    # Step 1: p = 0.4, 0.1; mean 0.25, twice. P = 0.8, 0.2, KL = ln 2 − 0.5004024 = 0.1927448,
    # KL^0.3 = 0.6102317, ln(1.6102317) = 0.4763781.
    found = scores("paper", LABEL_OUT)
    np.testing.assert_allclose(found.average, [0.375, 0.25], rtol=1e-6)
    np.testing.assert_allclose(found.transition, [1 / 3, 0.25], rtol=1e-6)
    np.testing.assert_allclose(found.divergence, [0.3524803, 0.4763781], atol=2e-6)
    np.testing.assert_allclose(found.score, [0.3558530, 0.0236219], atol=2e-6)
    assert found.length.tolist() == [4, 2]


def test_paper_leaves_the_label_out_even_where_the_caller_left_it_in():
    np.testing.assert_array_equal(scores("paper", LABEL_IN), scores("paper", LABEL_OUT))


@pytest.mark.heavy
def test_official_code():
    # Step 0: six tokens, mean 3.2/6; the heading starts after the label: all four that follow.
    # P = p/3.2: H = −Σ P ln P = 1.6817863, KL = ln 6 − H = 0.1099731, KL^(1/3) = 0.4791030,
    # ln(1.4791030) = 0.3914358.
    # Step 1: KL = 0.1927448, KL^(1/3) = 0.5776448, ln(1.5776448) = 0.4559331.
    found = scores("official_code", LABEL_IN)
    np.testing.assert_allclose(found.average, [3.2 / 6, 0.25], rtol=1e-6)
    np.testing.assert_allclose(found.transition, [0.375, 0.25], rtol=1e-6)
    np.testing.assert_allclose(found.divergence, [0.3914358, 0.4559331], atol=2e-6)
    assert found.length.tolist() == [6, 2]


def test_official_code_divides_by_the_five_largest():
    preset = PRESETS["official_code"]
    logits = jnp.log(jnp.array([[0.4, 0.2, 0.1, 0.1, 0.1, 0.05, 0.05], [1, 0, 0, 0, 0, 0, 0]]))
    found = scoring.token_stats(logits, jnp.array([0, 3]), stats=preset.stats, topk=preset.topk)
    np.testing.assert_allclose(jnp.exp(preset.logprob(found)), [0.4 / 0.9, 0.0], rtol=1e-6)
    paper = PRESETS["paper"]
    found = scoring.token_stats(logits, jnp.array([0, 3]), stats=paper.stats, topk=paper.topk)
    np.testing.assert_allclose(jnp.exp(paper.logprob(found)), [0.4, 0.0], rtol=1e-6)


def test_bad_label_rule():
    with pytest.raises(ValueError, match="label must be"):
        StepPreset(label="skip")


@pytest.mark.heavy
@pytest.mark.parametrize("preset", [*PRESETS, StepPreset(tau=0.5, heading_tokens=1)])
def test_score_steps_takes_a_preset_whole(preset):
    logits = jnp.log(jnp.array([[p, *[(1 - p) / 6] * 6] for p in PROBABILITY]))
    arrays = logits, jnp.zeros(8, jnp.int32), jnp.array(LABEL_IN)
    label = {"in_label": jnp.array(IN_LABEL), "num_steps": 2}
    kind = PRESETS[preset] if isinstance(preset, str) else preset
    stats = scoring.token_stats(*arrays[:2], stats=kind.stats, topk=kind.topk)
    wanted = kind.step_scores(kind.logprob(stats), arrays[2], **label)
    hidden = logits, jnp.eye(7), *arrays[1:]
    for found in (
        scoring.score_steps(*arrays, preset=preset, **label),
        scoring.score_steps_from_hidden(*hidden, preset=preset, **label),
    ):
        for a, b in zip(found, wanted, strict=True):
            np.testing.assert_allclose(a, b, atol=1e-5)


def test_a_preset_and_its_parts_exclude_each_other():
    arrays = jnp.zeros((2, 9)), jnp.zeros(2, jnp.int32), jnp.zeros(2, jnp.int32)
    with pytest.raises(ValueError, match="'paper' already fixes tau"):
        scoring.score_steps(*arrays, num_steps=1, preset="paper", tau=0.5)
    with pytest.raises(ValueError, match="preset must be one of"):
        scoring.score_steps(*arrays, num_steps=1, preset="papers")
    with pytest.raises(ValueError, match="score_steps takes no topk"):
        scoring.score_steps(*arrays, num_steps=1, topk=3)
