"""The NNX holder adds nothing to the pure functions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from leco_jax.models.architectures import preset
from leco_jax.models.llama import Llama
from leco_jax.models.sharding import make_mesh
from leco_jax.models.weights import init_params

CONFIG = preset("tiny", vocab_size=64, width=32, mlp_width=48, head_width=8)


@pytest.fixture(scope="module")
def params():
    return init_params(CONFIG, jax.random.key(0))


def test_holds_the_very_arrays(params):
    model = Llama.from_params(CONFIG, params)
    jax.tree.map(lambda a, b: a is b or pytest.fail("copied"), model.params(), params)


def test_random_weights_from_a_key_or_from_streams(params):
    same = Llama(CONFIG, rngs=jax.random.key(0))
    jax.tree.map(np.testing.assert_array_equal, same.params(), params)
    other = Llama(CONFIG, rngs=nnx.Rngs(params=0))
    assert jax.tree.structure(other.params()) == jax.tree.structure(params)


def test_call_is_the_forward_pass(params, run):
    tokens = jnp.asarray(np.random.default_rng(1).integers(0, 64, (2, 9)))
    model = Llama.from_params(CONFIG, params)
    got = jax.jit(lambda model, tokens: model(tokens))(model, tokens)
    np.testing.assert_allclose(got, run(params, CONFIG, tokens), atol=1e-5)

    positions = jnp.array([[0, 1, 2, 3, 0, 1, 2, 3, 4]])
    segments = jnp.array([[1, 1, 1, 1, 2, 2, 2, 2, 2]])
    packed = jax.jit(lambda model, *xs: model(*xs))(model, tokens[:1], positions, segments)
    np.testing.assert_allclose(packed[:, 4:], run(params, CONFIG, tokens[:1, 4:]), atol=2e-5)


def test_is_an_nnx_module_that_can_be_trained(params):
    model = Llama.from_params(CONFIG, params)
    assert len(jax.tree.leaves(nnx.state(model, nnx.Param))) == len(jax.tree.leaves(params))
    grads = jax.jit(jax.grad(lambda model: model(jnp.array([[1, 2, 3]])).sum()))(model)
    assert jnp.abs(grads.params()["layers"]["q_proj"]).max() > 0


def test_weights_live_on_the_mesh():
    mesh = make_mesh(fsdp=4, tensor=2)
    model = Llama(CONFIG, rngs=jax.random.key(0), mesh=mesh)
    assert model.params()["embed"].sharding.spec == jax.P("tensor", "fsdp")


def test_needs_either_rngs_or_params(params):
    with pytest.raises(ValueError, match="either"):
        Llama(CONFIG)
    with pytest.raises(ValueError, match="either"):
        Llama(CONFIG, rngs=jax.random.key(0), params=params)
