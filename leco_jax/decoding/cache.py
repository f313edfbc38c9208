"""The key/value cache: rows of their own lengths, a shared prefix, and what attention sees of it.

A cache is a dict `{"k", "v"}`, each a list with one `[B, K, S, H]` array per layer (`S` slots), so
that every array is donated and updated in place. Lengths live outside: rolling a row back changes
one number, and stale slots are masked, never cleared. A prefix is the same with `[K, P, H]`.
"""

import functools

import jax
import jax.numpy as jnp

from leco_jax.models.attention import attention_mask
from leco_jax.models.config import ModelConfig

Cache = dict[str, list[jax.Array]]

_MASKED = -1e30  # finite, so that a row that sees nothing yet gives numbers and not NaN


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


def decode_attend(config: ModelConfig, *, length_B: jax.Array, prefix_length: int):
    """Attention of one new token a row over the prefix and the row's own slots.

    Args:
        config: the model, for its sliding window.
        length_B: `[B]` int32, tokens of each row that stand in the cache; the new one goes there.
        prefix_length: number of shared positions before every row.

    Returns:
        An `attend` for `forward`, which stores the new key and value and returns the new cache.
    """

    def attend(q_B1NH, k_B1KH, v_B1KH, state):
        rows = jnp.arange(q_B1NH.shape[0])
        k_BKSH = state["k"].at[rows, :, length_B].set(k_B1KH[:, 0])
        v_BKSH = state["v"].at[rows, :, length_B].set(v_B1KH[:, 0])
        out = _attend(q_B1NH, k_BKSH, v_BKSH, state, length_B[:, None], prefix_length, config)
        return out, {"k": k_BKSH, "v": v_BKSH}

    return attend


def prefill_attend(config: ModelConfig, *, prefix_length: int):
    """Attention of fresh rows over the prefix and themselves; their keys and values come back."""

    def attend(q_BTNH, k_BTKH, v_BTKH, state):
        k_BKTH, v_BKTH = (x.transpose(0, 2, 1, 3) for x in (k_BTKH, v_BTKH))
        position_BT = jnp.broadcast_to(jnp.arange(q_BTNH.shape[1]), q_BTNH.shape[:2])
        out = _attend(q_BTNH, k_BKTH, v_BKTH, state, position_BT, prefix_length, config)
        return out, {"k": k_BKTH, "v": v_BKTH}

    return attend


def _attend(q_BTNH, k_BKSH, v_BKSH, state, position_BT, prefix_length: int, config: ModelConfig):
    """Softmax over own slots and the shared prefix together, each key and value read once.

    The prefix is multiplied with the queries of all rows at once: one read for the whole batch.
    """
    batch, tokens, heads, width = q_BTNH.shape
    kv_heads = k_BKSH.shape[1]
    q_BTKGH = q_BTNH.reshape(batch, tokens, kv_heads, heads // kv_heads, width) * width**-0.5

    def masked_scores(einsum: str, key, key_position_X):
        mask_BTX = attention_mask(
            position_BT, key_position_X[None], sliding_window=config.sliding_window
        )
        scores = jnp.einsum(einsum, q_BTKGH, key, preferred_element_type=jnp.float32)
        return jnp.where(mask_BTX[:, None, None], scores, _MASKED)

    scores = [masked_scores("BTKGH,BKSH->BKGTS", k_BKSH, jnp.arange(k_BKSH.shape[2]))]
    if "prefix_k" in state:  # its positions end where the rows' own begin
        before_P = jnp.arange(-prefix_length, 0)
        scores.append(masked_scores("BTKGH,KPH->BKGTP", state["prefix_k"], before_P))
    top_BKGT = functools.reduce(jnp.maximum, (jnp.max(x, axis=-1) for x in scores))
    weights = [jnp.exp(x - top_BKGT[..., None]) for x in scores]
    total_BKGT = functools.reduce(jnp.add, (jnp.sum(w, axis=-1) for w in weights))
    weights = [w.astype(v_BKSH.dtype) for w in weights]
    out_BTKGH = jnp.einsum("BKGTS,BKSH->BTKGH", weights[0], v_BKSH)
    if "prefix_v" in state:
        out_BTKGH += jnp.einsum("BKGTP,KPH->BTKGH", weights[1], state["prefix_v"])
    out_BTKGH /= total_BKGT.transpose(0, 3, 1, 2)[..., None].astype(out_BTKGH.dtype)
    return out_BTKGH.reshape(batch, tokens, heads, width)
