"""The objective layer: which loss is called with what, and that parts of a batch add up."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

from leco_jax.configuration import build
from leco_jax.scoring import TokenStats
from w2s_jax.training import losses
from w2s_jax.training.job_config import training_config
from w2s_jax.training.objectives import PREFERENCE, Objective, loss_and_metrics, totals

PAIRS, TOKENS = 6, 9


def make_batch(seed=0, pairs=True):
    random = np.random.default_rng(seed)
    shape = (PAIRS, 2, TOKENS) if pairs else (PAIRS, TOKENS)
    at = np.arange(TOKENS)
    used = random.integers(5, TOKENS + 1, shape[:-1])[..., None]
    segment_ids = (at < used).astype(np.int32)
    mask = ((at >= random.integers(1, 4, shape[:-1])[..., None]) & (at < used)).astype(np.float32)
    logprob = -random.gamma(1.0, 1.0, shape).astype(np.float32)
    stats = TokenStats(
        logprob=jnp.array(logprob),
        entropy=jnp.array(random.gamma(1.0, 1.0, shape), jnp.float32),
        max_logprob=jnp.array(np.where(random.random(shape) < 0.5, logprob, logprob + 1)),
    )
    batch = {"loss_mask": jnp.array(mask), "segment_ids": jnp.array(segment_ids)}
    reference = jnp.array(-random.gamma(3.0, 2.0, (PAIRS, 2)), jnp.float32)
    return stats, batch, reference


def part_of(tree, rows):
    stats, batch, reference = tree
    cut = [None if x is None else x[rows] for x in stats]
    return TokenStats(*cut), {k: v[rows] for k, v in batch.items()}, reference[rows]


def run(objective, tree, counts=None):
    stats, batch, reference = tree
    counts = totals(objective, batch) if counts is None else counts
    reference = reference if objective.needs_reference else None
    return loss_and_metrics(objective, stats, batch, counts, reference)


OBJECTIVES = [
    Objective(name="sft"),
    Objective(name="sft", reduction="sequence"),
    *(Objective(name=name, beta=0.7) for name in PREFERENCE),
    Objective(name="orpo", nll="all"),
    Objective(name="dpo", sft_weight=0.3),
]


@pytest.mark.heavy
@pytest.mark.parametrize("objective", OBJECTIVES, ids=lambda o: f"{o.name}-{o.nll}-{o.reduction}")
def test_uneven_parts_of_a_batch_add_up_to_the_batch(objective):
    tree = make_batch(pairs=objective.pairs)
    loss, metrics = run(objective, tree)
    counts = totals(objective, tree[1])
    parts = [
        run(objective, part_of(tree, rows), counts)
        for rows in (slice(0, 1), slice(1, 4), slice(4, 6))
    ]
    np.testing.assert_allclose(sum(p[0] for p in parts), loss, rtol=1e-5)
    assert "entropy" in metrics
    for name, value in metrics.items():
        total = sum(p[1][name] for p in parts)
        np.testing.assert_allclose(total, value, rtol=1e-4, atol=1e-6, err_msg=name)


def test_dpo_is_the_mean_over_pairs_of_the_plain_loss():
    stats, batch, reference = tree = make_batch()
    total = losses.sequence_sum(stats.logprob, batch["loss_mask"])
    ratio = total - reference
    loss, metrics = run(Objective(name="dpo", beta=0.2), tree)
    np.testing.assert_allclose(loss, losses.dpo(ratio[:, 0], ratio[:, 1], beta=0.2).mean(), 1e-6)
    np.testing.assert_allclose(metrics["rewards/chosen"], 0.2 * ratio[:, 0].mean(), rtol=1e-6)
    np.testing.assert_allclose(metrics["logps/rejected"], total[:, 1].mean(), rtol=1e-6)
    mask = batch["loss_mask"]
    np.testing.assert_allclose(metrics["entropy"], (stats.entropy * mask).sum() / mask.sum(), 1e-5)
    right = ((stats.logprob == stats.max_logprob) * mask).sum() / mask.sum()
    np.testing.assert_allclose(metrics["mean_token_accuracy"], right, rtol=1e-6)


def test_orpo_takes_the_likelihood_of_the_completion_or_of_all():
    stats, batch, _ = tree = make_batch()
    mean = losses.sequence_mean(stats.logprob, batch["loss_mask"])
    odds = losses.orpo(jnp.zeros(PAIRS), mean[:, 0], mean[:, 1], beta=0.5).mean()
    loss, metrics = run(Objective(name="orpo", beta=0.5), tree)
    np.testing.assert_allclose(metrics["nll_loss"], -mean[:, 0].mean(), rtol=1e-6)
    np.testing.assert_allclose(loss, odds - mean[:, 0].mean(), rtol=1e-6)

    every = batch["segment_ids"][:, 0].astype(jnp.float32)
    nll = losses.sft_token_mean(stats.logprob[:, 0], every)
    loss, metrics = run(Objective(name="orpo", beta=0.5, nll="all"), tree)
    np.testing.assert_allclose(metrics["nll_loss"], nll, rtol=1e-6)
    np.testing.assert_allclose(loss, odds + nll, rtol=1e-6)


@pytest.mark.parametrize("name", PREFERENCE)
def test_without_a_beta_the_loss_has_its_own(name):
    own = {"simpo": 2.0, "sigmoid_norm": 5.0}.get(name, 0.1)
    tree = make_batch()
    loss, metrics = run(Objective(name=name), tree)
    expected, watched = run(Objective(name=name, beta=own, gamma=1.0), tree)
    np.testing.assert_array_equal(loss, expected)
    np.testing.assert_array_equal(metrics["rewards/margins"], watched["rewards/margins"])
    assert run(Objective(name=name, beta=own / 2, gamma=1.0), tree)[0] != loss
    # A config in which the name alone was changed says nothing else.
    assert build(Objective, {**training_config().objective, "name": name}).option("beta") == own


def test_sft_weight_adds_the_likelihood_of_the_chosen():
    stats, batch, _ = tree = make_batch()
    plain, _ = run(Objective(name="dpo"), tree)
    more, metrics = run(Objective(name="dpo", sft_weight=0.3), tree)
    sft = losses.sft_token_mean(stats.logprob[:, 0], batch["loss_mask"][:, 0])
    np.testing.assert_allclose(metrics["sft_loss"], sft, rtol=1e-6)
    np.testing.assert_allclose(more, plain + 0.3 * sft, rtol=1e-6)


@pytest.mark.heavy
@pytest.mark.parametrize("name", PREFERENCE)
def test_a_pair_without_a_completion_takes_no_part(name):
    tree = make_batch()
    stats, batch, reference = tree
    batch = {**batch, "loss_mask": batch["loss_mask"].at[3, 1].set(0)}
    objective = Objective(name=name, beta=0.7)
    loss, metrics = run(objective, (stats, batch, reference))
    others = part_of(tree, jnp.array([0, 1, 2, 4, 5]))
    expected, expected_metrics = run(objective, others)
    np.testing.assert_allclose(loss, expected, rtol=1e-5)
    np.testing.assert_allclose(
        metrics["rewards/margins"], expected_metrics["rewards/margins"], rtol=1e-4
    )


def test_a_missing_reference_is_refused():
    stats, batch, _ = make_batch()
    objective = Objective(name="dpo")
    with pytest.raises(ValueError, match="needs the reference's log-probabilities"):
        loss_and_metrics(objective, stats, batch, totals(objective, batch), None)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "ppo"}, "objective 'ppo' is not one of sft, dpo"),
        ({"reduction": "row"}, "reduction='row' is not one of token, sequence"),
        ({"nll": "prompt"}, "nll='prompt'"),
        ({"beta": 0.0}, "beta=0.0 must be positive"),
        ({"flip": 0.5}, "flip is .* not 0.5"),
    ],
)
def test_bad_options_are_refused_by_name(changes, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(Objective(), **changes)
