"""docs/flax.md: its snippets run, and a user's loop has our train step's loss and gradients."""

import pathlib
import re

import jax
import numpy as np
import optax
import pytest
from flax import nnx

from leco_jax.models.loading import load_model
from leco_jax.models.sharding import make_mesh
from w2s_jax.training.objectives import Objective
from w2s_jax.training.train_step import (
    StepConfig,
    init_state,
    make_train_step,
    place_batch,
    split_model,
)

PAGE = pathlib.Path(__file__).parents[1] / "docs" / "flax.md"
SNIPPETS = re.findall(r"```python\n(.*?)```", PAGE.read_text(), flags=re.S)


def run(snippet):
    names = {}
    exec(compile(snippet, str(PAGE), "exec"), names)
    return names


@pytest.mark.heavy
def test_a_users_loop_has_the_loss_and_the_gradients_of_our_train_step():
    users = run(SNIPPETS[0])
    mesh = make_mesh(devices=jax.devices()[:1])
    graph, weights, _ = split_model(load_model("arithmetic-1m", dtype="float32", mesh=mesh).model)
    # Plain gradient descent of rate 1: the update is the gradient.
    tx = optax.sgd(1.0)
    before = jax.device_get(weights)
    state, shardings = init_state(weights, tx, mesh)
    step = make_train_step(
        graph=graph,
        objective=Objective(),
        tx=tx,
        schedule=optax.constant_schedule(1.0),
        mesh=mesh,
        shardings=shardings,
        config=StepConfig(stats=()),
    )
    tokens = np.asarray(users["tokens"], np.int32)
    batch = {
        "tokens": tokens[:, :-1],
        "targets": tokens[:, 1:],
        "positions": np.broadcast_to(np.arange(16, dtype=np.int32), (2, 16)),
        "segment_ids": np.ones((2, 16), np.int32),
        "loss_mask": np.ones((2, 16), np.float32),
    }
    with jax.set_mesh(mesh):
        state, metrics = step(state, {}, place_batch(batch, mesh, pairs=False))
    assert float(users["loss"]) == pytest.approx(float(metrics["loss"]), abs=1e-6)
    ours = jax.tree.map(lambda x, y: x - np.asarray(y), before, state.trainable)
    theirs = nnx.to_pure_dict(users["gradients"])
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=1e-6), ours, theirs)


@pytest.mark.heavy
def test_adapters_go_on_and_off():
    model = run(SNIPPETS[1])["model"]
    assert isinstance(model, nnx.Module)
    assert model.lora is None
