"""The NNX module: sharding metadata, filters, and nothing added to the pure functions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from flax.core.spmd import logical_axis_rules

from leco_jax.models.architectures import preset
from leco_jax.models.llama import Llama
from leco_jax.models.lora import LoraConfig, adapter_shardings
from leco_jax.models.sharding import RULES, make_mesh
from leco_jax.models.weights import init_params, param_shardings, weight_table

CONFIG = preset("tiny", vocab_size=64, width=32, mlp_width=48, head_width=8)


@pytest.fixture(scope="module")
def params():
    return init_params(CONFIG, jax.random.key(0))


TOKENS = jnp.asarray(np.random.default_rng(1).integers(0, 64, (2, 9)))


@pytest.mark.heavy
def test_holds_the_very_arrays(params):
    model = Llama(CONFIG, params=params)
    jax.tree.map(lambda a, b: a is b or pytest.fail("copied"), model.params, params)


def test_random_weights_from_a_key_or_from_streams(params):
    same = Llama(CONFIG, rngs=jax.random.key(0))
    jax.tree.map(np.testing.assert_array_equal, same.params, params)
    other = Llama(CONFIG, rngs=nnx.Rngs(params=0))
    assert jax.tree.structure(other.params) == jax.tree.structure(params)


@pytest.mark.heavy
def test_call_is_the_forward_pass(params, run):
    model = Llama(CONFIG, params=params)
    got = nnx.jit(lambda model, tokens: model(tokens))(model, TOKENS)
    np.testing.assert_allclose(got, run(params, CONFIG, TOKENS), atol=1e-5)
    logits = jnp.einsum("BTD,VD->BTV", model.hidden(TOKENS), model.unembedding)
    np.testing.assert_allclose(logits, got, atol=1e-5)

    positions = jnp.array([[0, 1, 2, 3, 0, 1, 2, 3, 4]])
    segments = jnp.array([[1, 1, 1, 1, 2, 2, 2, 2, 2]])
    packed = jax.jit(lambda model, *xs: model(*xs))(model, TOKENS[:1], positions, segments)
    np.testing.assert_allclose(packed[:, 4:], run(params, CONFIG, TOKENS[:1, 4:]), atol=2e-5)


@pytest.mark.heavy
def test_is_an_nnx_module_that_can_be_trained(params):
    model = Llama(CONFIG, params=params)
    assert len(jax.tree.leaves(nnx.state(model, nnx.Param))) == len(jax.tree.leaves(params))
    grads = nnx.grad(lambda model: model(jnp.array([[1, 2, 3]])).sum())(model)
    assert jnp.abs(grads["layers"]["q_proj"][...]).max() > 0


@pytest.mark.heavy
def test_every_variable_carries_its_logical_axes():
    config = CONFIG.replace(tied=False, qkv_bias=True)  # has every kind of weight
    mesh = make_mesh(fsdp=4, tensor=2)
    lora = LoraConfig(rank=2, layers=(1,))
    model = Llama(config, rngs=jax.random.key(0), mesh=mesh)
    model.add_adapters(lora, rngs=jax.random.key(1), mesh=mesh)
    for path, weight in weight_table(config).items():
        variable = nnx.to_flat_state(nnx.state(model))
        variable = dict(variable)[tuple(path.split("/"))]
        assert type(variable) is nnx.Param
        assert variable.get_metadata("out_sharding") == weight.axes
    assert type(model.adapters["q_proj"]["a"]) is nnx.LoRAParam
    # The metadata and the rules are all that Flax needs to find the same shardings.
    with logical_axis_rules([*RULES.items(), ("rank", None)]):
        specs = nnx.to_pure_dict(nnx.get_partition_spec(nnx.state(model)))
    expected = param_shardings(config, mesh)
    expected["adapters"] = adapter_shardings(config, lora, mesh)
    values = nnx.to_pure_dict(nnx.state(model))

    def same(x, sharding, spec):
        assert x.sharding == sharding
        assert x.sharding.is_equivalent_to(jax.NamedSharding(mesh, spec), x.ndim)

    jax.tree.map(same, values, expected, specs)


@pytest.mark.heavy
def test_random_weights_are_made_sharded_by_one_program(caplog):
    mesh = make_mesh(fsdp=8)
    with jax.log_compiles(), caplog.at_level("WARNING"):  # sizes that no other test has
        model = Llama(CONFIG.replace(mlp_width=80), rngs=jax.random.key(0), mesh=mesh)
    compiled = [r for r in caplog.records if r.getMessage().startswith("Compiling jit(_random")]
    assert len(compiled) == 1
    assert max(s.data.size for s in model.embed[...].addressable_shards) == 64 * 32 // 8


def test_needs_either_rngs_or_params(params):
    with pytest.raises(ValueError, match="either"):
        Llama(CONFIG)
    with pytest.raises(ValueError, match="either"):
        Llama(CONFIG, rngs=jax.random.key(0), params=params)


@pytest.mark.heavy
def test_adapters_are_switched_off_and_on_by_a_filter(params):
    model = Llama(CONFIG, params=params)
    base = model(TOKENS)
    lora = LoraConfig(rank=2, layers=(1,))
    model.add_adapters(lora, rngs=nnx.Rngs(1))
    np.testing.assert_allclose(model(TOKENS), base, atol=1e-5)
    state = jax.tree.map(lambda x: x + 0.1, nnx.state(model, nnx.LoRAParam))
    nnx.update(model, state)
    on = model(TOKENS)
    assert jnp.abs(on - base).max() > 0.01
    adapters = nnx.pop(model, nnx.LoRAParam)
    np.testing.assert_array_equal(model(TOKENS), base)
    nnx.update(model, adapters)
    np.testing.assert_array_equal(model(TOKENS), on)

    with pytest.raises(ValueError, match="adapters are added once"):
        model.add_adapters(lora, rngs=nnx.Rngs(1))
    model.merge_adapters()
    assert model.lora is None
    assert not nnx.state(model, nnx.LoRAParam)
    np.testing.assert_allclose(model(TOKENS), on, atol=1e-5)


@pytest.mark.heavy
def test_unstacked_layers_are_the_same_model_without_a_second_copy(params):
    model = Llama(CONFIG, rngs=jax.random.key(0))
    before, stacked = model(TOKENS), model.layers["q_proj"]
    model.unstack()
    assert len(model.layers) == CONFIG.num_layers
    np.testing.assert_allclose(model(TOKENS), before, atol=1e-5)
    assert model.layers[0]["q_proj"].get_metadata("out_sharding") == (
        "embed",
        "heads",
        "head_width",
    )
    np.testing.assert_array_equal(model.layers[1]["q_proj"][...], stacked[1])
    again = model.layers[0]["q_proj"]
    model.unstack()
    assert model.layers[0]["q_proj"].get_value() is again.get_value()
    with pytest.raises(ValueError, match="stacked layers"):
        model.add_adapters(LoraConfig(rank=2), rngs=nnx.Rngs(0))
