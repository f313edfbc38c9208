"""The k largest logits of each row without sorting the vocabulary.

The k largest values lie within the k groups whose maxima are largest. So one pass takes the maxima
of about √V groups, and only k groups are looked into: k·√V values are sorted instead of V. Looking
them up makes XLA's TPU compiler copy the logits, so it is done for a block of rows at a time.
"""

import functools
import math

import jax
import jax.numpy as jnp
from jax import lax

from leco_jax.scoring import partials
from leco_jax.scoring.types import Options

GROUP = 128
ROWS = 64


def top_of_logits(logits, scale, valid, k: int, options: Options):
    """The k largest capped logits of each row in falling order, and their columns.

    Args:
      logits: `[..., V]`.
      scale: `[...]` positive factor of each row, or None.
      valid: how many of them count: an int, or an int32 array.
      k: how many.
      options: the cap.

    Returns:
      float32 `[..., k]`, −inf where there are fewer, and int32 `[..., k]`, there −1.
    """
    if logits.ndim == 1:
        values, ids = top_of_logits(logits[None], None, valid, k, options)
        return partials.scaled(values[0], scale), ids[0]

    def block(row, size):
        x = lax.dynamic_slice_in_dim(logits, row, size, -2)
        if isinstance(valid, int):
            x = x[..., :valid]
        else:
            x = jnp.where(jnp.arange(x.shape[-1]) < valid, x, -jnp.inf)
        values, ids = largest(x, k)
        # Rows last, as over_blocks wants them.
        return jnp.moveaxis(partials.cap(values, options), -1, 0), jnp.moveaxis(ids, -1, 0)

    if logits.dtype.itemsize == 1:
        logits = logits.astype(jnp.bfloat16)  # exact; some of these types have no −inf
    lead = math.prod(logits.shape[:-2])
    values, ids = over_blocks(block, logits.shape[-2], max(1, ROWS // max(1, lead)))
    return partials.scaled(jnp.moveaxis(values, 0, -1), scale), jnp.moveaxis(ids, 0, -1)


def largest(x, k: int):
    """`lax.top_k` along the last axis, padded with −inf and column −1 where there are fewer."""
    *rows, size = x.shape
    groups, rest = divmod(size, GROUP)
    if groups <= k:
        values, ids = lax.top_k(x, min(k, size))
    else:
        window = (1,) * len(rows) + (GROUP,)
        lowest = jnp.array(-jnp.inf, x.dtype)
        maxima = lax.reduce_window(x, lowest, lax.max, window, window, "VALID")
        starts = lax.top_k(maxima, k)[1] * GROUP
        members = _slices(x, starts).reshape(*rows, k * GROUP)
        columns = (starts[..., None] + jnp.arange(GROUP)).reshape(*rows, k * GROUP)
        if rest:
            tail = jnp.broadcast_to(jnp.arange(size - rest, size), (*rows, rest))
            members = jnp.concatenate([members, x[..., size - rest :]], axis=-1)
            columns = jnp.concatenate([columns, tail], axis=-1)
        values, places = lax.top_k(members, k)
        ids = jnp.take_along_axis(columns, places, axis=-1)
    padding = [(0, 0)] * len(rows) + [(0, k - values.shape[-1])]
    return (
        jnp.pad(values, padding, constant_values=-jnp.inf),
        jnp.pad(ids, padding, constant_values=-1),
    )


def nothing(shape, k: int):
    """The k largest of no values."""
    return jnp.full((*shape, k), -jnp.inf), jnp.full((*shape, k), -1)


def merge(a, b):
    """The k largest of two sets of k (values, columns); on ties those of `a` stay."""
    values, ids = (jnp.concatenate(pair, axis=-1) for pair in zip(a, b, strict=True))
    values, places = lax.top_k(values, a[0].shape[-1])
    return values, jnp.take_along_axis(ids, places, axis=-1)


@functools.partial(jnp.vectorize, signature="(v),(k)->(k,g)")
def _slices(row, starts):
    return jax.vmap(lambda start: lax.dynamic_slice_in_dim(row, start, GROUP))(starts)


def over_blocks(block, rows: int, size: int):
    """Computes row by row functions in blocks, so that their temporaries are those of one block.

    The loop runs over the last axis of rows and leaves leading ones whole: those are what batches
    are sharded over.

    Args:
      block: (first row, how many) -> a tree of `[..., how many]`.
      rows: how many rows there are.
      size: how many to compute at a time.

    Returns:
      The tree of `[..., rows]`.
    """
    if rows <= size:
        return block(0, rows)
    blocks, rest = divmod(rows, size)
    many = lax.map(lambda row: block(row, size), jnp.arange(blocks) * size)

    def flat(x):
        x = jnp.moveaxis(x, 0, -2)
        return x.reshape(*x.shape[:-2], blocks * size)

    many = jax.tree.map(flat, many)
    if not rest:
        return many
    last = block(rows - rest, rest)
    return jax.tree.map(lambda a, b: jnp.concatenate([a, b], axis=-1), many, last)
