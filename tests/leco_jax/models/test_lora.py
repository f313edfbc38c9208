import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from leco_jax.models import lora as lo
from leco_jax.models import transformer
from leco_jax.models.architectures import preset
from leco_jax.models.attention import causal_attend
from leco_jax.models.sharding import make_mesh
from leco_jax.models.weights import (
    abstract_params,
    init_params,
    nest,
    param_shardings,
    unstack_layers,
)

CONFIG = preset("tiny", num_layers=3, qkv_bias=True, norms="both", sliding_window=5, global_every=2)


@pytest.fixture(scope="module")
def params():
    return init_params(CONFIG, jax.random.key(0))


@functools.partial(jax.jit, static_argnames="remat")
def _hidden(params, tokens_BT, remat="none"):
    positions_BT = jnp.broadcast_to(jnp.arange(tokens_BT.shape[1]), tokens_BT.shape)
    return transformer.forward(
        params,
        tokens_BT,
        positions_BT,
        config=CONFIG,
        attend=causal_attend(positions_BT, CONFIG),
        remat=remat,
    )[0]


def _tokens(seed=1):
    return jax.random.randint(jax.random.key(seed), (2, 12), 0, CONFIG.vocab_size)


def _random(config, lora, seed=5):
    """Adapters with both matrices drawn, as after some training; costs no compilation."""
    draw = np.random.default_rng(seed)
    table = lo.adapter_table(config, lora)
    return nest(
        {path: jnp.asarray(0.1 * draw.standard_normal(w.shape), "float32")
         for path, w in table.items()}
    )  # fmt: skip


@pytest.mark.heavy
def test_fresh_adapters_leave_the_model_exactly_as_it_was(params):
    lora = lo.LoraConfig(rank=3, alpha=7.0)
    adapters = lo.init_adapters(CONFIG, lora, jax.random.key(1))
    assert all(jnp.any(pair["a"] != 0) for pair in adapters.values())
    adapted = _hidden(lo.adapt(params, adapters, lora), _tokens())
    np.testing.assert_array_equal(adapted, _hidden(params, _tokens()))
    for merged, base in zip(
        jax.tree.leaves(lo.merge(params, adapters, lora)), jax.tree.leaves(params), strict=True
    ):
        np.testing.assert_array_equal(merged, base)


@pytest.mark.heavy
@pytest.mark.parametrize("target", lo.PROJECTIONS)
def test_each_adapted_projection_equals_its_merged_matrix(params, target):
    lora = lo.LoraConfig(rank=3, alpha=7.0, targets=(target,))
    adapters = _random(CONFIG, lora)
    merged = lo.merge(params, adapters, lora)["layers"][target][1]
    # Written out for one layer, from the definition W + alpha / rank * A B.
    base = np.asarray(params["layers"][target][1])
    a, b = (np.asarray(adapters[target][k][1]) for k in "ab")
    delta = 7.0 / 3 * a.reshape(-1, 3) @ b.reshape(3, -1)
    np.testing.assert_allclose(merged, base + delta.reshape(base.shape), atol=1e-6)

    spec = {"o_proj": "BTNH,NHD->BTD", "down_proj": "BTF,FD->BTD"}.get(
        target, "BTD,DF->BTF" if base.ndim == 2 else "BTD,DNH->BTNH"
    )
    inputs = dict(zip(spec.split(",")[1].split("->")[0], base.shape, strict=True))
    x = jax.random.normal(jax.random.key(2), [inputs.get(d, 4) for d in spec.split(",")[0]])
    adapted = lo.adapt(params, adapters, lora)["layers"][target]
    layer = jax.tree.map(lambda leaf: leaf[1], adapted)
    expected = jnp.einsum(spec, x, merged)
    np.testing.assert_allclose(layer.einsum(spec, x, jnp.float32), expected, atol=2e-5)


