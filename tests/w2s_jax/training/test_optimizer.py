"""Schedules by hand, decay by name, and where the optimiser's state lives."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from leco_jax.models.sharding import make_mesh
from leco_jax.models.weights import init_params, param_shardings
from w2s_jax.training.optimizer import (
    OptimizerConfig,
    decay_mask,
    make_optimizer,
    make_schedule,
    optimizer_shardings,
)


def test_warmup_then_cosine():
    config = OptimizerConfig(learning_rate=8.0, warmup_steps=4, schedule="cosine", final_ratio=0.5)
    rate = make_schedule(config, 12)
    np.testing.assert_allclose([rate(i) for i in range(5)], [2, 4, 6, 8, 8], rtol=1e-6)
    np.testing.assert_allclose([rate(8), rate(12)], [6.0, 4.0], rtol=1e-6)


@pytest.mark.parametrize(("schedule", "middle", "end"), [("constant", 2, 2), ("linear", 1, 0)])
def test_schedules_without_warmup(schedule, middle, end):
    rate = make_schedule(OptimizerConfig(learning_rate=2.0, schedule=schedule), 10)
    np.testing.assert_allclose([rate(0), rate(5), rate(10)], [2, middle, end], atol=1e-6)


@pytest.mark.heavy
def test_one_adamw_step_by_hand():
    config = OptimizerConfig(
        learning_rate=0.1, schedule="constant", weight_decay=0.5, clip_norm=1.0, eps=0.0
    )
    tx = make_optimizer(config, 10)
    params = {"w": jnp.array([2.0, -1.0]), "attn_norm": jnp.array([3.0])}
    gradients = {"w": jnp.array([30.0, -40.0]), "attn_norm": jnp.array([0.5])}
    updates, _ = tx.update(gradients, tx.init(params), params)
    # The first step of Adam has size one; clipping does not change signs; norms are not decayed.
    np.testing.assert_allclose(updates["w"], [-0.1 * (1 + 1.0), -0.1 * (-1 - 0.5)], rtol=1e-5)
    np.testing.assert_allclose(updates["attn_norm"], [-0.1], rtol=1e-5)


def test_clipping_scales_to_the_global_norm():
    config = OptimizerConfig(learning_rate=1.0, schedule="constant", clip_norm=1.0, eps=1.0)
    gradients = {"a": jnp.array([3.0]), "b": jnp.array([4.0])}
    tx = make_optimizer(config, 10)
    updates, _ = tx.update(gradients, tx.init(gradients), gradients)
    # With eps 1 the size shows: g / (|g| + 1) at clipped g = 0.6 and 0.8.
    np.testing.assert_allclose([updates["a"][0], updates["b"][0]], [-0.6 / 1.6, -0.8 / 1.8], 1e-5)


@pytest.mark.heavy
def test_norms_and_biases_are_not_decayed(tiny):
    mask = decay_mask(init_params(tiny.replace(qkv_bias=True), jax.random.key(0)))
    assert mask["embed"]
    assert mask["layers"]["q_proj"]
    assert not mask["layers"]["attn_norm"]
    assert not mask["layers"]["q_bias"]
    assert not mask["final_norm"]


@pytest.mark.parametrize("name", ["adamw", "adafactor"])
def test_state_is_sharded_as_the_weights(tiny, name):
    config = tiny.replace(vocab_size=256, width=256)
    mesh = make_mesh(fsdp=4, tensor=2)
    shardings = param_shardings(config, mesh)
    shapes = jax.eval_shape(lambda key: init_params(config, key), jax.random.key(0))
    tx = make_optimizer(OptimizerConfig(name=name), 10)
    placed = optimizer_shardings(tx, shapes, shardings, mesh)
    state = jax.eval_shape(tx.init, shapes)
    weights = {x.shape: s for x, s in zip(*map(jax.tree.leaves, (shapes, shardings)), strict=True)}
    sharded = 0
    for leaf, sharding in zip(jax.tree.leaves(state), jax.tree.leaves(placed), strict=True):
        if leaf.shape in weights and leaf.ndim > 1:
            assert sharding.spec == weights[leaf.shape].spec
            sharded += 1
        elif leaf.ndim == 0:
            assert sharding.is_fully_replicated
    assert sharded
    bytes_of = lambda tree: sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(tree))  # noqa: E731
    if name == "adafactor":
        assert bytes_of(state) < 0.6 * bytes_of(shapes)
    else:
        assert bytes_of(state) > 2 * bytes_of(shapes)


@pytest.mark.heavy
def test_adafactor_learns_and_moments_take_the_asked_dtype():
    params = {"w": jnp.full((200, 200), 2.0)}
    tx = make_optimizer(
        OptimizerConfig(name="adafactor", learning_rate=0.1, schedule="constant"), 9
    )
    updates, _ = tx.update({"w": jnp.full((200, 200), 3.0)}, tx.init(params), params)
    np.testing.assert_allclose(updates["w"], -0.1, rtol=1e-3)
    tx = make_optimizer(OptimizerConfig(moment_dtype="bfloat16"), 9)
    dtypes = {x.dtype.name for x in jax.tree.leaves(tx.init(params)) if x.ndim}
    assert dtypes == {"bfloat16", "float32"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "sgd"}, "name='sgd' is not one of adamw, adafactor"),
        ({"schedule": "step"}, "schedule='step'"),
        ({"learning_rate": -1.0}, "must be at least 0"),
        ({"clip_norm": -1.0}, "clip_norm=-1.0 must be at least 0"),
    ],
)
def test_bad_options_are_refused_by_name(changes, message):
    with pytest.raises(ValueError, match=message):
        OptimizerConfig(**changes)


def test_warmup_must_leave_something_of_the_run():
    with pytest.raises(ValueError, match="warmup_steps=10 leaves nothing of a run of 10 steps"):
        make_schedule(OptimizerConfig(warmup_steps=10), 10)
