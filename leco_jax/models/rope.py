"""Rotary position embedding: plain, linearly scaled, and scaled as in Llama 3.1."""

import jax
import jax.numpy as jnp
import numpy as np

from leco_jax.models.config import RopeConfig


def inverse_frequencies(rope: RopeConfig, head_width: int) -> np.ndarray:
    """Radians per position of each pair of a head, float64 [H/2].

    Source: Su et al. 2021 (plain), Chen et al. 2023 (linear), the Llama 3.1 release (llama3).
    """
    freq = rope.theta ** (-np.arange(0, head_width, 2, dtype=np.float64) / head_width)
    if rope.scaling == "linear":
        return freq / rope.factor
    if rope.scaling == "llama3":
        turns = rope.original_max_positions * freq / (2 * np.pi)
        low, high = rope.low_freq_factor, rope.high_freq_factor
        keep = np.clip((turns - low) / (high - low), 0.0, 1.0)
        return keep * freq + (1 - keep) * freq / rope.factor
    return freq


def rope_table(
    positions_BT: jax.Array, rope: RopeConfig | None, head_width: int
) -> tuple[jax.Array, jax.Array]:
    """Cosine and sine of every position's angles, float32 [B, T, 1, H/2]; None: no rotation."""
    if rope is None:
        shape = (*positions_BT.shape, 1, head_width // 2)
        return jnp.ones(shape), jnp.zeros(shape)
    freq = jnp.asarray(inverse_frequencies(rope, head_width), jnp.float32)
    angles = positions_BT.astype(jnp.float32)[:, :, None, None] * freq
    return jnp.cos(angles), jnp.sin(angles)


def rotate(x_BTNH: jax.Array, table: tuple[jax.Array, jax.Array]) -> jax.Array:
    """Rotates each pair (i, i + H/2) of every head by its angle, in float32; keeps the dtype."""
    cos, sin = table
    first, second = jnp.split(x_BTNH.astype(jnp.float32), 2, axis=-1)
    rotated = jnp.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1)
    return rotated.astype(x_BTNH.dtype)
