"""Masks and grouped-query attention against loops."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from leco_jax.models.architectures import preset
from leco_jax.models.attention import attention_mask, causal_attend, dot_product_attention

attention = jax.jit(dot_product_attention, static_argnames="scale")


def normal(seed, *shape, dtype=jnp.float32):
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape), dtype)


def loop_attention(q, k, v, mask):
    """Attention in float64, one query head and position at a time."""
    q, k, v = (np.asarray(x, np.float64) for x in (q, k, v))
    batch, length, heads, width = q.shape
    group = heads // k.shape[2]
    out = np.zeros(q.shape)
    for b in range(batch):
        for t in range(length):
            for n in range(heads):
                keys = np.flatnonzero(mask[b, t])
                scores = k[b, keys, n // group] @ q[b, t, n] / width**0.5
                weights = np.exp(scores - scores.max())
                out[b, t, n] = weights @ v[b, keys, n // group] / weights.sum()
    return out


@pytest.mark.parametrize(("heads", "kv_heads"), [(4, 4), (4, 2), (6, 1)])
def test_grouped_queries_against_a_loop(heads, kv_heads):
    q = normal(0, 2, 5, heads, 8)
    k, v = normal(1, 2, 2, 7, kv_heads, 8)
    mask = np.random.default_rng(3).random((2, 5, 7)) < 0.5
    mask[..., 0] = True
    got = attention(q, k, v, jnp.asarray(mask))
    np.testing.assert_allclose(got, loop_attention(q, k, v, mask), atol=1e-5)


def test_scale_replaces_the_default():
    q, k, v = normal(0, 3, 1, 4, 2, 16)
    mask = jnp.ones((1, 4, 4), bool)
    got = attention(q, k, v, mask, scale=1.0)
    np.testing.assert_allclose(got, attention(q * 4, k, v, mask), atol=1e-5)


def test_soft_cap_bends_scores_before_the_mask():
    rng = np.random.default_rng(0)
    q, k, v = (jnp.asarray(rng.standard_normal((1, 3, 1, 4)), jnp.float32) for _ in range(3))
    mask = jnp.asarray(np.tril(np.ones((1, 3, 3), bool)))
    scores = 0.5 * np.tanh(np.einsum("tnh,snh->ts", q[0], k[0]) / 2 / 0.5)
    weights = np.exp(scores) * np.tril(np.ones((3, 3)))
    weights /= weights.sum(-1, keepdims=True)
    got = dot_product_attention(q, k, v, mask, soft_cap=0.5)
    np.testing.assert_allclose(got[0, :, 0], weights @ np.asarray(v[0, :, 0]), atol=1e-6)


@pytest.mark.parametrize("block", [None, 4])
def test_a_layers_own_window_takes_the_place_of_the_models(block):
    config = preset("tiny").replace(sliding_window=3, global_every=2, attention_soft_cap=1.0)
    rng = np.random.default_rng(0)
    q, k, v = (jnp.asarray(rng.standard_normal((1, 8, 4, 8)), jnp.float32) for _ in range(3))
    positions = jnp.arange(8)[None]
    attend = causal_attend(positions, config, block=block)
    for window in (3, None):
        alike = config.replace(sliding_window=window, global_every=None)
        want, _ = causal_attend(positions, alike)(q, k, v, None)
        for given in (window, jnp.int32(window or 100)):
            got, _ = attend(q, k, v, None, given)
            np.testing.assert_allclose(got, want, atol=1e-6)


def test_a_query_that_sees_nothing_is_finite_also_in_its_gradient():
    q, k, v = normal(0, 3, 1, 4, 2, 8)
    mask = jnp.zeros((1, 4, 4), bool)

    def total(q, k, v):
        return attention(q, k, v, mask).sum()

    value, grads = jax.jit(jax.value_and_grad(total, (0, 1, 2)))(q, k, v)
    assert np.isfinite(value)
    assert all(np.isfinite(grad).all() for grad in grads)


def test_softmax_is_float32_for_bfloat16_inputs():
    q, k, v = normal(1, 3, 1, 64, 2, 16, dtype=jnp.bfloat16)
    mask = jnp.ones((1, 64, 64), bool)
    got = attention(q, k, v, mask)
    assert got.dtype == jnp.bfloat16
    want = loop_attention(q.astype(jnp.float32), k.astype(jnp.float32), v.astype(jnp.float32), mask)
    np.testing.assert_allclose(got.astype(jnp.float32), want, atol=6e-3)


def test_mask_by_hand():
    position = jnp.array([[0, 1, 2, 0, 1, 0]])
    segment = jnp.array([[1, 1, 1, 2, 2, 0]])
    mask = attention_mask(position, position, q_segments_BT=segment, k_segments_BS=segment)
    want = [
        [1, 0, 0, 0, 0, 0],
        [1, 1, 0, 0, 0, 0],
        [1, 1, 1, 0, 0, 0],
        [0, 0, 0, 1, 0, 0],
        [0, 0, 0, 1, 1, 0],
        [0, 0, 0, 0, 0, 1],
    ]
    np.testing.assert_array_equal(mask[0], np.array(want, bool))


def test_window_and_invalid_keys_by_hand():
    q_positions, k_positions = jnp.array([[4, 5]]), jnp.array([[2, 3, 4, 5, 5]])
    valid = jnp.array([[True, True, True, True, False]])
    mask = attention_mask(q_positions, k_positions, k_valid_BS=valid, sliding_window=2)
    np.testing.assert_array_equal(mask[0], [[0, 1, 1, 0, 0], [0, 0, 1, 1, 0]])


def test_segments_of_one_side_only_are_refused():
    position = jnp.arange(3)[None]
    with pytest.raises(ValueError, match="both"):
        attention_mask(position, position, q_segments_BT=position)


@pytest.mark.heavy
def test_causal_attend_uses_the_config_window_and_passes_state_on():
    config = preset("tiny", sliding_window=1)
    q = normal(0, 1, 4, 4, 16)
    k, v = normal(1, 2, 1, 4, 2, 16)
    out, state = causal_attend(jnp.arange(4)[None], config)(q, k, v, "state")
    assert state == "state"
    np.testing.assert_allclose(out, jnp.repeat(v, 2, axis=2), atol=1e-6)
