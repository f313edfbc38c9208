"""The key/value cache: rows of their own lengths and a shared prefix. `attention` reads it.

A cache is a dict `{"k", "v"}`, each a list with one `[B, K, S, H]` array per layer (`S` slots), so
that every array is donated and updated in place. Lengths live outside: rolling a row back changes
one number, and stale slots are masked, never cleared. A prefix is the same with `[K, P, H]`.
"""

import jax
import jax.numpy as jnp

from leco_jax.models.config import ModelConfig

Cache = dict[str, list[jax.Array]]


def empty_cache(config: ModelConfig, *, rows: int, slots: int, sharding=None) -> Cache:
    """Makes a cache of zeros in the model's compute type, sharded as asked from the start."""
    shape = (rows, config.num_kv_heads, slots, config.head_width)
    make = jax.jit(lambda: jnp.zeros(shape, config.dtype), out_shardings=sharding)
    return {name: [make() for _ in range(config.num_layers)] for name in ("k", "v")}


def resize(cache: Cache, slots: int) -> Cache:
    """Gives every row `slots` slots: zeros are added at the end, or the end is cut off."""

    def one(x_BKSH):
        have = x_BKSH.shape[2]
        if slots <= have:
            return x_BKSH[:, :, :slots]
        return jnp.pad(x_BKSH, ((0, 0), (0, 0), (0, slots - have), (0, 0)))

    return jax.tree.map(one, cache)


def insert(cache: Cache, chunk: Cache, row: jax.Array) -> Cache:
    """Writes a prefilled chunk (`[1, K, T, H]` per layer) into the first T slots of one row."""

    def one(x_BKSH, new_1KTH):
        return jax.lax.dynamic_update_slice(x_BKSH, new_1KTH, (row, 0, 0, 0))

    return jax.tree.map(one, cache, chunk)


def append(x_BKSH: jax.Array, new_BKH: jax.Array, length_B: jax.Array) -> jax.Array:
    """Writes each row's new key or value into its slot `length`; a full row stays as it is."""

    def one(x_SH, new_H, slot):
        return x_SH.at[slot].set(new_H, mode="drop")

    # Mapped over rows and heads: a sharded cache is updated where it lies, and on TPU a scatter of
    # several heads at once would have XLA lay the whole cache out anew at every step.
    return jax.vmap(jax.vmap(one, (0, 0, None)))(x_BKSH, new_BKH, length_B)


def clear(cache: Cache, row: jax.Array, *, start: int | jax.Array = 0) -> Cache:
    """Zeros one row's slots from `start` on: after NaN, which even a weight of 0 lets through."""

    def one(x_BKSH):
        row_1KSH = jax.lax.dynamic_slice_in_dim(x_BKSH, row, 1)
        keep_S = jnp.arange(x_BKSH.shape[2]) < start
        row_1KSH = jnp.where(keep_S[:, None], row_1KSH, jnp.zeros_like(row_1KSH))
        return jax.lax.dynamic_update_slice_in_dim(x_BKSH, row_1KSH, row, 0)

    return jax.tree.map(one, cache)


def layer_states(cache: Cache | None, prefix: Cache | None, num_layers: int) -> list[dict]:
    """Regroups a cache and a prefix by layer, the order in which the model asks for them."""
    states: list[dict] = [{} for _ in range(num_layers)]
    for group, source in (("", cache), ("prefix_", prefix)):
        for name, arrays in (source or {}).items():
            for state, array in zip(states, arrays, strict=True):
                state[group + name] = array
    return states


def cache_of(states: list[dict]) -> Cache:
    """The inverse of `layer_states` for what a forward pass hands back."""
    return {name: [state[name] for state in states] for name in ("k", "v")}
