"""Rotary position embedding: plain, linearly scaled, as in Llama 3.1, and YaRN."""

import math

import jax
import jax.numpy as jnp
import numpy as np

from leco_jax.models.config import RopeConfig


def inverse_frequencies(rope: RopeConfig, head_width: int) -> np.ndarray:
    """Radians per position of each pair of a head, float64 [H/2].

    Source: Su et al. 2021 (plain), Chen et al. 2023 (linear), the Llama 3.1 release (llama3), Peng
    et al. 2023 (yarn), the ends of its ramp at whole pairs as in its released code.
    """
    freq = rope.theta ** (-np.arange(0, head_width, 2, dtype=np.float64) / head_width)
    if rope.scaling == "linear":
        return freq / rope.factor
    if rope.scaling == "llama3":
        turns = rope.original_max_positions * freq / (2 * np.pi)
        low, high = rope.low_freq_factor, rope.high_freq_factor
        keep = np.clip((turns - low) / (high - low), 0.0, 1.0)
        return keep * freq + (1 - keep) * freq / rope.factor
    if rope.scaling == "yarn":
        # The pairs, as fractions of an index, that turn so many times in the original context.
        fast, slow = (
            head_width
            * math.log(rope.original_max_positions / (turns * 2 * math.pi))
            / (2 * math.log(rope.theta))
            for turns in (rope.beta_fast, rope.beta_slow)
        )
        first, last = max(math.floor(fast), 0), min(math.ceil(slow), head_width - 1)
        ramp = (np.arange(head_width // 2) - first) / max(last - first, 0.001)
        scaled = np.clip(ramp, 0.0, 1.0)
        return (1 - scaled) * freq + scaled * freq / rope.factor
    return freq


def rope_table(
    positions_BT: jax.Array, rope: RopeConfig | None, head_width: int
) -> tuple[jax.Array, jax.Array]:
    """Cosine and sine of every position's angles, float32 [B, T, 1, H/2]; None: no rotation.

    YaRN's are multiplied by its attention factor.
    """
    if rope is None:
        shape = (*positions_BT.shape, 1, head_width // 2)
        return jnp.ones(shape), jnp.zeros(shape)
    freq = jnp.asarray(inverse_frequencies(rope, head_width), jnp.float32)
    angles = positions_BT.astype(jnp.float32)[:, :, None, None] * freq
    factor = 1.0
    if rope.scaling == "yarn":
        factor = rope.attention_factor or 0.1 * math.log(max(rope.factor, 1.0)) + 1.0
    return factor * jnp.cos(angles), factor * jnp.sin(angles)


def rotate(x_BTNH: jax.Array, table: tuple[jax.Array, jax.Array]) -> jax.Array:
    """Rotates each pair (i, i + H/2) of every head by its angle, in float32; keeps the dtype."""
    cos, sin = table
    first, second = jnp.split(x_BTNH.astype(jnp.float32), 2, axis=-1)
    rotated = jnp.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)
    return rotated.astype(x_BTNH.dtype)
