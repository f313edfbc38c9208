"""The derivative of every statistic, for logits and for hidden states alike.

With z the capped, tempered logits, p = softmax(z), and g the cotangent of a statistic, dz is

    logprob          g · (1[y] − p)
    max_logprob      g · (1[argmax] − p)
    topk_logprob     g · (1[top k]/k − p)
    topk_logmass     g · (p · 1[top k]/(mass of the top k) − p)
    entropy          −g · p · (log p + entropy)
    self_certainty   g · (p − 1/V)

so dz = p · (constant + slope · log p) + offset + spikes at a few ids, with coefficients per row:
backward is one elementwise pass that recomputes p from the saved peak and mass.
"""

from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import lax

from leco_jax.scoring import partials
from leco_jax.scoring.partials import Partials
from leco_jax.scoring.shards import Shard
from leco_jax.scoring.types import Options, TokenStats


class Residuals(NamedTuple):
    """What the backward pass keeps of each row, `[..., T]`, or `[..., T, k]` for the top k."""

    peak: Any
    log_mass: Any  # +inf for a row without gradient: of nothing but −inf, or ignored altogether
    entropy: Any
    topk_logmass: Any
    floor: Any  # capped logit of the k-th most likely token of the whole vocabulary
    top: Any  # the k most likely tokens of this shard: capped logits, and columns
    top_ids: Any


class Coefficients(NamedTuple):
    """dz = p · (constant + slope · log p) + offset, `[..., T]`; spikes `[..., T, n]` at columns."""

    constant: Any
    slope: Any
    offset: Any
    spikes: Any
    columns: Any


def top_size(options: Options) -> int:
    """How many of the most likely tokens the backward pass must know."""
    return options.topk if options.needs_top else int("max_logprob" in options.stats)


def residuals_of(
    sums: Partials, stats: TokenStats, top, tokens, options: Options, vocab: int
) -> Residuals:
    """Keeps a few numbers per row; `top` is (capped logits, columns) of this shard, or None."""
    alive = sums.mass != 0
    if options.stats == ("logprob",):
        alive &= tokens >= 0
    return Residuals(
        peak=sums.peak,
        log_mass=jnp.where(alive, jnp.log(jnp.where(alive, sums.mass, 1.0)), jnp.inf),
        entropy=stats.entropy,
        topk_logmass=stats.topk_logmass,
        floor=sums.top[..., min(options.topk, vocab) - 1] if options.needs_top else None,
        top=None if top is None else top[0],
        top_ids=None if top is None else top[1],
    )


def coefficients(
    cotangents: TokenStats, tokens, shard: Shard, kept: Residuals, options: Options
) -> Coefficients:
    """Folds the cotangents of all statistics into one formula per row.

    Args:
      cotangents: of the statistics; None where not asked for.
      tokens: `[..., T]` ids.
      shard: the part of the vocabulary held here.
      kept: of the forward pass.
      options: the statistics asked for.

    Returns:
      Coefficients; all zero for a row without gradient.
    """
    alive = kept.log_mass != jnp.inf
    zero = jnp.zeros_like(kept.peak)
    g = TokenStats(*(zero if x is None else jnp.where(alive, x, 0.0) for x in cotangents))
    g = g._replace(logprob=jnp.where((tokens >= 0) & (tokens < shard.vocab), g.logprob, 0.0))
    constant = g.self_certainty - g.logprob - g.max_logprob - g.topk_logprob - g.topk_logmass
    if kept.entropy is not None:
        constant = constant - g.entropy * kept.entropy
    spikes, ids = [g.logprob[..., None]], [shard.columns(tokens)[..., None]]
    if "max_logprob" in options.stats:
        best = _share(kept.top[..., :1], kept.peak, 1, options)
        spikes.append(g.max_logprob[..., None] * best)
        ids.append(kept.top_ids[..., :1])
    if options.needs_top:
        k = min(options.topk, shard.vocab)
        member = _share(kept.top[..., :k], kept.floor, k, options)
        logp = _log_probability(kept.top[..., :k], kept, options)
        weight = g.topk_logprob[..., None] / k
        if kept.topk_logmass is not None:
            mass_share = jnp.exp(logp - jnp.maximum(kept.topk_logmass, partials.LOWEST)[..., None])
            weight = weight + g.topk_logmass[..., None] * mass_share
        spikes.append(weight * member)
        ids.append(kept.top_ids[..., :k])
    return Coefficients(
        constant,
        -g.entropy,
        -g.self_certainty / shard.vocab,
        jnp.concatenate(spikes, -1),
        jnp.concatenate(ids, -1),
    )


def logits_gradient(x, weights: Coefficients, kept: Residuals, ids, valid, options: Options):
    """The cotangent of uncapped logits.

    Args:
      x: `[..., T, n]` float32 capped logits of some columns.
      weights: of `coefficients`.
      kept: of the forward pass.
      ids: `[n]` int32, the columns.
      valid: how many columns belong to the vocabulary: an int or an int32 array, None for all.
      options: cap and temperature.

    Returns:
      `[..., T, n]` float32.
    """
    constant, slope, offset = (w[..., None] for w in weights[:3])
    logp = _log_probability(x, kept, options)
    gradient = jnp.exp(logp) * (constant + slope * logp) + offset
    if valid is not None:
        gradient = jnp.where(ids < valid, gradient, 0.0)
    for i in range(weights.spikes.shape[-1]):  # a comparison fuses where a scatter would not
        here = ids == weights.columns[..., i, None]
        gradient = gradient + jnp.where(here, weights.spikes[..., i, None], 0.0)
    if options.soft_cap is not None:
        gradient = gradient * (1.0 - jnp.minimum(jnp.square(x / options.soft_cap), 1.0))
    alive = kept.log_mass[..., None] != jnp.inf  # 0 · NaN would be NaN
    return jnp.where(alive, gradient * (1.0 / options.temperature), 0.0)


def _log_probability(x, kept: Residuals, options: Options):
    gap = partials.scaled_gap(x, kept.peak[..., None], options)
    return jnp.maximum(gap - kept.log_mass[..., None], partials.LOWEST)


def _share(values, floor, k: int, options: Options):
    """How much each candidate belongs to the top k; ties across shards share the last places."""
    above, level = values > floor[..., None], values == floor[..., None]
    count = jnp.stack([above.sum(-1), level.sum(-1)]).astype(jnp.float32)
    if options.axis_name is not None:
        count = lax.psum(count, options.axis_name)
    places = (k - count[0]) / jnp.maximum(count[1], 1.0)
    return jnp.where(above, 1.0, jnp.where(level, places[..., None], 0.0))
