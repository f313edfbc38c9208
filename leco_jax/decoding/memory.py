"""How much memory a cache takes, and a clear word when there is not enough."""

import contextlib
import math
from collections.abc import Iterator

import jax
import numpy as np
from jax.sharding import Mesh

from leco_jax.decoding.cache import AXES
from leco_jax.models.config import ModelConfig
from leco_jax.models.sharding import resolve


class OutOfMemoryError(MemoryError):
    """The cache does not fit; the message says what it takes and what to lower."""


def cache_bytes(config: ModelConfig, *, rows: int, slots: int) -> int:
    """Bytes of keys and values of `rows` rows with `slots` slots each, over all devices."""
    numbers = 2 * config.num_layers * rows * config.num_kv_heads * slots * config.head_width
    return numbers * np.dtype(config.dtype).itemsize


def check_fits(config: ModelConfig, *, rows: int, slots: int, mesh: Mesh | None) -> None:
    """Compares a cache at its largest with what the device has free, where it says so.

    One row more is counted: so long are the prompts that are kept for chains to come.

    Args:
        config: the model.
        rows: rows decoded together.
        slots: slots of a row when the cache is at its largest.
        mesh: what it is spread over; None: one device.

    Raises:
        OutOfMemoryError: it would not fit.
    """
    stats = jax.local_devices()[0].memory_stats() or {}
    if "bytes_limit" not in stats:
        return
    free = stats["bytes_limit"] - stats.get("bytes_in_use", 0)
    shards = 1
    if mesh is not None:
        shape = (rows, config.num_kv_heads, slots, config.head_width)
        spec, _ = resolve("cache", shape, AXES["v"], dict(mesh.shape))
        shards = math.prod(mesh.shape[name] for name in jax.tree.leaves(tuple(spec)))
    need = math.ceil(cache_bytes(config, rows=rows + 1, slots=slots) / shards)
    if need > free:
        raise OutOfMemoryError(_message(config, rows, slots) + f"; a device has {_size(free)} free")


@contextlib.contextmanager
def explained(config: ModelConfig, *, rows: int, slots: int) -> Iterator[None]:
    """Turns the runtime's complaint about memory into one that names the cache and the way out."""
    try:
        yield
    except (jax.errors.JaxRuntimeError, MemoryError) as error:
        full = isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error)
        if not full:
            raise
        raise OutOfMemoryError(_message(config, rows, slots)) from error


def _message(config: ModelConfig, rows: int, slots: int) -> str:
    size = _size(cache_bytes(config, rows=rows, slots=slots))
    return (
        f"The cache of slots={rows} rows of {slots} tokens takes {size} and does not fit: lower "
        "slots or max_length, or spread it over more devices (mesh)"
    )


def _size(count: float) -> str:
    return f"{count / 1e9:.2f} GB"