def test_a_model_with_all_projections_adapted_equals_the_merged_model(params):
    lora = lo.LoraConfig(rank=3, alpha=7.0)
    adapters = _random(CONFIG, lora)
    ours = _hidden(lo.adapt(params, adapters, lora), _tokens())
    np.testing.assert_allclose(
        ours, _hidden(lo.merge(params, adapters, lora), _tokens()), atol=1e-4
    )
    assert jnp.max(jnp.abs(ours - _hidden(params, _tokens()))) > 1e-2


@pytest.mark.heavy
def test_only_the_chosen_layers_change(params):
    lora = lo.LoraConfig(rank=3, alpha=7.0, layers=(2, 0))
    adapters = _random(CONFIG, lora)
    assert adapters["q_proj"]["a"].shape[0] == 2
    merged = lo.merge(params, adapters, lora)
    for name in lo.PROJECTIONS:
        changed = [
            bool(jnp.any(merged["layers"][name][i] != params["layers"][name][i])) for i in range(3)
        ]
        assert changed == [True, False, True]
    adapted = _hidden(lo.adapt(params, adapters, lora), _tokens())
    # Two orders of float32 sums through three layers: some hosts round by 2.1e-5.
    np.testing.assert_allclose(adapted, _hidden(merged, _tokens()), atol=5e-5)
    assert jnp.abs(adapted - _hidden(params, _tokens())).max() > 1e-1


@pytest.mark.heavy
def test_unrolled_layers_give_the_same(params):
    lora = lo.LoraConfig(rank=3, alpha=7.0)
    adapted = lo.adapt(params, _random(CONFIG, lora), lora)
    np.testing.assert_allclose(
        _hidden(unstack_layers(adapted), _tokens()), _hidden(adapted, _tokens()), atol=2e-5
    )


@pytest.mark.heavy
def test_gradients_reach_the_adapters_and_equal_those_of_the_merged_model(params):
    lora = lo.LoraConfig(rank=3, alpha=7.0, layers=(1,))
    adapters = _random(CONFIG, lora)

    @functools.partial(jax.jit, static_argnums=0)
    @functools.partial(jax.grad, argnums=1)
    def gradients(build, adapters):
        return jnp.sum(jnp.sin(_hidden(build(params, adapters, lora), _tokens(), remat="full")))

    ours, exact = gradients(lo.adapt, adapters), gradients(lo.merge, adapters)
    assert set(ours) == set(lo.PROJECTIONS)
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(exact), strict=True):
        assert jnp.any(a != 0)
        np.testing.assert_allclose(a, b, atol=1e-3 * float(jnp.max(jnp.abs(b))))


@pytest.mark.heavy
def test_training_adapters_costs_less_than_training_the_weights(params):
    lora = lo.LoraConfig(rank=2)
    adapters = _random(CONFIG, lora)

    def flops(f, x):
        return jax.jit(jax.grad(f)).lower(x).cost_analysis()["flops"]

    # Wide enough that the projections dominate.
    tokens = jnp.zeros((8, 16), jnp.int32)
    with_adapters = flops(lambda a: jnp.sum(_hidden(lo.adapt(params, a, lora), tokens)), adapters)
    merged = flops(lambda a: jnp.sum(_hidden(lo.merge(params, a, lora), tokens)), adapters)
    assert with_adapters < 0.9 * merged


@pytest.mark.heavy
def test_dropout_depends_on_key_and_layer_and_averages_out(params):
    lora = lo.LoraConfig(rank=4, dropout=0.5, targets=("up_proj",))
    adapters = _random(CONFIG, lora)
    run = jax.jit(lambda key: _hidden(lo.adapt(params, adapters, lora, dropout_key=key), _tokens()))
    one, again, other = run(jax.random.key(1)), run(jax.random.key(1)), run(jax.random.key(2))
    np.testing.assert_array_equal(one, again)
    assert jnp.any(one != other)
    without = _hidden(lo.adapt(params, adapters, lora), _tokens())
    assert jnp.any(one != without)

    weight = lo.adapt(params, adapters, lora, dropout_key=jax.random.key(0))["layers"]["up_proj"]
    assert len({tuple(k) for k in jax.random.key_data(weight.keys).tolist()}) == 3
    layer = jax.tree.map(lambda x: x[0], weight)
    x = jnp.ones((64, 64, CONFIG.width))
    out = layer.einsum("BTD,DF->BTF", x, jnp.float32)
    plain = jax.tree.map(lambda x: x[0], lo.adapt(params, adapters, lora)["layers"]["up_proj"])
    exact = plain.einsum("BTD,DF->BTF", x, jnp.float32)
    # Inputs kept are scaled up, so the mean is that without dropout.
    np.testing.assert_allclose(out.mean((0, 1)), exact[0, 0], atol=0.05)


