"""Losses against numbers worked by hand, finite differences and TRL's figures."""

import json
import math
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from w2s_jax.training import losses

FIGURES = json.loads((pathlib.Path(__file__).parent / "trl_figures.json").read_text())


def log_sigmoid(x):
    return -math.log1p(math.exp(-x))


# One pair, worked by hand: log-ratios 0.5 (2 tokens) and -0.25 (5 tokens), so D = 0.75.
CHOSEN, REJECTED, C_LEN, R_LEN = 0.5, -0.25, 2.0, 5.0
BY_HAND = {
    "dpo": ({"beta": 0.4}, -log_sigmoid(0.3)),
    "cdpo": ({"beta": 0.4, "flip": 0.2}, -0.8 * log_sigmoid(0.3) - 0.2 * log_sigmoid(-0.3)),
    "robust": (
        {"beta": 0.4, "flip": 0.2},
        (-0.8 * log_sigmoid(0.3) + 0.2 * log_sigmoid(-0.3)) / 0.6,
    ),
    "ipo": ({"beta": 0.4}, (0.5 / 2 + 0.25 / 5 - 1.25) ** 2),
    "hinge": ({"beta": 0.4}, 0.7),
    "sigmoid_norm": ({"beta": 5.0}, -log_sigmoid(5 * (0.25 + 0.05))),
}
PER_TOKEN = ("ipo", "sigmoid_norm")


@pytest.mark.parametrize("name", BY_HAND)
def test_preference_loss_by_hand(name):
    options, expected = BY_HAND[name]
    lengths = ([C_LEN], [R_LEN]) if name in PER_TOKEN else ()
    args = [jnp.array(x) for x in ([CHOSEN], [REJECTED], *lengths)]
    loss = jax.jit(lambda *a: getattr(losses, name)(*a, **options))(*args)
    assert loss.shape == (1,)
    np.testing.assert_allclose(loss, expected, rtol=1e-6)


def test_hinge_is_flat_beyond_the_margin():
    gradient = jax.grad(lambda c: losses.hinge(c, jnp.array(0.0), beta=1.0))(jnp.array(2.0))
    assert gradient == 0


def test_simpo_by_hand():
    loss = losses.simpo(jnp.array([-0.5]), jnp.array([-0.9]), beta=2.0, gamma=0.3)
    np.testing.assert_allclose(loss, -log_sigmoid(0.8 - 0.3), rtol=1e-6)


@pytest.mark.heavy
def test_orpo_by_hand():
    # p = 0.6 and 0.2: odds 1.5 and 0.25, ratio 6.
    chosen, rejected = jnp.log(jnp.array([0.6])), jnp.log(jnp.array([0.2]))
    np.testing.assert_allclose(losses.log_odds_ratio(chosen, rejected), math.log(6), rtol=1e-5)
    loss = losses.orpo(jnp.array([0.7]), chosen, rejected, beta=0.5)
    np.testing.assert_allclose(loss, 0.7 + 0.5 * math.log(7 / 6), rtol=1e-6)


@pytest.mark.heavy
def test_sft_means_differ_on_uneven_rows():
    logprob = jnp.array([[-1.0, -2.0, -9.0], [-4.0, jnp.nan, -jnp.inf]])
    mask = jnp.array([[1.0, 1.0, 0.0], [1.0, 0.0, 0.0]])
    np.testing.assert_allclose(losses.sft_token_mean(logprob, mask), 7 / 3, rtol=1e-6)
    np.testing.assert_allclose(losses.sft_sequence_mean(logprob, mask), (1.5 + 4) / 2, rtol=1e-6)
    gradient = jax.grad(losses.sft_token_mean)(logprob, mask)
    np.testing.assert_allclose(gradient, -np.array(mask) / 3, rtol=1e-6)


@pytest.mark.heavy
def test_rows_without_tokens_add_nothing():
    logprob = jnp.array([[-1.0, -3.0], [-5.0, -5.0]])
    mask = jnp.array([[1.0, 1.0], [0.0, 0.0]])
    assert losses.sft_token_mean(logprob, mask) == losses.sft_sequence_mean(logprob, mask) == 2
    assert losses.sft_token_mean(logprob, 0 * mask) == 0
    assert losses.sft_sequence_mean(logprob, 0 * mask) == 0


@pytest.mark.heavy
@pytest.mark.parametrize("name", [*BY_HAND, "simpo", "orpo"])
def test_gradients_match_finite_differences(name):
    random = np.random.default_rng(1)
    with jax.enable_x64(True):
        chosen, rejected = (jnp.array(-random.gamma(2.0, 0.5, 5)) for _ in range(2))
        lengths = jnp.array([1.0, 2, 3, 4, 5]), jnp.array([5.0, 4, 3, 2, 1])
        if name == "orpo":
            loss = lambda c, r: losses.orpo(-c, c, r, beta=0.3).sum()  # noqa: E731
        elif name in PER_TOKEN:
            loss = lambda c, r: getattr(losses, name)(c, r, *lengths).sum()  # noqa: E731
        else:
            loss = lambda c, r: getattr(losses, name)(c, r).sum()  # noqa: E731
        check_grads(loss, (chosen, rejected), order=1, modes=["rev"], rtol=1e-6)


