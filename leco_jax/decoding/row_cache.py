"""The keys and values that an engine holds: of its rows, and of prompts that may come again."""

import collections
import contextlib
import math
from collections.abc import Iterator

import jax
import numpy as np
from jax.sharding import Mesh

from leco_jax.decoding import cache as kv
from leco_jax.decoding.cache_attention import keys_layout
from leco_jax.models.config import ModelConfig
from leco_jax.models.sharding import resolve
from leco_jax.shapes import bucket, power_of_two

Prompt = tuple[int, ...]

_LEAST_SLOTS = 128  # of a row; more are rounded up from there


class OutOfMemoryError(MemoryError):
    """The cache does not fit; the message says how large it is and what to lower."""


class RowCache:
    """Keys and values of a fixed number of rows, as long as the longest of them needs.

    Attributes:
      arrays: the cache; decoding donates it and puts the new one here.
      slots: tokens that each row has room for now.
      largest: the most that `slots` can become.
    """

    def __init__(self, config: ModelConfig, *, rows: int, longest: int, mesh: Mesh | None):
        """Allocates the smallest cache; OutOfMemoryError if it would not fit at its largest.

        `longest` is the most tokens that a row will ever hold.
        """
        self._config = config
        self._rows = rows
        self._mesh = mesh
        with self.on_mesh():
            self._keys = keys_layout()
        self.largest = self.bucket(longest)
        check_fits(config, rows=rows, slots=self.largest, mesh=mesh)
        self.slots = _LEAST_SLOTS
        with self.on_mesh(), explained(config, rows=rows, slots=self.slots):
            self.arrays = kv.empty_cache(
                config, rows=rows, slots=self.slots, keys=self._keys, mesh=mesh
            )

    def bucket(self, tokens: int) -> int:
        """Slots of the smallest cache whose rows hold `tokens` tokens."""
        return slots_for(tokens, self._keys)

    def fit(self, tokens: int) -> None:
        """Grows or shrinks to the smallest cache whose rows hold `tokens` tokens."""
        slots = self.bucket(tokens)
        if slots == self.slots:
            return
        with self.on_mesh(), explained(self._config, rows=self._rows, slots=slots):
            # Array by array: the old and the new cache are never both in memory.
            for name, arrays in self.arrays.items():
                for i in range(len(arrays)):
                    arrays[i] = kv.resize({name: [arrays[i]]}, slots=slots)[name][0]
                    arrays[i].block_until_ready()
        self.slots = slots

    def insert(self, chunk: kv.Cache, row: int, *, tokens: int) -> None:
        """Writes a prefilled chunk into a row that is to hold `tokens` tokens."""
        self.fit(max(tokens, self.slots))
        with self.on_mesh():
            self.arrays = kv.insert(self.arrays, chunk, np.int32(row))

    def clear(self, row: int, start: int) -> None:
        """Zeros a row's slots from `start` on, which may hold NaN."""
        with self.on_mesh():
            self.arrays = kv.clear(self.arrays, np.int32(row), np.int32(start))

    def on_mesh(self) -> contextlib.AbstractContextManager:
        """The context in which programs over the cache run."""
        return contextlib.nullcontext() if self._mesh is None else jax.set_mesh(self._mesh)


def slots_for(tokens: int, keys: str) -> int:
    """Slots of the smallest cache whose rows hold so many tokens; `keys` as for `empty_cache`."""
    # XLA's attention reads all slots; the kernel only those in use, in blocks of powers of two.
    round_up = bucket if keys == "kt" else power_of_two
    return round_up(tokens, least=_LEAST_SLOTS)


