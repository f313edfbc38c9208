"""Eight devices give the logits of one, and rules mean what they say."""

import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from leco_jax.models import transformer
from leco_jax.models.architectures import preset
from leco_jax.models.attention import causal_attend
from leco_jax.models.sharding import (
    RULES,
    Fallback,
    constrain,
    make_mesh,
    replica_meshes,
    resolve,
)
from leco_jax.models.weights import param_shardings, unstack_layers

CONFIG = preset("tiny", vocab_size=64, width=32, mlp_width=48, head_width=8)
SIZES = {"data": 2, "fsdp": 2, "tensor": 2}


@pytest.fixture(scope="module")
def params(random_params):
    return random_params(CONFIG)


@pytest.fixture(scope="module")
def tokens():
    return jnp.asarray(np.random.default_rng(1).integers(0, 64, (8, 12)))


@pytest.fixture(scope="module")
def want(params, tokens, run):
    return run(params, CONFIG, tokens)


@pytest.mark.heavy
@pytest.mark.parametrize(
    ("sizes", "form"),
    [
        ((2, 2, 2), "scanned"),
        ((2, 2, 2), "unrolled"),
        # One axis at a time is looked at slowly: the first case shards over all three.
        *(
            pytest.param(sizes, "scanned", marks=pytest.mark.slow)
            for sizes in ((1, 8, 1), (1, 1, 8), (8, 1, 1))
        ),
    ],
)
def test_eight_devices_give_the_logits_of_one(sizes, form, params, tokens, want, run):
    mesh = make_mesh(data=sizes[0], fsdp=sizes[1], tensor=sizes[2])
    sharded = jax.device_put(params, param_shardings(CONFIG, mesh))
    if form == "unrolled":
        sharded = unstack_layers(sharded)
    with jax.set_mesh(mesh):
        got = run(sharded, CONFIG, tokens)
    np.testing.assert_allclose(got, want, atol=2e-5)
    assert got.sharding.mesh.shape == mesh.shape


@pytest.mark.heavy
def test_norms_over_all_heads_see_those_of_other_devices(random_params, tokens, run):
    config = CONFIG.replace(
        qk_norm="projection", norms="after", sliding_window=4, global_every=2, no_rope_every=2
    )
    params = random_params(config)
    want = run(params, config, tokens)
    mesh = make_mesh(data=2, fsdp=2, tensor=2)
    with jax.set_mesh(mesh):
        got = run(jax.device_put(params, param_shardings(config, mesh)), config, tokens)
    np.testing.assert_allclose(got, want, atol=2e-5)


@pytest.mark.heavy
def test_gradients_on_eight_devices(params, tokens):
    positions = jnp.broadcast_to(jnp.arange(12), (8, 12))

    def loss(params):
        hidden, _ = transformer.forward(
            params, tokens, positions, config=CONFIG, attend=causal_attend(positions, CONFIG)
        )
        return jnp.square(transformer.logits(params, hidden, config=CONFIG)).mean()

    want = jax.jit(jax.grad(loss))(params)
    mesh = make_mesh(data=2, fsdp=2, tensor=2)
    shardings = param_shardings(CONFIG, mesh)
    with jax.set_mesh(mesh):
        got = jax.jit(jax.grad(loss), out_shardings=shardings)(jax.device_put(params, shardings))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), got, want)