@pytest.mark.parametrize("flip", [-0.1, 0.5, 1.0])
@pytest.mark.parametrize("name", ["cdpo", "robust"])
def test_impossible_flip_rates_are_refused(name, flip):
    with pytest.raises(ValueError, match="flip is the share of wrong labels"):
        getattr(losses, name)(jnp.zeros(1), jnp.zeros(1), flip=flip)


@pytest.mark.heavy
def test_log1mexp_is_accurate_and_finite_at_both_ends():
    x = np.array([-1e-6, -1e-3, -0.1, -0.69, -0.7, -3.0, -50.0])
    exact = np.log(-np.expm1(x.astype(np.float64)))
    exact[-1] = -np.exp(-50.0)
    np.testing.assert_allclose(losses.log1mexp(jnp.array(x, jnp.float32)), exact, rtol=2e-5)
    for end in (0.0, -200.0):
        value, gradient = jax.value_and_grad(losses.log1mexp)(end)
        assert np.isfinite(value)
        assert np.isfinite(gradient)


@pytest.mark.parametrize("extreme", [-3e3, 3e3])
@pytest.mark.parametrize("name", BY_HAND)
def test_extreme_margins_stay_finite(name, extreme):
    lengths = (jnp.array(1.0), jnp.array(1.0)) if name in PER_TOKEN else ()
    loss = lambda c: getattr(losses, name)(c, jnp.array(0.0), *lengths)  # noqa: E731
    value, gradient = jax.value_and_grad(loss)(jnp.array(extreme))
    assert np.isfinite(value)
    assert np.isfinite(gradient)


# --- TRL --------------------------------------------------------------------------------------


def trl_case(name, pairs=slice(None)):
    """Gives chosen and rejected [policy sum, ratio, mean, length] and TRL's loss and metrics."""
    x = {k: jnp.array(v, jnp.float32) for k, v in FIGURES["inputs"].items()}
    total = losses.sequence_sum(x["policy"], x["mask"])
    ratio = total - losses.sequence_sum(x["reference"], x["mask"])
    mean = losses.sequence_mean(x["policy"], x["mask"])
    sides = [
        [array[half][pairs] for array in (total, ratio, mean, x["mask"].sum(-1))]
        for half in (slice(0, 4), slice(4, 8))
    ]
    case = FIGURES["cases"][name]
    return *sides, x, case["loss"], case["metrics"]


TRL_OPTIONS = {
    "dpo": {"beta": 0.1},
    "robust": {"beta": 0.3, "flip": 0.2},
    "ipo": {"beta": 0.1},
    "hinge": {"beta": 0.5},
    "sigmoid_norm": {"beta": 5.0},
}


@pytest.mark.heavy
@pytest.mark.parametrize("name", TRL_OPTIONS)
def test_trl_agrees(name):
    chosen, rejected, _, expected, metrics = trl_case(name)
    lengths = (chosen[3], rejected[3]) if name in PER_TOKEN else ()
    loss = getattr(losses, name)(chosen[1], rejected[1], *lengths, **TRL_OPTIONS[name])
    np.testing.assert_allclose(loss.mean(), expected, rtol=1e-5)
    beta = TRL_OPTIONS[name]["beta"]
    ours = losses.reward_metrics(beta * chosen[1], beta * rejected[1])
    ours |= {"logps/chosen": chosen[0], "logps/rejected": rejected[0]}
    for key, value in ours.items():
        np.testing.assert_allclose(value.mean(), metrics[key], rtol=1e-4, err_msg=key)


def test_trl_agrees_on_cdpo_where_one_pair_leaves_nothing_to_sort():
    chosen, rejected, _, expected, _ = trl_case("cdpo_of_first_pair", slice(0, 1))
    loss = losses.cdpo(chosen[1], rejected[1], beta=0.3, flip=0.2)
    np.testing.assert_allclose(loss.mean(), expected, rtol=1e-5)


def test_trl_agrees_on_simpo():
    chosen, rejected, _, expected, metrics = trl_case("simpo")
    loss = losses.simpo(chosen[2], rejected[2], beta=2.0, gamma=1.0)
    np.testing.assert_allclose(loss.mean(), expected, rtol=1e-5)
    ours = losses.reward_metrics(2.0 * chosen[2], 2.0 * rejected[2])
    for key, value in metrics.items():
        np.testing.assert_allclose(ours[key].mean(), value, rtol=1e-5, err_msg=key)


@pytest.mark.heavy
def test_trl_agrees_on_orpo_with_the_likelihood_of_prompt_and_completion():
    chosen, rejected, x, expected, metrics = trl_case("orpo")
    nll = losses.sft_token_mean(x["policy"][:4], x["valid"][:4])
    np.testing.assert_allclose(nll, metrics["nll_loss"], rtol=1e-5)
    loss = losses.orpo(nll, chosen[2], rejected[2], beta=0.1)
    np.testing.assert_allclose(loss.mean(), expected, rtol=1e-5)
    log_odds = losses.log_odds_ratio(chosen[2], rejected[2])
    np.testing.assert_allclose(log_odds.mean(), metrics["log_odds_chosen"], rtol=1e-4)
    ratio = jax.nn.log_sigmoid(log_odds).mean()
    np.testing.assert_allclose(ratio, metrics["log_odds_ratio"], rtol=1e-5)
