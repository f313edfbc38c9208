"""`vmap` of a kernel over rows is one call with more rows, not a kernel with a longer grid."""

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
