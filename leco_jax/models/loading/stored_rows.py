"""Matrices whose contiguous axis in the file is cut: read by rows, exchanged between devices.

A mesh of fsdp=256 cuts rows of 8 kB into pieces of 32 bytes. So each device reads whole rows, as
many as its share, in one run or two, and an all-to-all gives every device its columns of all rows.
The rows of a weight's layers count as one after the other, which makes runs as long as they can be.
"""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import NamedSharding

from leco_jax.models.config import ModelConfig
from leco_jax.models.weights import Weight

Index = tuple[slice, ...]
Fix = Callable[[Any], Any]


class StoredRows(NamedTuple):
    """How the rows of one weight in files lie on the devices that read them.

    They are an array [blocks, padded rows, columns]: a block is what one device of `row_axes` has
    of every layer's rows, one layer's behind the other's.
    """

    row_axes: tuple[str, ...]  # mesh axes that cut the rows, in the model too
    column_axes: tuple[str, ...]  # those that cut the columns in the model, and here the rows
    blocks: int
    layers: int
    rows: int  # of a block in one layer
    padded: int  # rows of a block, a multiple of the devices that share them
    columns: int

    @property
    def shape(self) -> tuple[int, int, int]:
        """Of the array."""
        return self.blocks, self.padded, self.columns

    @property
    def spec(self) -> jax.P:
        """Of the array."""
        return jax.P(self.row_axes or None, self.column_axes, None)

    def read(self, index: Index, read_rows: Callable[[int, slice], np.ndarray]) -> np.ndarray:
        """A device's part; `read_rows` gives some rows of one layer, all in the wanted dtype."""
        parts = []
        first, stop, _ = index[1].indices(self.padded)
        for block in range(*index[0].indices(self.blocks)):
            row = first
            while row < min(stop, self.layers * self.rows):
                layer, start = divmod(row, self.rows)
                count = min(self.rows - start, stop - row)
                begin = block * self.rows + start
                parts.append(read_rows(layer, slice(begin, begin + count)))
                row += count
            if missing := stop - max(row, first):
                like = parts[0] if parts else read_rows(0, slice(0, 1))
                parts.append(np.zeros((missing, self.columns), like.dtype))
        return np.concatenate(parts).reshape(-1, stop - first, self.columns)


def stored_rows(weight: Weight, config: ModelConfig, sharding: NamedSharding) -> StoredRows | None:
    """How to read a weight by rows; None where its rows in files are not cut across."""
    groups = weight.stored.split(",")
    spec = [*sharding.spec, *[None] * (len(weight.dims) - len(sharding.spec))]
    axes = {
        letter: (own,) if isinstance(own, str) else tuple(own or ())
        for letter, own in zip(weight.dims, spec, strict=True)
    }
    leading = {group[0] for group in groups}
    if len(groups) != 2 or any(own for letter, own in axes.items() if letter not in leading):
        return None
    row_axes, column_axes = axes[groups[0][0]], axes[groups[1][0]]
    if not column_axes:
        return None
    height, width = (math.prod(config.sizes[letter] for letter in group) for group in groups)
    layers = config.num_layers if weight.dims[0] == "L" else 1
    blocks = math.prod(sharding.mesh.shape[axis] for axis in row_axes)
    shared = math.prod(sharding.mesh.shape[axis] for axis in column_axes)
    rows = height // blocks
    padded = -(-layers * rows // shared) * shared
    return StoredRows(row_axes, column_axes, blocks, layers, rows, padded, width)


def exchanged(
    stored: jax.Array,
    how: StoredRows,
    weight: Weight,
    config: ModelConfig,
    sharding: NamedSharding,
    fix: Fix | None,
) -> jax.Array:
    """The weight in the model's layout on `sharding`, from an array that `StoredRows` describes."""
    return _exchange(how, weight.dims, weight.stored, config, sharding, fix)(stored)


@functools.lru_cache(maxsize=64)
def _exchange(
    how: StoredRows,
    dims: str,
    stored: str,
    config: ModelConfig,
    sharding: NamedSharding,
    fix: Fix | None,
) -> Callable[[jax.Array], jax.Array]:
    mesh, stacked = sharding.mesh, dims.startswith("L")
    letters, dims = stored.replace(",", ""), dims.removeprefix("L")
    cut = {
        group[0]: math.prod(mesh.shape[axis] for axis in axes)
        for group, axes in zip(stored.split(","), (how.row_axes, how.column_axes), strict=True)
    }
    sizes = [config.sizes[letter] // cut.get(letter, 1) for letter in letters]
    order = [0, *(1 + letters.index(letter) for letter in dims)]

    def own_columns(part: jax.Array) -> jax.Array:
        part = jax.lax.all_to_all(part[0], how.column_axes, split_axis=1, concat_axis=0, tiled=True)
        part = part[: how.layers * how.rows].reshape(how.layers, *sizes).transpose(order)
        part = part if stacked else part[0]
        return part if fix is None else fix(part)

    move = jax.shard_map(own_columns, mesh=mesh, in_specs=how.spec, out_specs=sharding.spec)
    return jax.jit(move, out_shardings=sharding)
