"""Work that is the same for every row: in blocks of rows, or under vmap in one call."""

import jax
import jax.numpy as jnp
from jax import lax


def merge_rows_under_vmap(call, row_arguments: int):
    """Wraps a kernel's call.

    Args:
      call: (arrays whose first axis is rows..., other arrays...) -> `[sums, rows]`.
      row_arguments: how many of its arguments have rows.

    Returns:
      The same function; batched rows are merged, and other batched arguments looped over.
    """

    @jax.custom_batching.custom_vmap
    def merged(*arrays):
        return call(*arrays)

    @merged.def_vmap
    def rule(size, batched, *arrays):
        if any(batched[row_arguments:]):

            def one(i):
                return merged(*(x[i] if b else x for x, b in zip(arrays, batched, strict=True)))

            return lax.map(one, jnp.arange(size)), True
        rows = [
            x if b else jnp.broadcast_to(x, (size, *x.shape))
            for x, b in zip(arrays[:row_arguments], batched, strict=False)
        ]
        found = merged(*(x.reshape(-1, *x.shape[2:]) for x in rows), *arrays[row_arguments:])
        return jnp.moveaxis(found.reshape(found.shape[0], size, -1), 1, 0), True

    return merged


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
