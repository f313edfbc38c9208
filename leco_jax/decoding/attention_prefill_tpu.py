"""Prefill attention on TPU: JAX's splash attention, which skips fully masked blocks."""

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas.ops.tpu import splash_attention as splash

_LANES = 128
_BLOCKS = (512, 256, 128)


def unfit(*, head_width: int, dtype) -> str | None:
    """Why the kernel cannot run, or None if it can."""
    if head_width % _LANES and head_width != 64:
        return f"head_width={head_width} is neither 64 nor a multiple of {_LANES}"
    if jnp.dtype(dtype) not in (jnp.dtype(jnp.bfloat16), jnp.dtype(jnp.float32)):
        return f"the model computes in {jnp.dtype(dtype).name}, not bfloat16 or float32"
    return None


def prefill_attention(
    q_BTNH: jax.Array,
    k_BKTH: jax.Array,
    v_BKTH: jax.Array,
    prefix_k_KPH: jax.Array | None = None,
    prefix_v_KPH: jax.Array | None = None,
    *,
    sliding_window: int | None = None,
    soft_cap: float | None = None,
) -> jax.Array:
    """Attention of new rows over a shared prefix, before all of them, and themselves.

    Queries are not scaled. A token sees itself and `sliding_window - 1` tokens before it.
    Scaled scores are soft-capped.

    Returns:
      `[B, T, N, H]` in the queries' dtype.
    """
    batch, length, num_heads, width = q_BTNH.shape
    offset = 0 if prefix_k_KPH is None else prefix_k_KPH.shape[1]
    # Padded queries cost time; padded keys do not, as no query sees them: their blocks are skipped.
    padded = pl.cdiv(length, _LANES) * _LANES
    block_q = next(n for n in _BLOCKS if padded % n == 0)
    block_kv = min(_BLOCKS[0], pl.cdiv(offset + length, _LANES) * _LANES)
    total = pl.cdiv(offset + padded, block_kv) * block_kv

    mask: splash.Mask = splash.CausalMask((padded, total), offset=offset)
    if sliding_window is not None:
        mask = splash.LocalMask((padded, total), (sliding_window - 1, 0), offset=offset)
    kernel = splash.make_splash_mha(
        splash.MultiHeadMask([mask] * (batch * num_heads)),
        block_sizes=splash.BlockSizes(block_q=block_q, block_kv=block_kv),
        attn_logits_soft_cap=soft_cap,
        head_shards=1,
        q_seq_shards=1,
    )

    # The kernel has no batch axis: heads of all rows share one axis.
    def keys(prefix_KPH, own_BKTH):
        if prefix_KPH is not None:
            prefix_BKPH = jnp.broadcast_to(prefix_KPH, (batch, *prefix_KPH.shape))
            own_BKTH = jnp.concatenate([prefix_BKPH, own_BKTH], axis=2)
        flat = own_BKTH.reshape(-1, *own_BKTH.shape[2:])
        return jnp.pad(flat, ((0, 0), (0, total - offset - length), (0, 0)))

    q = (q_BTNH * width**-0.5).transpose(0, 2, 1, 3).reshape(batch * num_heads, length, width)
    q = jnp.pad(q, ((0, 0), (0, padded - length), (0, 0)))
    out = kernel(q, keys(prefix_k_KPH, k_BKTH), keys(prefix_v_KPH, v_BKTH))
    return out[:, :length].reshape(batch, num_heads, length, width).transpose(0, 2, 1, 3)
