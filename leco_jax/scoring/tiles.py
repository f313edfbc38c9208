"""Loops over blocks of columns and, inside, of rows: what streams a product with the unembedding.

A block of columns of the matrix is read once for all rows, and a block of logits, rows × columns of
float32, is all that exists of them. Rows that are wanted are brought to the front, and the loop
over blocks of rows ends where they do: the others cost nothing.

Where the compiler partitions the arrays there is one block of columns, for a slice of a sharded
vocabulary would be gathered on every device. Block j of the rows then takes every row i with
i mod (number of blocks) = j, so that each device has its share of each block, however the rows are
sharded.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from leco_jax.scoring import shards

COLUMNS = 2048
ROWS = (128, 1024)  # of a block: about an eighth of them, between these
ROWS_BYTES = 2**24  # of a block of logits on each device, where the compiler partitions


class Tiles:
    """How the rows `[..., T]` and the columns of a product are divided into blocks.

    Attributes:
      rows: shape of the rows once split; arrays of the state of each row begin with it.
      whole: there is one block of columns.
    """

    def __init__(self, shape: tuple[int, ...], vocab: int, wanted, *matrices):
        """Divides.

        Args:
          shape: of the rows, `[..., T]`.
          vocab: how many columns there are.
          wanted: `[..., T]` bool, which rows to compute, or None for all.
          *matrices: the arrays that the compiler may partition.
        """
        self._shape, self._order = shape, None
        self.whole = bool(shards.partitioned(*matrices)) and bool(shape)
        lead, tokens = shape[:-1], math.prod(shape)
        if self.whole:
            tokens = shape[-1]
            most = ROWS_BYTES * shards.devices_of(*matrices)
            least = max(1, math.ceil(4 * math.prod(shape) * vocab / most))
            blocks = next((n for n in range(least, 2 * least + 1) if tokens % n == 0), None)
            blocks = blocks or min(least, tokens)
            self.rows = (*lead, -(-tokens // blocks), blocks)
            self._axis, self._number = len(lead) + 1, blocks
        else:
            size = ROWS[1] if wanted is None else -(-tokens // 8 // ROWS[0]) * ROWS[0]
            size = max(1, min(tokens, max(ROWS[0], min(ROWS[1], size))))
            self._axis, self._number = 0, max(1, -(-tokens // size))
            self.rows = (self._number, size)
        self._tokens = tokens
        if wanted is not None and not self.whole and self._number > 1:
            self._order = jnp.argsort(~wanted.reshape(-1), stable=True)
            self._number = -(-wanted.sum(dtype=jnp.int32) // size)

    def split(self, tree):
        """Arrays `[..., T, ...]` as blocks of rows."""
        return jax.tree.map(self._split, tree)

    def _split(self, x):
        rest = x.shape[len(self._shape) :]
        if not self.whole:
            x = x.reshape(self._tokens, *rest)
            x = x if self._order is None else x[self._order]
        axis = len(self.rows) - 2
        padding = self.rows[-1] * self.rows[-2] - self._tokens
        if padding:
            x = jnp.pad(x, [(0, padding if i == axis else 0) for i in range(x.ndim)])
        return x.reshape(*self.rows, *rest)

    def join(self, tree):
        """The reverse of `split`."""
        return jax.tree.map(self._join, tree)

    def _join(self, x):
        rest = x.shape[len(self.rows) :]
        axis = len(self.rows) - 2
        x = x.reshape(*self.rows[:-2], -1, *rest)
        x = lax.slice_in_dim(x, 0, self._tokens, axis=axis)
        if self._order is not None:
            x = x[jnp.argsort(self._order)]
        return x.reshape(*self._shape, *rest)

    def at(self, tree, block):
        """A block of rows of split arrays."""
        return jax.tree.map(
            lambda x: lax.dynamic_index_in_dim(x, block, self._axis, keepdims=False), tree
        )

    def put(self, tree, block, values):
        """Split arrays with a block of rows replaced."""
        return jax.tree.map(
            lambda x, y: lax.dynamic_update_index_in_dim(x, y, block, self._axis), tree, values
        )

    def over_rows(self, add, carry):
        """Calls add(carry, block) for every block that has a wanted row."""
        if self.rows[self._axis] == 1:
            return add(carry, 0)
        return lax.fori_loop(0, self._number, lambda block, carry: add(carry, block), carry)

    def over_columns(self, add, carry, count: int):
        """Calls add(carry, start, size) for every block of the first `count` columns.

        The last block, smaller where the count is not a multiple, follows the loop, so nothing is
        padded or copied.
        """
        if self.whole:
            return add(carry, 0, count)
        blocks, rest = divmod(count, COLUMNS)
        if blocks:
            starts = jnp.arange(blocks) * COLUMNS
            carry, _ = lax.scan(lambda c, start: (add(c, start, COLUMNS), None), carry, starts)
        return add(carry, count - rest, rest) if rest else carry


def columns_of(x: Any, start, size: int, axis: int = 0):
    """A block of columns; the array itself where it is all of them."""
    return x if x.shape[axis] == size else lax.dynamic_slice_in_dim(x, start, size, axis)


def put_columns(x, block, start, axis: int = 0):
    """An array with a block of columns replaced."""
    block = block.astype(x.dtype)
    if x.shape == block.shape:
        return block
    return lax.dynamic_update_slice_in_dim(x, block, start, axis)