def test_inputs_and_outputs_of_adapters_are_sharded_over_all_devices():
    mesh = make_mesh(data=1, fsdp=4, tensor=2)
    for group in lo.adapter_shardings(CONFIG, lo.LoraConfig(rank=4), mesh).values():
        assert tuple(group["a"].spec) == (None, ("tensor", "fsdp"), None)
        assert tuple(group["b"].spec) == (None, None, ("tensor", "fsdp"))


@pytest.mark.heavy
def test_values_do_not_depend_on_the_mesh(params):
    lora = lo.LoraConfig(rank=4, targets=("q_proj", "down_proj"))
    mesh = make_mesh(data=1, fsdp=4, tensor=2)
    alone = lo.init_adapters(CONFIG, lora, jax.random.key(3))
    sharded = lo.init_adapters(CONFIG, lora, jax.random.key(3), mesh)
    for a, b in zip(jax.tree.leaves(alone), jax.tree.leaves(sharded), strict=True):
        np.testing.assert_array_equal(a, b)
    spread = jax.device_put(params, param_shardings(CONFIG, mesh))
    adapters = jax.device_put(_random(CONFIG, lora), lo.adapter_shardings(CONFIG, lora, mesh))
    with jax.set_mesh(mesh):
        ours = _hidden(lo.adapt(spread, adapters, lora), _tokens())
    alone = _hidden(lo.adapt(params, _random(CONFIG, lora), lora), _tokens())
    np.testing.assert_allclose(ours, alone, atol=2e-5)


def test_bfloat16_weights_stay_bfloat16_after_a_merge():
    config = CONFIG.replace(param_dtype="bfloat16")
    base = abstract_params(config)
    lora = lo.LoraConfig(rank=2)
    merged = jax.eval_shape(lambda base: lo.merge(base, _random(config, lora), lora), base)
    assert {x.dtype for x in jax.tree.leaves(merged)} == {jnp.dtype("bfloat16")}


@pytest.mark.parametrize(
    ("kwargs", "match"),
    [
        ({"rank": -1}, "rank=-1"),
        ({"dropout": 1.0}, r"dropout=1.0 must lie in \[0, 1\)"),
        ({"targets": ("q_proj", "qproj")}, r"\['qproj'\] are not among q_proj"),
        ({"targets": ()}, "are not among q_proj"),
        ({"layers": ()}, "adapts nothing"),
    ],
)
def test_wrong_options_are_named(kwargs, match):
    with pytest.raises(ValueError, match=match):
        lo.LoraConfig(**kwargs)


def test_adapters_of_another_configuration_are_refused(params):
    adapters = _random(CONFIG, lo.LoraConfig(rank=2))
    with pytest.raises(ValueError, match="rank 4"):
        lo.adapt(params, adapters, lo.LoraConfig(rank=4))
    with pytest.raises(ValueError, match="configuration names"):
        lo.merge(params, adapters, lo.LoraConfig(rank=2, targets=("q_proj",)))
    with pytest.raises(ValueError, match=r"\[7\] lie outside 0..2"):
        lo.init_adapters(CONFIG, lo.LoraConfig(layers=(7,)), jax.random.key(0))
    with pytest.raises(ValueError, match="rank=0 means no adapters"):
        lo.init_adapters(CONFIG, lo.LoraConfig(rank=0), jax.random.key(0))
    with pytest.raises(ValueError, match="stacked"):
        lo.adapt(unstack_layers(params), adapters, lo.LoraConfig(rank=2))
