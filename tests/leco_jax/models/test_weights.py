"""The weight table gives shapes, initial values and shardings."""

import logging
import weakref

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from leco_jax.models import sharding
from leco_jax.models.architectures import PRESETS, preset
from leco_jax.models.sharding import make_mesh
from leco_jax.models.weights import (
    abstract_params,
    init_params,
    param_shardings,
    unstack_layers,
    weight_table,
)

CONFIG = preset("tiny", vocab_size=64, width=32, mlp_width=48, head_width=8)


@pytest.fixture(scope="module")
def mesh():
    return make_mesh(data=2, fsdp=2, tensor=2)


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_parameters_have_the_documented_shapes(name):
    c = preset(name)
    d, f, n, k, h = c.width, c.mlp_width, c.num_heads, c.num_kv_heads, c.head_width
    layer = {
        "q_proj": (d, n, h), "k_proj": (d, k, h), "v_proj": (d, k, h), "o_proj": (n, h, d),
        "gate_proj": (d, f), "up_proj": (d, f), "down_proj": (f, d),
        "attn_norm": (d,), "mlp_norm": (d,),
    }  # fmt: skip
    assert (c.norms == "both") == name.startswith(("gemma2", "gemma3"))
    assert (c.norms == "after") == (c.qk_norm == "projection") == (name == "olmo2_7b")
    if c.norms != "before":
        layer |= {"attn_post_norm": (d,), "mlp_post_norm": (d,)}
    if c.norms == "after":
        del layer["attn_norm"], layer["mlp_norm"]
    if c.qk_norm == "projection":
        layer |= {"q_norm": (n, h), "k_norm": (k, h)}
    assert c.qkv_bias == name.startswith("qwen2")
    if c.qkv_bias:
        layer |= {"q_bias": (n, h), "k_bias": (k, h), "v_bias": (k, h)}
    assert (c.qk_norm == "head") == name.startswith(("qwen3", "gemma3"))
    if c.qk_norm == "head":
        layer |= {"q_norm": (h,), "k_norm": (h,)}
    want = {"embed": (c.vocab_size, d), "final_norm": (d,)}
    want["layers"] = {name: (c.num_layers, *shape) for name, shape in layer.items()}
    if not c.tied:
        want["unembed"] = (c.vocab_size, d)
    got = abstract_params(c)
    assert jax.tree.map(lambda x: x.shape, got) == want
    assert {x.dtype for x in jax.tree.leaves(got)} == {jnp.dtype(c.param_dtype)}


@pytest.mark.heavy
def test_initial_values():
    params = init_params(CONFIG.replace(qkv_bias=True), jax.random.key(0))
    layers = params["layers"]
    np.testing.assert_array_equal(layers["attn_norm"], 1.0)
    np.testing.assert_array_equal(layers["k_bias"], 0.0)
    plus_one = weight_table(CONFIG.replace(norm_plus_one=True))["layers/attn_norm"]
    np.testing.assert_array_equal(plus_one.init(jax.random.key(0), (2,), jnp.float32), 0.0)
    for weight, fan_in in (("q_proj", 32), ("o_proj", 32), ("down_proj", 48)):
        assert jnp.std(layers[weight]) == pytest.approx(fan_in**-0.5, rel=0.1)
        assert jnp.abs(layers[weight]).max() < 2.3 * fan_in**-0.5
    # Equal shapes, different weights.
    assert jnp.abs(layers["k_proj"] - layers["v_proj"]).max() > 0.1
    assert jnp.abs(layers["q_proj"][0] - layers["q_proj"][1]).max() > 0.1


@pytest.mark.heavy
def test_values_do_not_depend_on_the_mesh(mesh):
    one = init_params(CONFIG, jax.random.key(3))
    many = init_params(CONFIG, jax.random.key(3), mesh)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-7), one, many)
    other = init_params(CONFIG, jax.random.key(4))
    assert jnp.abs(one["embed"] - other["embed"]).max() > 0.1


def test_parameters_are_born_sharded(mesh):
    params = init_params(CONFIG, jax.random.key(0), mesh)
    specs = {
        "embed": jax.P("tensor", "fsdp"),
        "final_norm": jax.P(None),
        "attn_norm": jax.P(None, None),
        "q_proj": jax.P(None, "fsdp", "tensor", None),
        "o_proj": jax.P(None, "tensor", None, "fsdp"),
        "gate_proj": jax.P(None, "fsdp", "tensor"),
        "down_proj": jax.P(None, "tensor", "fsdp"),
    }
    flat = params | params["layers"]
    assert {name: flat[name].sharding.spec for name in specs} == specs
    assert flat["gate_proj"].addressable_shards[0].data.shape == (2, 16, 24)
    abstract = abstract_params(CONFIG, mesh)
    jax.tree.map(lambda a, x: a.sharding == x.sharding or pytest.fail(str(a)), abstract, params)


def test_what_does_not_divide_is_replicated_and_reported_once(mesh, caplog):
    config = CONFIG.replace(num_heads=3, num_kv_heads=1, mlp_width=49)
    sharding._reported.clear()
    with caplog.at_level(logging.WARNING, logger="leco_jax.models.sharding"):
        specs = param_shardings(config, mesh)["layers"]
        param_shardings(config, mesh)
    assert specs["q_proj"].spec == jax.P(None, "fsdp", None, None)
    assert specs["k_proj"].spec == jax.P(None, "fsdp", None, None)
    assert specs["gate_proj"].spec == jax.P(None, "fsdp", None)
    assert specs["down_proj"].spec == jax.P(None, None, "fsdp")
    reported = sorted(record.args[:3] for record in caplog.records)
    assert reported == [
        ("layers/down_proj", "mlp", 49),
        ("layers/gate_proj", "mlp", 49),
        ("layers/k_proj", "kv_heads", 1),
        ("layers/o_proj", "heads", 3),
        ("layers/q_proj", "heads", 3),
        ("layers/up_proj", "mlp", 49),
        ("layers/v_proj", "kv_heads", 1),
    ]
    assert "layers/v_proj: axis 'kv_heads' of size 1" in caplog.text
    # And an array can have that layout.
    up_proj = jax.device_put(np.zeros((2, 32, 49)), specs["up_proj"])
    assert up_proj.addressable_shards[0].data.shape == (2, 16, 49)


def test_every_logical_axis_has_a_rule():
    used = {axis for c in PRESETS.values() for w in weight_table(c).values() for axis in w.axes}
    assert used <= set(sharding.RULES)


def test_unstacked_layers_can_take_the_place_of_the_stacked_ones():
    params = init_params(CONFIG, jax.random.key(4))
    copy = unstack_layers(params)
    stacked = [weakref.ref(x) for x in jax.tree.leaves(params["layers"])]
    got = unstack_layers(params, consume=True)
    assert params["layers"] == {}
    assert all(ref() is None for ref in stacked)  # freed, though the caller holds `params`
    assert len(got["layers"]) == CONFIG.num_layers
    jax.tree.map(np.testing.assert_array_equal, got, copy)
    assert unstack_layers(got, consume=True) is got
