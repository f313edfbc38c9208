"""Rotary embedding against hand-computed numbers and its own definition."""

import jax.numpy as jnp
import numpy as np
import pytest

from leco_jax.models.config import RopeConfig
from leco_jax.models.rope import inverse_frequencies, rope_table, rotate

LLAMA31 = RopeConfig(
    theta=500_000.0,
    scaling="llama3",
    factor=8.0,
    low_freq_factor=1.0,
    high_freq_factor=4.0,
    original_max_positions=8192,
)


def test_plain_frequencies_by_hand():
    np.testing.assert_allclose(
        inverse_frequencies(RopeConfig(theta=10_000.0), 8), [1.0, 0.1, 0.01, 0.001], rtol=1e-14
    )


def test_linear_scaling_divides_positions():
    rope = RopeConfig(scaling="linear", factor=4.0)
    plain = rope_table(jnp.array([[3]]), RopeConfig(), 16)
    scaled = rope_table(jnp.array([[12]]), rope, 16)
    np.testing.assert_allclose(plain, scaled, atol=1e-6)


def test_llama3_bands_by_hand():
    plain = inverse_frequencies(RopeConfig(theta=500_000.0), 128)
    got = inverse_frequencies(LLAMA31, 128)
    wavelength = 2 * np.pi / plain
    fast, slow = wavelength < 8192 / 4, wavelength > 8192 / 1
    np.testing.assert_array_equal(got[fast], plain[fast])
    np.testing.assert_allclose(got[slow], plain[slow] / 8, rtol=1e-14)
    assert fast.sum() == slow.sum() == 29
    # One between: theta ** (-60 / 128) = 0.00213112, a wavelength of 2948.30 positions, 2.77855
    # turns in 8192. (2.77855 - 1) / 3 = 0.59285 of it is kept, the rest divided by 8.
    assert got[30] == pytest.approx(0.00213112 * (0.59285 + 0.40715 / 8), rel=1e-5)


def test_yarn_by_hand():
    rope = RopeConfig(
        theta=100.0, scaling="yarn", factor=8.0, original_max_positions=1000, beta_fast=16.0,
        beta_slow=4.0,
    )  # fmt: skip
    # In 1000 positions pair i of 8 turns 1000 / (2 pi 100^(i/8)) times: 159, 90, 50, 28, 16, 8.9,
    # 5.0, 2.8. Between 3 (16 turns, rounded down) and 7 (4 turns, rounded up) they blend.
    plain = inverse_frequencies(RopeConfig(theta=100.0), 16)
    scaled = np.array([0, 0, 0, 0, 0.25, 0.5, 0.75, 1.0])
    want = plain * (1 - scaled) + plain * scaled / 8.0
    np.testing.assert_allclose(inverse_frequencies(rope, 16), want, rtol=1e-12)
    cos, sin = rope_table(jnp.arange(5)[None], rope, 16)
    np.testing.assert_allclose(cos**2 + sin**2, (0.1 * np.log(8.0) + 1) ** 2, rtol=1e-5)


def test_no_rope_leaves_a_head_as_it_is():
    x = jnp.asarray(np.random.default_rng(0).standard_normal((1, 3, 2, 8)), jnp.float32)
    np.testing.assert_array_equal(rotate(x, rope_table(jnp.arange(3)[None], None, 8)), x)


def test_rotation_keeps_lengths_and_sees_distances_only():
    q, k = jnp.asarray(np.random.default_rng(0).standard_normal((2, 1, 1, 1, 32)), jnp.float32)
    table = [rope_table(jnp.array([[p]]), LLAMA31, 32) for p in (5, 9, 105, 109)]
    rotated = rotate(q, table[1])
    np.testing.assert_allclose(jnp.linalg.norm(rotated), jnp.linalg.norm(q), rtol=1e-5)
    near = (rotate(q, table[1]) * rotate(k, table[0])).sum()
    far = (rotate(q, table[3]) * rotate(k, table[2])).sum()
    np.testing.assert_allclose(near, far, rtol=1e-4)
    assert abs(near - (q * k).sum()) > 0.1


def test_pairs_are_the_two_halves_of_a_head():
    x = jnp.zeros((1, 1, 1, 8)).at[..., 1].set(1.0)
    got = rotate(x, rope_table(jnp.array([[2]]), RopeConfig(), 8))[0, 0, 0]
    want = np.zeros(8)
    want[1], want[5] = np.cos(0.2), np.sin(0.2)
    np.testing.assert_allclose(got, want, atol=1e-6)


def test_bfloat16_is_rotated_in_float32():
    x = jnp.asarray(np.random.default_rng(0).standard_normal((1, 4, 2, 16)), jnp.bfloat16)
    table = rope_table(jnp.full((1, 4), 1001), RopeConfig(), 16)
    got = rotate(x, table)
    assert got.dtype == jnp.bfloat16
    want = rotate(x.astype(jnp.float32), table).astype(jnp.bfloat16)
    np.testing.assert_array_equal(got.astype(jnp.float32), want.astype(jnp.float32))
