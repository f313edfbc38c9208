"""Sums over the vocabulary from hidden states, streamed: logits exist one block at a time.

A loop takes a block of the unembedding matrix, multiplies, adds to the sums and forgets the logits;
the backward loop multiplies again. The last block, smaller where the vocabulary is not a multiple,
follows the loop, so nothing is padded or copied.
"""

import jax
import jax.numpy as jnp
from jax import lax

from leco_jax.scoring import gradients, partials, topk
from leco_jax.scoring.shards import vary_like
from leco_jax.scoring.types import Options

BLOCK = 2048  # columns; a block of logits is 4 * rows * BLOCK bytes


def sums_from_hidden(
    hidden, unembed, columns, valid, options: Options, layout: str, keep_top: bool = False
):
    """Sums over the first `valid` rows of the vocabulary axis.

    Args:
      hidden: `[..., T, D]`.
      unembed: `[V, D]`, or `[D, V]` with layout "DV".
      columns: `[..., T]` int32 column of each row's token, −1 for none.
      valid: how many columns count: an int, or an int32 array where only the device knows.
      options: the statistics asked for.
      layout: "VD" or "DV".
      keep_top: return what the backward pass must know of the most likely tokens.

    Returns:
      Partials; the capped logit of each token, 0 for none; and the k most likely tokens (capped
      logits, columns), or None.
    """
    k = gradients.top_size(options) if keep_top or options.needs_top else 0
    count, dynamic = _static_count(unembed, valid, layout)

    def add(carry, start, size):
        sums, target, top = carry
        x = partials.cap(_product(hidden, _block(unembed, start, size, layout), layout), options)
        ids = start + jnp.arange(size)
        keep = ids < valid if dynamic else None
        sums = partials.absorb(sums, x, -1, options, keep)
        # Where, not a product with one-hot: 0 · (−inf) would be NaN.
        target = target + jnp.where(ids == columns[..., None], x, 0.0).sum(-1)
        if k:
            seen = x if keep is None else jnp.where(keep, x, -jnp.inf)
            values, places = topk.largest(seen, k)
            places = jnp.where(places >= 0, places + start, -1)
            top = topk.merge(top, (values, places))
        return sums, target, top

    rows = hidden.shape[:-1]
    carry = (partials.empty(rows, options), jnp.zeros(rows), topk.nothing(rows, k))
    carry = jax.tree.map(lambda x: vary_like(x, hidden, unembed, columns), carry)
    sums, target, top = _over_blocks(add, carry, count)
    if k:
        if options.needs_top:
            sums = sums._replace(top=top[0])
        return sums, target, top
    return sums, target, None


def gradients_from_hidden(
    hidden, unembed, weights: gradients.Coefficients, kept, valid, options: Options, layout: str
):
    """Cotangents of the hidden states and the unembedding, in their dtypes."""
    count, dynamic = _static_count(unembed, valid, layout)
    rows = tuple(range(hidden.ndim - 1))

    def add(carry, start, size):
        d_hidden, d_unembed = carry
        block = _block(unembed, start, size, layout)
        x = partials.cap(_product(hidden, block, layout), options)
        ids = start + jnp.arange(size)
        dx = gradients.logits_gradient(
            x, weights, kept, ids, valid if dynamic else None, options
        ).astype(_wide(hidden).dtype)
        back = "...v,vd->...d" if layout == "VD" else "...v,dv->...d"
        d_hidden += jnp.einsum(back, dx, block, preferred_element_type=jnp.float32)
        pair = (dx, _wide(hidden)) if layout == "VD" else (_wide(hidden), dx)
        d_block = lax.dot_general(
            *pair, ((rows, rows), ((), ())), preferred_element_type=jnp.float32
        ).astype(unembed.dtype)
        axis = layout.index("V")
        return d_hidden, lax.dynamic_update_slice_in_dim(d_unembed, d_block, start, axis)

    carry = (jnp.zeros(hidden.shape, jnp.float32), jnp.zeros_like(unembed))
    carry = jax.tree.map(lambda x: vary_like(x, hidden, unembed, weights.constant), carry)
    d_hidden, d_unembed = _over_blocks(add, carry, count)
    return d_hidden.astype(hidden.dtype), d_unembed


def _over_blocks(add, carry, count: int):
    blocks, rest = divmod(count, BLOCK)
    if blocks:
        starts = jnp.arange(blocks) * BLOCK
        carry, _ = lax.scan(lambda carry, start: (add(carry, start, BLOCK), None), carry, starts)
    return add(carry, count - rest, rest) if rest else carry


def _static_count(unembed, valid, layout: str) -> tuple[int, bool]:
    size = unembed.shape[layout.index("V")]
    return (valid, False) if isinstance(valid, int) else (size, True)


def _block(unembed, start, size: int, layout: str):
    return _wide(lax.dynamic_slice_in_dim(unembed, start, size, layout.index("V")))


def _product(hidden, block, layout: str):
    product = "...d,vd->...v" if layout == "VD" else "...d,dv->...v"
    return jnp.einsum(product, _wide(hidden), block, preferred_element_type=jnp.float32)


def _wide(x):
    """Float8 as bfloat16, exactly: what a TPU multiplies, and what a gradient fits into."""
    return x.astype(jnp.bfloat16) if x.dtype.itemsize == 1 else x
