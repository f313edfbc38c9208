"""Sums over the vocabulary from hidden states, streamed: logits exist one tile at a time.

The forward loop multiplies a block of rows with a block of columns, adds to the sums and forgets
the logits; the backward loop multiplies again.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from leco_jax.scoring import gradients, partials, topk
from leco_jax.scoring.shards import vary_like
from leco_jax.scoring.tiles import Tiles, columns_of, put_columns
from leco_jax.scoring.types import Asked, Options

try:
    from jax.experimental.shard_alike import shard_alike
except ImportError:  # jax 0.12 has none: there the compiler alone chooses how dW is sharded.

    def shard_alike(x: Any, y: Any) -> Any:
        return x, y


class Head(NamedTuple):
    """What turns hidden states `[..., T, D]` into logits.

    Attributes:
      hidden: `[..., T, D]`.
      unembed: `[V, D]`, or `[D, V]` with layout "DV".
      bias: `[V]`, or None.
    """

    hidden: Any
    unembed: Any
    bias: Any = None


def sums_from_hidden(
    head: Head, columns, asked: Asked, valid, options: Options, layout: str, keep_top: bool = False
):
    """Sums over the first `valid` rows of the vocabulary axis.

    Args:
      head: hidden states, unembedding and bias.
      columns: `[..., T, K]` int32 columns of each row's tokens, −1 for none.
      asked: which rows to compute, and their scale.
      valid: how many columns count: an int, or an int32 array where only the device knows.
      options: the statistics asked for.
      layout: "VD" or "DV".
      keep_top: return what the backward pass must know of the most likely tokens.

    Returns:
      Partials; the capped logit of each token, 0 for none; and the k most likely tokens (capped
      logits, columns), or None.
    """
    k = gradients.top_size(options) if keep_top or options.needs_top else 0
    tiles, count, dynamic = tiles_of(head, asked.mask, valid, layout)
    rows = tiles.split((head.hidden, columns, asked.scale))

    def add(state, start, size):
        block = block_of(head, start, size, layout)
        ids = start + jnp.arange(size)
        keep = ids < valid if dynamic else None

        def tile(state, i):
            hidden, columns, scale = tiles.at(rows, i)
            sums, target, top = tiles.at(state, i)
            x = partials.cap(product(hidden, block, layout), options, scale)
            sums = partials.absorb(sums, x, -1, options, ids, keep)
            target = target + gradients.picked(x, columns, ids)
            if k:
                seen = x if keep is None else jnp.where(keep, x, -jnp.inf)
                values, places = topk.largest(seen, k)
                places = jnp.where(places >= 0, places + start, -1)
                top = topk.merge(top, (values, places))
            return tiles.put(state, i, (sums, target, top))

        return tiles.over_rows(tile, state)

    shape = tiles.rows
    state: Any = (
        partials.empty(shape, options),
        jnp.zeros((*shape, columns.shape[-1])),
        topk.nothing(shape, k) if k else None,
    )
    state = jax.tree.map(lambda x: vary_like(x, *jax.tree.leaves((head, columns, asked))), state)
    sums, target, top = tiles.join(tiles.over_columns(add, state, count))
    return (sums._replace(top=top[0]) if options.needs_top else sums), target, top


def gradients_from_hidden(
    head: Head,
    asked: Asked,
    weights: gradients.Coefficients,
    kept: gradients.Residuals,
    valid,
    options: Options,
    layout: str,
) -> Head:
    """Cotangents of the hidden states, the unembedding and the bias, in their dtypes."""
    tiles, count, dynamic = tiles_of(head, asked.mask, valid, layout)
    rows = tiles.split((masked(head.hidden, asked.mask), asked.scale, weights, kept))

    def gradient(i, block, start, size):
        hidden, scale, weights, kept = tiles.at(rows, i)
        x = partials.cap(product(hidden, block, layout), options)
        ids = start + jnp.arange(size)
        return gradients.logits_gradient(
            x, scale, weights, kept, ids, valid if dynamic else None, options
        )

    return accumulate(tiles, head, rows[0], gradient, count, layout, weights.constant)


def accumulate(
    tiles: Tiles, head: Head, hidden, gradient, count: int, layout: str, *examples
) -> Head:
    """Sums the products of the logits' cotangent with the unembedding and with the hidden states.

    Args:
      tiles: the blocks.
      head: what the logits are made of.
      hidden: its hidden states, split.
      gradient: (block of rows, block of the head, first column, columns) -> float32 cotangent.
      count: how many columns there are.
      layout: "VD" or "DV".
      *examples: arrays over whose axes the cotangent varies.

    Returns:
      The cotangents, in the dtypes of the head.
    """
    axis = layout.index("V")
    back = "...v,vd->...d" if layout == "VD" else "...v,dv->...d"
    examples = (*examples, *jax.tree.leaves(head))

    def add(carry, start, size):
        d_hidden, total = carry
        block = block_of(head, start, size, layout)

        def tile(carry, i):
            d_hidden, d_block = carry
            here = wide(tiles.at(hidden, i))
            d_x = gradient(i, block, start, size)
            dx = d_x.astype(here.dtype)
            part = jnp.einsum(back, dx, block.unembed, preferred_element_type=jnp.float32)
            d_hidden = tiles.put(d_hidden, i, tiles.at(d_hidden, i) + part)
            contracted = tuple(range(here.ndim - 1))
            pair = (dx, here) if layout == "VD" else (here, dx)
            matrix = d_block.unembed + lax.dot_general(
                *pair, ((contracted, contracted), ((), ())), preferred_element_type=jnp.float32
            )
            bias = None if d_block.bias is None else d_block.bias + d_x.sum(contracted)
            return d_hidden, Head(None, matrix, bias)

        zeros = [None if x is None else jnp.zeros(x.shape, jnp.float32) for x in block[1:]]
        d_block = jax.tree.map(lambda x: vary_like(x, *examples), Head(None, *zeros))
        if tiles.whole:
            d_block = d_block._replace(unembed=shard_alike(d_block.unembed, head.unembed)[0])
        d_hidden, d_block = tiles.over_rows(tile, (d_hidden, d_block))
        return d_hidden, Head(
            None,
            put_columns(total.unembed, d_block.unembed, start, axis),
            None if total.bias is None else put_columns(total.bias, d_block.bias, start),
        )

    total = jax.tree.map(jnp.zeros_like, head._replace(hidden=None))
    carry = (jnp.zeros(hidden.shape, jnp.float32), total)
    carry = jax.tree.map(lambda x: vary_like(x, *examples), carry)
    d_hidden, total = tiles.over_columns(add, carry, count)
    return total._replace(hidden=tiles.join(d_hidden.astype(head.hidden.dtype)))


def tiles_of(head: Head, mask, valid, layout: str, *others) -> tuple[Tiles, int, bool]:
    """The blocks, how many columns they cover, and whether some of these do not count."""
    size = head.unembed.shape[layout.index("V")]
    tiles = Tiles(head.hidden.shape[:-1], size, mask, head.hidden, head.unembed, *others)
    static = isinstance(valid, int)
    if tiles.whole or not static:
        return tiles, size, not static or valid != size
    return tiles, valid, False


def block_of(head: Head, start, size: int, layout: str) -> Head:
    """The unembedding and the bias of a block of columns."""
    matrix = columns_of(head.unembed, start, size, layout.index("V"))
    bias = None if head.bias is None else columns_of(head.bias, start, size)
    return Head(None, wide(matrix), bias)


def product(hidden, block: Head, layout: str):
    """Float32 logits of some rows and columns."""
    contract = "...d,vd->...v" if layout == "VD" else "...d,dv->...v"
    x = jnp.einsum(contract, wide(hidden), block.unembed, preferred_element_type=jnp.float32)
    return x if block.bias is None else x + block.bias.astype(jnp.float32)


def masked(hidden, mask):
    """Zeros in rows without a gradient: a gradient of 0 times NaN would be NaN."""
    return hidden if mask is None else jnp.where(mask[..., None], hidden, 0)


def wide(x):
    """Float8 as bfloat16, exactly: what a TPU multiplies, and what a gradient fits into."""
    return x.astype(jnp.bfloat16) if x.dtype.itemsize == 1 else x