class PromptChunks:
    """Prefilled prompts, so that chains with the same prompt compute it once.

    A chunk is kept as long as a queued chain needs it. After that the most recently used ones stay,
    of at most `spare` tokens in all (padding included): the samples of a problem may be requested
    one after another.
    """

    def __init__(self, *, spare: int):
        """Starts empty; `spare` bounds the chunks that no queued chain needs."""
        self._spare = spare
        self._waiting: collections.Counter[Prompt] = collections.Counter()
        self._chunks: dict[Prompt, kv.Cache] = {}  # the most recently used one last
        self._seen: set[int] = set()  # hashes of all prompts so far

    def expect(self, prompt: Prompt) -> None:
        """Counts one more queued chain with this prompt."""
        self._waiting[prompt] += 1

    def forget(self, prompt: Prompt) -> None:
        """Counts one queued chain with this prompt less."""
        self._waiting[prompt] -= 1
        if not self._waiting[prompt]:
            del self._waiting[prompt]

    def take(self, prompt: Prompt) -> kv.Cache | None:
        """Gives a chain that leaves the queue its chunk; None: compute it, then `put` it here."""
        self.forget(prompt)
        chunk = self._chunks.pop(prompt, None)
        if chunk is not None:
            self._keep(prompt, chunk)
        return chunk

    def put(self, prompt: Prompt, chunk: kv.Cache) -> bool:
        """Adds a chunk; returns whether the same prompt had been added before."""
        again = hash(prompt) in self._seen
        self._seen.add(hash(prompt))
        self._keep(prompt, chunk)
        return again

    def _keep(self, prompt: Prompt, chunk: kv.Cache) -> None:
        self._chunks[prompt] = chunk
        room = self._spare
        for other in reversed(list(self._chunks)):
            if other in self._waiting:
                continue
            room -= self._chunks[other]["v"][0].shape[2]
            if room < 0:
                del self._chunks[other]


# Memory


def cache_bytes(config: ModelConfig, *, rows: int, slots: int) -> int:
    """Bytes of keys and values of `rows` rows with `slots` slots each, over all devices."""
    numbers = 2 * config.num_layers * rows * config.num_kv_heads * slots * config.head_width
    return numbers * np.dtype(config.dtype).itemsize


def check_fits(config: ModelConfig, *, rows: int, slots: int, mesh: Mesh | None) -> None:
    """Checks the cache at its largest and one extra row for prompts against a device's memory.

    Does nothing where the runtime does not report what is free.

    Raises:
      OutOfMemoryError: it would not fit.
    """
    devices = jax.local_devices() if mesh is None else mesh.local_devices
    stats = devices[0].memory_stats() or {}
    if "bytes_limit" not in stats:
        return
    free = stats["bytes_limit"] - stats.get("bytes_in_use", 0)
    shards = 1
    if mesh is not None:
        shape = (rows, config.num_kv_heads, slots, config.head_width)
        spec, _ = resolve("cache", shape, kv.AXES["v"], dict(mesh.shape))
        shards = math.prod(mesh.shape[name] for name in jax.tree.leaves(tuple(spec)))
    need = math.ceil(cache_bytes(config, rows=rows + 1, slots=slots) / shards)
    if need > free:
        message = _message(config, rows, slots)
        raise OutOfMemoryError(f"{message}; a device has {free / 1e9:.2f} GB free")


@contextlib.contextmanager
def explained(config: ModelConfig, *, rows: int, slots: int) -> Iterator[None]:
    """Turns the runtime's error about memory into one that names the cache and the way out."""
    try:
        yield
    except (jax.errors.JaxRuntimeError, MemoryError) as error:
        if not isinstance(error, MemoryError) and "RESOURCE_EXHAUSTED" not in str(error):
            raise
        raise OutOfMemoryError(_message(config, rows, slots)) from error


def _message(config: ModelConfig, rows: int, slots: int) -> str:
    size = cache_bytes(config, rows=rows, slots=slots) / 1e9
    return (
        f"the cache of slots={rows} rows of {slots} tokens takes {size:.2f} GB and does not fit: "
        "lower slots or max_length, or shard it over more devices (mesh)"
    )
