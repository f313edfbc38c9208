"""The cache of an engine's rows: updated in place, and sized by the longest row."""

import contextlib
import functools

import jax
import numpy as np
from jax.sharding import Mesh

from leco_jax.decoding import cache as kv
from leco_jax.decoding.cache_attention import keys_layout
from leco_jax.decoding.memory import check_fits, explained
from leco_jax.models.config import ModelConfig
from leco_jax.shapes import bucket, power_of_two

LEAST_SLOTS = 128  # of a row; more are rounded up from there


@functools.partial(jax.jit, donate_argnames=("cache",))
def insert(cache: kv.Cache, chunk: kv.Cache, row) -> kv.Cache:
    """`cache.insert` in place, compiled for each size of a chunk and of a cache."""
    return kv.sharded(kv.insert(cache, chunk, row))


@functools.partial(jax.jit, donate_argnames=("cache",))
def clear(cache: kv.Cache, row, start) -> kv.Cache:
    """`cache.clear` in place."""
    return kv.sharded(kv.clear(cache, row, start=start))


@functools.partial(jax.jit, static_argnames=("slots",))
def resize(cache: kv.Cache, slots: int) -> kv.Cache:
    """`cache.resize`."""
    return kv.sharded(kv.resize(cache, slots))


class RowCache:
    """Keys and values of a fixed number of rows.

    Attributes:
      arrays: the cache; decoding takes it and puts its successor here.
      slots: tokens that each row has room for now.
    """

    def __init__(self, config: ModelConfig, *, rows: int, longest: int, mesh: Mesh | None):
        """Allocates the smallest cache.

        Args:
          config: the model.
          rows: how many.
          longest: most tokens of a row that there will ever be.
          mesh: what it is spread over; None: the default device.

        Raises:
          OutOfMemoryError: it would not fit at its largest; said now and not in the midst of a run.
        """
        self._config = config
        self._rows = rows
        self._mesh = mesh
        with self._on_mesh():
            self._keys = keys_layout()
        self.largest = self.bucket(longest)
        check_fits(config, rows=rows, slots=self.largest, mesh=mesh)
        self.slots = LEAST_SLOTS
        with self._on_mesh(), explained(config, rows=rows, slots=self.slots):
            self.arrays = kv.empty_cache(
                config, rows=rows, slots=self.slots, keys=self._keys, mesh=mesh
            )

    def bucket(self, tokens: int) -> int:
        """Slots of the smallest cache that holds so many tokens a row."""
        # XLA's attention reads all that there are, a kernel only those in use and by powers of two.
        round_up = bucket if self._keys == "kt" else power_of_two
        return round_up(tokens, least=LEAST_SLOTS)

    def fit(self, tokens: int) -> None:
        """Takes the smallest size that holds so many tokens a row: attention reads no more.

        Raises:
          OutOfMemoryError: there is no room for it.
        """
        slots = self.bucket(tokens)
        if slots == self.slots:
            return
        with self._on_mesh(), explained(self._config, rows=self._rows, slots=slots):
            # One array after another: old and new are never held together.
            for name, arrays in self.arrays.items():
                for i in range(len(arrays)):
                    arrays[i] = resize({name: [arrays[i]]}, slots=slots)[name][0]
                    arrays[i].block_until_ready()
        self.slots = slots

    def insert(self, chunk: kv.Cache, row: int, *, tokens: int) -> None:
        """Writes a prefilled chunk into a row; `tokens` is what the row needs room for."""
        self.fit(max(tokens, self.slots))
        with self._on_mesh():
            self.arrays = insert(self.arrays, chunk, np.int32(row))

    def clear(self, row: int, start: int) -> None:
        """Zeros slots that may hold NaN: masked out is not enough, as 0 times NaN is NaN."""
        with self._on_mesh():
            self.arrays = clear(self.arrays, np.int32(row), np.int32(start))

    def _on_mesh(self):
        return contextlib.nullcontext() if self._mesh is None else jax.set_mesh(self._mesh)
