"""Grouped-query attention and its masks. Every mask of the library comes from `attention_mask`."""

import functools

import jax
import jax.numpy as jnp

from leco_jax.models.config import ModelConfig

# Finite, so that a row that sees nothing (padding) gives numbers and not NaN.
_MASKED = -0.7 * float(jnp.finfo(jnp.float32).max)


def soft_capped(x: jax.Array, cap: float | None) -> jax.Array:
    """`cap * tanh(x / cap)`, which stays within the cap; None: `x`."""
    return x if cap is None else cap * jnp.tanh(x / cap)


def attention_mask(
    q_positions_BT: jax.Array,
    k_positions_BS: jax.Array,
    *,
    q_segments_BT: jax.Array | None = None,
    k_segments_BS: jax.Array | None = None,
    k_valid_BS: jax.Array | None = None,
    sliding_window: int | jax.Array | None = None,
) -> jax.Array:
    """Which keys each query sees, bool [B, T, S].

    A key is seen if its position is not after the query's and lies within the window, and if its
    segment is the query's and it is valid, where these are given.

    Args:
      q_positions_BT: int32 positions of the queries.
      k_positions_BS: int32 positions of the keys.
      q_segments_BT: int32 document of each query in a packed row; by custom 0 is padding.
      k_segments_BS: the same for keys.
      k_valid_BS: bool, false for a slot that holds nothing.
      sliding_window: a query sees itself and `sliding_window - 1` positions before; None: all.
    """
    if (q_segments_BT is None) != (k_segments_BS is None):
        raise ValueError("give segments of both queries and keys, or of neither")
    distance_BTS = q_positions_BT[:, :, None] - k_positions_BS[:, None, :]
    mask_BTS = distance_BTS >= 0
    if sliding_window is not None:
        mask_BTS &= distance_BTS < sliding_window
    if q_segments_BT is not None and k_segments_BS is not None:
        mask_BTS &= q_segments_BT[:, :, None] == k_segments_BS[:, None, :]
    if k_valid_BS is not None:
        mask_BTS &= k_valid_BS[:, None, :]
    return mask_BTS


def dot_product_attention(
    q_BTNH: jax.Array,
    k_BSKH: jax.Array,
    v_BSKH: jax.Array,
    mask_BTS: jax.Array,
    *,
    scale: float | None = None,
    soft_cap: float | None = None,
) -> jax.Array:
    """Softmax attention in float32 with grouped queries; [B, T, N, H] in the queries' dtype.

    Query head n reads key/value head n // (N / K); `mask_BTS` is true where a query sees a key; the
    scores are multiplied by `scale`, by default 1 / sqrt(H), and then soft-capped.
    """
    batch, length, heads, head_width = q_BTNH.shape
    kv_heads = k_BSKH.shape[2]
    q_BTKGH = q_BTNH.reshape(batch, length, kv_heads, heads // kv_heads, head_width)
    scores_BKGTS = jnp.einsum(
        "BTKGH,BSKH->BKGTS", q_BTKGH, k_BSKH, preferred_element_type=jnp.float32
    )
    scores_BKGTS *= head_width**-0.5 if scale is None else scale
    scores_BKGTS = soft_capped(scores_BKGTS, soft_cap)
    scores_BKGTS = jnp.where(mask_BTS[:, None, None], scores_BKGTS, _MASKED)
    weights_BKGTS = jax.nn.softmax(scores_BKGTS, axis=-1).astype(v_BSKH.dtype)
    out_BTKGH = jnp.einsum("BKGTS,BSKH->BTKGH", weights_BKGTS, v_BSKH)
    return out_BTKGH.reshape(q_BTNH.shape).astype(q_BTNH.dtype)


def causal_attend(
    positions_BT: jax.Array,
    config: ModelConfig,
    *,
    segment_ids_BT: jax.Array | None = None,
    block: int | None = None,
):
    """Attention of whole sequences to themselves, the `attend` of `transformer.forward`.

    `positions_BT` are int32 positions within a token's own document, `segment_ids_BT` the documents
    of packed or padded rows; None: each row is one document without padding on the left.
    With `block` so many queries are computed together, with the keys up to their end alone, and
    again in the backward pass; documents then stand in order in a row.
    """
    dot_product = functools.partial(dot_product_attention, soft_cap=config.attention_soft_cap)

    def mask(own: slice, seen: slice, window: int | jax.Array | None) -> jax.Array:
        return attention_mask(
            positions_BT[:, own],
            positions_BT[:, seen],
            q_segments_BT=None if segment_ids_BT is None else segment_ids_BT[:, own],
            k_segments_BS=None if segment_ids_BT is None else segment_ids_BT[:, seen],
            sliding_window=window,
        )

    if block is None:
        whole = slice(None)
        # Made once where all layers share it.
        mask_BTT = None if config.global_every else mask(whole, whole, config.sliding_window)

        def attend_whole(q_BTNH, k_BTKH, v_BTKH, state, window=None):
            own_BTT = mask(whole, whole, window) if mask_BTT is None else mask_BTT
            return dot_product(q_BTNH, k_BTKH, v_BTKH, own_BTT), state

        return attend_whole

    @functools.partial(jax.checkpoint, static_argnums=(4, 5))
    def one(q_BtNH, k_BSKH, v_BSKH, window, start: int, stop: int):
        mask_BtS = mask(slice(start, stop), slice(stop), window)
        return dot_product(q_BtNH, k_BSKH, v_BSKH, mask_BtS)

    def attend(q_BTNH, k_BTKH, v_BTKH, state, window=config.sliding_window):
        outs = []
        for start in range(0, q_BTNH.shape[1], block):
            own, seen = slice(start, start + block), slice(start + block)
            arrays = q_BTNH[:, own], k_BTKH[:, seen], v_BTKH[:, seen]
            outs.append(one(*arrays, window, start, start + block))
        return (outs[0] if len(outs) == 1 else jnp.concatenate(outs, axis=1)), state

    return attend
