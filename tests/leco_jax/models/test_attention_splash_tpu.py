"""The kernel of training on TPUs, interpreted here, against the masks written out."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from leco_jax.models.architectures import preset
from leco_jax.models.attention import causal_attend
from leco_jax.models.attention_splash_tpu import fits, splash_attend
from leco_jax.models.sharding import make_mesh

LENGTH = 256
# One document; three in a row with padding behind them.
ONE = np.ones((2, LENGTH), np.int32)
PACKED = np.repeat([[1, 2, 3, 0], [1, 1, 2, 0]], LENGTH // 4, axis=1).astype(np.int32)


def _positions(segments_BT):
    positions_BT = np.zeros_like(segments_BT)
    for row, segments_T in enumerate(segments_BT):
        for segment in set(segments_T):
            at = segments_T == segment
            positions_BT[row, at] = np.arange(at.sum())
    return jnp.asarray(positions_BT)


def _value_and_gradients(attend, q, k, v, weights):
    def loss(q, k, v):
        return jnp.sum(attend(q, k, v, None)[0] * weights)

    return jax.jit(jax.value_and_grad(loss, (0, 1, 2)))(q, k, v)


@pytest.mark.heavy
@pytest.mark.parametrize(
    ("segments_BT", "window", "head_width"),
    [(ONE, None, 128), (PACKED, None, 16), (PACKED, 40, 16)],
)
def test_values_and_gradients_are_those_of_the_masked_form(segments_BT, window, head_width):
    config = preset(
        "tiny", num_heads=4, num_kv_heads=2, head_width=head_width, sliding_window=window
    )
    draw = np.random.default_rng(0)
    q, k, v, weights = (
        jnp.asarray(draw.standard_normal((2, LENGTH, heads, head_width)), "float32")
        for heads in (4, 2, 2, 4)
    )
    weights *= (segments_BT > 0)[..., None, None]
    positions_BT, segments_BT = _positions(segments_BT), jnp.asarray(segments_BT)
    kernel = splash_attend(config, segment_ids_BT=segments_BT, interpret=True)
    masked = causal_attend(positions_BT, config, segment_ids_BT=segments_BT)
    ours = _value_and_gradients(kernel, q, k, v, weights)
    expected = _value_and_gradients(masked, q, k, v, weights)
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=2e-4), ours, expected)


@pytest.mark.heavy
def test_each_device_computes_its_rows_and_heads():
    config = preset("tiny", num_heads=4, num_kv_heads=2, head_width=16)
    draw = np.random.default_rng(0)
    q, k, v = (
        jnp.asarray(draw.standard_normal((4, 128, heads, 16)), "float32") for heads in (4, 2, 2)
    )
    attend = splash_attend(config, interpret=True)
    alone = jax.jit(lambda *x: attend(*x, None)[0])(q, k, v)
    mesh = make_mesh(fsdp=4, tensor=2)
    with jax.set_mesh(mesh):
        spread = jax.jit(lambda *x: attend(*x, None)[0])(q, k, v)
    assert spread.sharding.shard_shape(spread.shape) == (1, 128, 2, 16)
    np.testing.assert_allclose(spread, alone, atol=1e-5)


def test_what_the_kernel_takes():
    config = preset("llama3_8b")
    assert fits(2048, config, tensor=8)
    assert not fits(2000, config)
    assert not fits(2048, config, tensor=16)  # 8 key/value heads
    assert fits(2048, config.replace(sliding_window=512))
    assert not fits(2048, config.replace(sliding_window=512, global_every=2))
    assert not fits(2048, config.replace(attention_soft_cap=50.0))