@pytest.mark.heavy
def test_collectives_are_those_of_the_design(params):
    """Weights are gathered, partial sums reduced; activations are never gathered or moved."""
    mesh = make_mesh(data=2, fsdp=2, tensor=2)
    sharded = jax.device_put(params, param_shardings(CONFIG, mesh))
    batch, length = 16, 10
    tokens = jnp.zeros((batch, length), jnp.int32)
    positions = jnp.broadcast_to(jnp.arange(length), tokens.shape)

    def hidden(params, tokens):
        return transformer.forward(
            params, tokens, positions, config=CONFIG, attend=causal_attend(positions, CONFIG)
        )[0]

    with jax.set_mesh(mesh):
        text = jax.jit(hidden).lower(sharded, tokens).compile().as_text()
    kinds = r"all-gather|all-reduce|all-to-all|collective-permute|reduce-scatter"
    found = re.findall(rf"= f32\[([\d,]*)\]\S* ({kinds})\(", text)
    assert {kind for _, kind in found} == {"all-gather", "all-reduce"}
    reduced = [shape for shape, kind in found if kind == "all-reduce"]
    gathered = [shape for shape, kind in found if kind == "all-gather"]
    # Embedding, attention output and MLP output, each for this device's quarter of the batch.
    sizes = [math.prod(map(int, shape.split(","))) for shape in reduced]
    assert sizes == [batch // 4 * length * 32] * 3
    assert not any(str(length) in shape.split(",") for shape in gathered)


def test_constrain_without_a_mesh_is_the_identity():
    x = jnp.ones((2, 3))
    assert constrain(x, "batch", "act_embed") is x


def test_constrain_shards_and_leaves_whole_what_does_not_divide():
    mesh = make_mesh(data=2, fsdp=2, tensor=2)
    with jax.set_mesh(mesh):
        f = jax.jit(lambda x: constrain(x, "batch", "length", "act_mlp"))
        assert f(jnp.ones((8, 3, 6))).sharding.spec == jax.P(("data", "fsdp"), None, "tensor")
        # A batch of two fills "data" only; a batch of one nothing.
        assert f(jnp.ones((2, 3, 5))).sharding.spec == jax.P("data")
        assert f(jnp.ones((1, 3, 5))).sharding.is_fully_replicated


def test_constrain_works_where_part_of_the_mesh_is_manual():
    mesh = make_mesh(data=2, fsdp=2, tensor=2)
    with jax.set_mesh(mesh):
        f = jax.shard_map(
            lambda x: constrain(x, "batch", "act_mlp") * 2,
            in_specs=jax.P("data"),
            out_specs=jax.P("data"),
            axis_names={"data"},
        )
        np.testing.assert_array_equal(jax.jit(f)(jnp.ones((4, 4))), 2.0)


def test_resolve_by_hand():
    assert resolve("w", (8, 6), ("vocab", "embed"), SIZES) == (jax.P("tensor", "fsdp"), [])
    assert resolve("w", (8, 6), ("vocab", "embed"), {"data": 8}) == (jax.P(None, None), [])
    # The longest prefix of the rule's axes that divides.
    spec, fallbacks = resolve("x", (6,), ("batch",), SIZES)
    assert spec == jax.P("data")
    assert fallbacks == [Fallback("x", "batch", 6, ("data", "fsdp"), 4)]
    # One mesh axis serves one dimension.
    assert resolve("w", (4, 4), ("heads", "mlp"), SIZES) == (jax.P("tensor", None), [])


def test_resolve_refuses_what_it_does_not_know():
    with pytest.raises(ValueError, match="no rule for logical axis 'colour'"):
        resolve("w", (4,), ("colour",), SIZES)
    with pytest.raises(ValueError, match="w: 1 logical axes"):
        resolve("w", (4, 4), ("mlp",), SIZES)


@pytest.mark.heavy
def test_custom_rules_reach_weights_and_activations(params, tokens, want, run):
    rules = RULES | {"embed": ("fsdp", "data"), "batch": None, "length": "data", "heads": None}
    mesh = make_mesh(data=2, fsdp=2, tensor=2)
    shardings = param_shardings(CONFIG, mesh, rules)
    assert shardings["embed"].spec == jax.P("tensor", ("fsdp", "data"))
    with jax.set_mesh(mesh):
        got = run(jax.device_put(params, shardings), CONFIG, tokens, rules=rules)
    np.testing.assert_allclose(got, want, atol=2e-5)


def test_replicas_share_a_processs_devices(monkeypatch):
    found = replica_meshes(2)
    assert [dict(mesh.shape) for mesh in found] == [{"data": 1, "fsdp": 1, "tensor": 2}] * 4
    assert [d for mesh in found for d in mesh.devices.flat] == jax.devices()
    monkeypatch.setattr(jax, "local_devices", lambda: jax.devices()[:6])
    with pytest.raises(ValueError, match=r"mesh\.tensor=4: .* has 6: choose a divisor"):
        replica_meshes(4)


def test_make_mesh():
    assert dict(make_mesh(data=-1, tensor=2).shape) == {"data": 4, "fsdp": 1, "tensor": 2}
    assert dict(make_mesh(devices=jax.devices()[:1]).shape) == dict.fromkeys(SIZES, 1)
    with pytest.raises(ValueError, match="data=3, fsdp=1, tensor=1 does not fit 8 devices"):
        make_mesh(data=3)
    with pytest.raises(ValueError, match="fsdp=-1, tensor=3 does not fit"):
        make_mesh(fsdp=-1, tensor=3)
