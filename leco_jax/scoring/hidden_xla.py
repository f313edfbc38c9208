"""Sums over the vocabulary from hidden states, streamed: logits exist one block at a time.

A loop takes a block of columns of the unembedding matrix, multiplies, adds to the sums and forgets
the logits; the backward loop multiplies again. The last block, smaller where the vocabulary is not
a multiple, follows the loop, so nothing is padded or copied.

Where the compiler partitions the arrays the loop takes blocks of rows: it would gather a slice of a
sharded vocabulary on every device. Block j takes every row i with i mod (number of blocks) = j, so
that each device has its share of each block, however the rows are sharded.
"""

import math

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental.shard_alike import shard_alike

from leco_jax.scoring import gradients, partials, shards, topk
from leco_jax.scoring.shards import vary_like
from leco_jax.scoring.types import Options

BLOCK = 2048  # columns; a block of logits is 4 * rows * BLOCK bytes
ROWS_BYTES = 2**24  # of a block of logits on each device, where the compiler partitions


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
    if shards.partitioned(hidden, unembed):
        return _sums_by_rows(hidden, unembed, columns, valid, options, layout, k)
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
    if shards.partitioned(hidden, unembed):
        return _gradients_by_rows(hidden, unembed, weights, kept, valid, options, layout)
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


def _sums_by_rows(hidden, unembed, columns, valid, options: Options, layout: str, k: int):
    ids = jnp.arange(unembed.shape[layout.index("V")])
    keep = None if isinstance(valid, int) and valid == len(ids) else ids < valid
    unembed = _wide(unembed)

    def sums_of(carry, hidden, columns):
        x = partials.cap(_product(hidden, unembed, layout), options)
        empty = partials.empty(x.shape[:-1], options)
        empty = jax.tree.map(lambda leaf: vary_like(leaf, hidden, unembed, columns), empty)
        sums = partials.absorb(empty, x, -1, options, keep)
        target = jnp.where(ids == columns[..., None], x, 0.0).sum(-1)
        top = topk.largest(x if keep is None else jnp.where(keep, x, -jnp.inf), k) if k else None
        return carry, (sums, target, top)

    _, (sums, target, top) = _over_rows(sums_of, (), (hidden, columns), len(ids))
    return (sums._replace(top=top[0]) if options.needs_top else sums), target, top


def _gradients_by_rows(hidden, unembed, weights, kept, valid, options: Options, layout: str):
    ids = jnp.arange(unembed.shape[layout.index("V")])
    keep = None if isinstance(valid, int) and valid == len(ids) else valid
    matrix = _wide(unembed)
    back = "...v,vd->...d" if layout == "VD" else "...v,dv->...d"

    def add(d_unembed, hidden, weights, kept):
        x = partials.cap(_product(hidden, matrix, layout), options)
        dx = gradients.logits_gradient(x, weights, kept, ids, keep, options)
        dx = dx.astype(_wide(hidden).dtype)
        d_hidden = jnp.einsum(back, dx, matrix, preferred_element_type=jnp.float32)
        pair = (dx, _wide(hidden)) if layout == "VD" else (_wide(hidden), dx)
        rows = tuple(range(hidden.ndim - 1))
        d_unembed += lax.dot_general(
            *pair, ((rows, rows), ((), ())), preferred_element_type=jnp.float32
        )
        return d_unembed, d_hidden.astype(hidden.dtype)

    total = vary_like(jnp.zeros(unembed.shape, jnp.float32), hidden, unembed, weights.constant)
    total, _ = shard_alike(total, unembed)
    d_unembed, d_hidden = _over_rows(add, total, (hidden, weights, kept), len(ids))
    return d_hidden, d_unembed.astype(unembed.dtype)


def _over_rows(function, carry, arrays, vocab: int):
    """Scans (carry, arrays of some rows) -> (carry, results) over blocks of rows.

    Args:
      function: what to compute for a block.
      carry: passed from block to block.
      arrays: a tree; the first is `[..., T, D]`, and all begin with its axes of rows.
      vocab: how many logits a row has.

    Returns:
      The carry and the results of all rows.
    """
    rows = arrays[0].shape[:-1]
    if not rows:
        carry, results = function(carry, *jax.tree.map(lambda x: x[None], arrays))
        return carry, jax.tree.map(lambda x: x[0], results)
    *lead, tokens = rows
    axis = len(lead)
    least = math.ceil(4 * math.prod(rows) * vocab / (ROWS_BYTES * shards.devices_of(*arrays[:1])))
    blocks = next((n for n in range(max(1, least), 2 * least + 1) if tokens % n == 0), None)
    blocks = blocks or min(max(1, least), tokens)
    padding = -tokens % blocks

    def split(x):
        if padding:
            x = jnp.pad(x, [(0, padding if i == axis else 0) for i in range(x.ndim)])
        return x.reshape(*x.shape[:axis], -1, blocks, *x.shape[axis + 1 :])

    def join(x):
        x = jnp.moveaxis(x, 0, axis + 1)
        x = x.reshape(*lead, tokens + padding, *x.shape[axis + 2 :])
        return lax.slice_in_dim(x, 0, tokens, axis=axis)

    parts = jax.tree.map(split, arrays)

    def body(carry, block):
        here = jax.tree.map(
            lambda x: lax.dynamic_index_in_dim(x, block, axis + 1, keepdims=False), parts
        )
        return function(carry, *here)

    carry, results = lax.scan(body, carry, jnp.arange(blocks))
    return carry, jax.tree.map(join, results)


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
