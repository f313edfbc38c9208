"""The choice of the next token: greedy, temperature, top-k, top-p; row by row, without a sort."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

_BLOCK = 256  # tokens of a block in the two-level search of the cumulative distribution
_NEG_INF = -jnp.inf


class SamplingRows(NamedTuple):
    """Sampling options of each row of a batch, as arrays so that one program serves all mixes."""

    temperature: jax.Array  # `[B]` float32; 0 is greedy
    top_k: jax.Array  # `[B]` int32; 0 keeps every token
    top_p: jax.Array  # `[B]` float32 in (0, 1]; 1 keeps every token
    forbid: jax.Array  # `[B, F]` int32, tokens that may not be chosen now; -1 forbids none
    key: jax.Array  # `[B]` typed PRNG keys of (seed, problem, sample, round)


def process(logits_BV: jax.Array, rows: SamplingRows, *, valid_vocab: int | None = None):
    """Logits `[B, V]` divided by the temperature; truncated and forbidden tokens are -inf.

    Greedy rows are not divided. Ties at a truncation threshold are all kept. Ids from `valid_vocab`
    on are padding of the vocabulary and never chosen.
    """
    vocab = logits_BV.shape[-1]
    token_V = jnp.arange(vocab)
    banned_BV = jnp.zeros(logits_BV.shape, bool)
    for f in range(rows.forbid.shape[-1]):
        banned_BV |= token_V == rows.forbid[:, f, None]
    if valid_vocab is not None and valid_vocab < vocab:
        banned_BV |= token_V >= valid_vocab
    x_BV = jnp.where(banned_BV, _NEG_INF, logits_BV)
    x_BV = x_BV / jnp.where(rows.temperature > 0, rows.temperature, 1.0)[:, None]
    x_BV = jax.lax.cond(jnp.any(rows.top_k > 0), _keep_top_k, lambda x, _: x, x_BV, rows.top_k)
    return jax.lax.cond(jnp.any(rows.top_p < 1), _keep_top_p, lambda x, _: x, x_BV, rows.top_p)


def choose(processed_BV: jax.Array, rows: SamplingRows, position_B: jax.Array) -> jax.Array:
    """Draws one token a row from `softmax(processed)`, int32 [B]; greedy rows take the argmax.

    The draw inverts the cumulative distribution at one uniform number per row, a function of (row
    key, position of the token) alone. A NaN in a row makes its choice arbitrary.
    """
    greedy_B = _first_largest(processed_BV)

    def draw(_):
        keys = jax.vmap(jax.random.fold_in)(rows.key, position_B)
        uniform_B = jax.vmap(lambda key: jax.random.uniform(key))(keys)
        return _invert_cdf(processed_BV, uniform_B)

    drawn_B = jax.lax.cond(jnp.any(rows.temperature > 0), draw, lambda _: greedy_B, None)
    return jnp.where(rows.temperature > 0, drawn_B, greedy_B)


def _first_largest(x_BV: jax.Array) -> jax.Array:
    """`argmax` as two reductions: a quarter of the time of `jnp.argmax` on a CPU."""
    last = x_BV.shape[-1] - 1
    top_B1 = jnp.max(x_BV, axis=-1, keepdims=True)
    return jnp.min(jnp.where(x_BV == top_B1, jnp.arange(last + 1), last), axis=-1).astype(jnp.int32)


def _invert_cdf(x_BV: jax.Array, uniform_B: jax.Array) -> jax.Array:
    """The token at a quantile: first its block of the vocabulary, then its place in the block."""
    batch, vocab = x_BV.shape
    p_BV = jnp.exp(x_BV - jnp.max(x_BV, axis=-1, keepdims=True))
    p_BCW = jnp.pad(p_BV, ((0, 0), (0, -vocab % _BLOCK))).reshape(batch, -1, _BLOCK)
    block_BC = jnp.cumsum(jnp.sum(p_BCW, axis=-1), axis=-1)
    target_B = uniform_B * block_BC[:, -1]
    block_B = _first_above(block_BC, target_B)
    rows = jnp.arange(batch)
    before_B = jnp.where(block_B > 0, block_BC[rows, block_B - 1], 0.0)
    inside_BW = jnp.cumsum(p_BCW[rows, block_B], axis=-1)
    return block_B * _BLOCK + _first_above(inside_BW, target_B - before_B)


def _first_above(cumulative_BX: jax.Array, target_B: jax.Array) -> jax.Array:
    """Index of the first entry above the target; if rounding left none, of the last increase."""
    above = cumulative_BX > target_B[:, None]
    last_increase = jnp.argmax(cumulative_BX, axis=-1)
    return jnp.where(jnp.any(above, axis=-1), jnp.argmax(above, axis=-1), last_increase).astype(
        jnp.int32
    )


def _keep_top_k(x_BV: jax.Array, top_k_B: jax.Array) -> jax.Array:
    vocab = x_BV.shape[-1]
    k_B = jnp.where(top_k_B > 0, jnp.minimum(top_k_B, vocab), vocab)
    bits_BV = _ordered_bits(x_BV)
    threshold_B = _largest_threshold(
        lambda t_B: jnp.sum(bits_BV >= t_B[:, None], axis=-1) >= k_B, x_BV.shape[0]
    )
    return jnp.where(bits_BV >= threshold_B[:, None], x_BV, _NEG_INF)


def _keep_top_p(x_BV: jax.Array, top_p_B: jax.Array) -> jax.Array:
    p_BV = jax.nn.softmax(x_BV, axis=-1)
    bits_BV = _ordered_bits(x_BV)

    def holds(t_B):
        return jnp.sum(jnp.where(bits_BV >= t_B[:, None], p_BV, 0.0), axis=-1) >= top_p_B

    threshold_B = _largest_threshold(holds, x_BV.shape[0])
    kept = (bits_BV >= threshold_B[:, None]) | (top_p_B >= 1)[:, None]
    return jnp.where(kept, x_BV, _NEG_INF)


def _ordered_bits(x: jax.Array) -> jax.Array:
    """Maps float32 to int32 and keeps the order."""
    bits = jax.lax.bitcast_convert_type(x + 0.0, jnp.int32)  # + 0.0 turns -0.0 into 0.0
    return jnp.where(bits < 0, jnp.int32(-(2**31)) - bits - 1, bits)


def _largest_threshold(holds, batch: int) -> jax.Array:
    """For each row the largest int32 for which a monotone condition holds, by bisection."""
    low_B = jnp.full((batch,), -(2**31), jnp.int32)
    high_B = jnp.full((batch,), 2**31 - 1, jnp.int32)

    def halve(_, bounds):
        low, high = bounds
        # The mean of two int32 rounded up, without overflow.
        middle = (low >> 1) + (high >> 1) + ((low | high) & 1)
        good = holds(middle)
        return jnp.where(good, middle, low), jnp.where(good, high, middle - 1)

    low_B, _ = jax.lax.fori_loop(0, 32, halve, (low_B, high_B))
    return low_B
