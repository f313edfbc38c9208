"""The key/value cache as a data structure; `cache_attention` reads it.

A cache is a dict of lists with one array per layer (`S` slots), so that every array is donated and
updated in place: `"v"`, values `[B, K, S, H]`, and keys either as `"k"`, `[B, K, S, H]`, or as
`"kt"`, `[B, K, H, S]`. The rows' lengths are kept outside: rolling a row back changes one number,
and stale slots are masked, not cleared. The shared prefix is a dict of `"k"` and `"v"` with arrays
`[K, P, H]`.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from leco_jax.models.config import ModelConfig
from leco_jax.models.sharding import constrain, named_sharding

Cache = dict[str, list[jax.Array]]

# Logical axes of each kind of array.
AXES = {
    "k": ("batch", "act_kv_heads", "length", "head_width"),
    "v": ("batch", "act_kv_heads", "length", "head_width"),
    "kt": ("batch", "act_kv_heads", "head_width", "length"),
}
SLOT_AXIS = {name: axes.index("length") for name, axes in AXES.items()}


def empty_cache(
    config: ModelConfig, *, rows: int, slots: int, keys: str = "k", mesh: Mesh | None = None
) -> Cache:
    """Makes a cache of zeros in the model's compute type, sharded over the mesh from the start.

    `keys` (`"k"` or `"kt"`) says how the keys lie.
    """
    cache = {}
    shapes = abstract_cache(config, rows=rows, slots=slots, keys=keys, mesh=mesh)
    for name, (one, *_) in shapes.items():
        make = jax.jit(lambda x=one: jnp.zeros(x.shape, x.dtype), out_shardings=one.sharding)
        cache[name] = [make() for _ in range(config.num_layers)]
    return cache


def abstract_cache(
    config: ModelConfig, *, rows: int, slots: int, keys: str, mesh: Mesh | None
) -> dict[str, list[jax.ShapeDtypeStruct]]:
    """Shapes of what `empty_cache` makes, with their shardings: for compiling without arrays."""
    sizes = {"batch": rows, "act_kv_heads": config.num_kv_heads, "length": slots}
    sizes["head_width"] = config.head_width
    cache = {}
    for name in (keys, "v"):
        shape = tuple(sizes[axis] for axis in AXES[name])
        sharding = None if mesh is None else named_sharding("cache", shape, AXES[name], mesh)
        one = jax.ShapeDtypeStruct(shape, config.dtype, sharding=sharding)
        cache[name] = [one] * config.num_layers
    return cache


def sharded(cache: Cache) -> Cache:
    """Constrains a cache to the sharding that its rules give, so that it is updated in place."""
    return {name: [constrain(x, *AXES[name]) for x in arrays] for name, arrays in cache.items()}


@functools.partial(jax.jit, static_argnames=("slots",))
def resize(cache: Cache, slots: int) -> Cache:
    """Gives every row `slots` slots: zeros are added at the end, or the end is cut off."""

    def one(x, axis):
        have = x.shape[axis]
        if slots <= have:
            return jax.lax.slice_in_dim(x, 0, slots, axis=axis)
        return jnp.pad(x, [(0, slots - have if i == axis else 0) for i in range(x.ndim)])

    return sharded(_each(one, cache))


@functools.partial(jax.jit, donate_argnames=("cache",))
def insert(cache: Cache, chunk: Cache, row: jax.Array) -> Cache:
    """Writes a prefilled chunk (`"k"` and `"v"`, `[1, K, T, H]`) into a row's first slots.

    What is longer than the donated cache is left out: it must be padding.
    """
    slots = cache["v"][0].shape[2]
    chunk = jax.tree.map(lambda x: x[:, :, :slots], chunk)
    if "kt" in cache:
        chunk = {"kt": [k.swapaxes(2, 3) for k in chunk["k"]], "v": chunk["v"]}

    def one(x, new):
        return jax.lax.dynamic_update_slice(x, new, (row, 0, 0, 0))

    return sharded(jax.tree.map(one, cache, chunk))


def append(x: jax.Array, new_BKH: jax.Array, length_B: jax.Array, *, axis: int = 2) -> jax.Array:
    """Writes each row's new key or value into slot `length`; a full row stays as it is.

    `x` is an array of the cache with its slots on `axis`, 2 or 3.
    """

    def one(x, new_H, slot):
        return (x.at[slot] if axis == 2 else x.at[:, slot]).set(new_H, mode="drop")

    # Mapped over rows and heads: a sharded cache is updated in place, and on TPU a scatter of
    # several heads at once would make XLA change the layout of the whole cache at every token.
    return jax.vmap(jax.vmap(one, (0, 0, None)))(x, new_BKH, length_B)


@functools.partial(jax.jit, donate_argnames=("cache",))
def clear(cache: Cache, row: jax.Array, start: int | jax.Array = 0) -> Cache:
    """Zeros one row's slots from `start` on: a mask does not stop NaN, as 0 · NaN is NaN."""

    def one(x, axis):
        part = jax.lax.dynamic_slice_in_dim(x, row, 1)
        keep = jax.lax.broadcasted_iota(jnp.int32, part.shape, axis) < start
        part = jnp.where(keep, part, jnp.zeros_like(part))
        return jax.lax.dynamic_update_slice_in_dim(x, part, row, 0)

    return sharded(_each(one, cache))


def layer_states(cache: Cache | None, prefix: Cache | None, num_layers: int) -> list[dict]:
    """Regroups a cache and a prefix by layer: the `layer_state` of `transformer.forward`."""
    states: list[dict] = [{} for _ in range(num_layers)]
    for group, source in (("", cache), ("prefix_", prefix)):
        for name, arrays in (source or {}).items():
            for state, array in zip(states, arrays, strict=True):
                state[group + name] = array
    return states


def cache_of(states: list[dict]) -> Cache:
    """The inverse of `layer_states`, for the states that a forward pass returns."""
    return {name: [state[name] for state in states] for name in states[0]}


def _each(one: Callable[[jax.Array, int], jax.Array], cache: Cache) -> Cache:
    return {name: [one(x, SLOT_AXIS[name]) for x in arrays] for name, arrays in cache.items()}
