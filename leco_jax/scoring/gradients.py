"""The derivative of every statistic, for logits and for hidden states alike.

With z the capped, tempered logits, p = softmax(z), and g the cotangent of a statistic, dz is

    logprob          g · (1[y] − p)
    max_logprob      g · (1[argmax] − p)
    topk_logprob     g · (1[top k]/k − p)
    topk_logmass     g · (p · 1[top k]/(mass of the top k) − p)
    entropy          −g · p · (log p + entropy)
    self_certainty   g · (p − 1/V)
    logsumexp        g · p

so dz = p · (constant + slope · log p) + offset + spikes at a few ids, with coefficients per row:
backward is one elementwise pass that recomputes p from the saved peak and mass.
"""

from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import lax

from leco_jax.scoring import partials
from leco_jax.scoring.partials import Partials
from leco_jax.scoring.shards import Shard
from leco_jax.scoring.types import Asked, Options, TokenStats

FEW = 32  # so many ids of a row are compared with every column, more are looked up


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
    sums: Partials, stats: TokenStats, top, asked: Asked, options: Options, vocab: int
) -> Residuals:
    """Keeps a few numbers per row; `top` is (capped logits, columns) of this shard, or None."""
    alive = sums.mass != 0
    if asked.mask is not None:
        alive &= asked.mask
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
    cotangents: TokenStats, asked: Asked, shard: Shard, kept: Residuals, options: Options
) -> Coefficients:
    """Folds the cotangents of all statistics into one formula per row.

    Args:
      cotangents: of the statistics; None where not asked for.
      asked: the ids of each row.
      shard: the part of the vocabulary held here.
      kept: of the forward pass.
      options: the statistics asked for.

    Returns:
      Coefficients; all zero for a row without gradient.
    """
    alive = kept.log_mass != jnp.inf
    zero, tokens, of_tokens = jnp.zeros_like(kept.peak), asked.tokens, cotangents.logprob
    cotangents = cotangents._replace(logprob=None)
    g = TokenStats(*(zero if x is None else jnp.where(alive, x, 0.0) for x in cotangents))
    counts = alive[..., None] & (tokens >= 0) & (tokens < shard.vocab)
    of_tokens = jnp.where(counts, 0.0 if of_tokens is None else of_tokens, 0.0)
    constant = g.logsumexp + g.self_certainty - of_tokens.sum(-1)
    constant = constant - g.max_logprob - g.topk_logprob - g.topk_logmass
    if kept.entropy is not None:
        constant = constant - g.entropy * kept.entropy
    spikes, ids = [of_tokens], [shard.columns(tokens)]
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


def logits_gradient(x, scale, weights: Coefficients, kept: Residuals, ids, valid, options: Options):
    """The cotangent of uncapped logits.

    Args:
      x: `[..., T, n]` float32 logits of some columns, capped and not yet scaled.
      scale: `[..., T]` factor of each row, or None.
      weights: of `coefficients`.
      kept: of the forward pass.
      ids: `[n]` int32, the columns.
      valid: how many columns belong to the vocabulary: an int or an int32 array, None for all.
      options: cap and temperature.

    Returns:
      `[..., T, n]` float32.
    """
    constant, slope, offset = (w[..., None] for w in weights[:3])
    logp = _log_probability(partials.scaled(x, scale), kept, options)
    gradient = jnp.exp(logp) * (constant + slope * logp) + offset
    if valid is not None:
        gradient = jnp.where(ids < valid, gradient, 0.0)
    gradient = _with_spikes(gradient, weights, ids)
    alive = kept.log_mass[..., None] != jnp.inf  # 0 · NaN would be NaN
    return jnp.where(alive, through_cap(gradient, x, scale, options), 0.0)


def picked(x, columns, ids):
    """The logits `[..., T, K]` in the given columns, 0 for those that are not among `ids`.

    Args:
      x: `[..., T, n]`.
      columns: `[..., T, K]`.
      ids: `[n]`, the columns of `x`, in order.
    """
    number = columns.shape[-1]
    if number <= FEW:  # where, not a product with one-hot: 0 · (−inf) would be NaN
        here = (jnp.where(ids == columns[..., i, None], x, 0.0).sum(-1) for i in range(number))
        return jnp.stack(list(here), -1)
    places = _places(columns, ids)
    found = jnp.take_along_axis(x, jnp.minimum(places, len(ids) - 1), -1)
    return jnp.where(places < len(ids), found, 0.0)


def _with_spikes(gradient, weights: Coefficients, ids):
    number = weights.spikes.shape[-1]
    if number <= FEW:  # a comparison fuses where a scatter would not
        for i in range(number):
            here = ids == weights.columns[..., i, None]
            gradient = gradient + jnp.where(here, weights.spikes[..., i, None], 0.0)
        return gradient
    rows = gradient.reshape(-1, len(ids))
    places = _places(weights.columns, ids).reshape(-1, number)
    each = jnp.arange(len(rows))[:, None]
    rows = rows.at[each, places].add(weights.spikes.reshape(-1, number), mode="drop")
    return rows.reshape(gradient.shape)


def _places(columns, ids):
    """Where columns are among consecutive ids; beyond them where they are not."""
    places = columns - ids[0]
    return jnp.where((places >= 0) & (places < len(ids)), places, len(ids))


def through_cap(gradient, x, scale, options: Options):
    """The cotangent of uncapped logits, from the one of capped and tempered ones."""
    if options.soft_cap is not None:
        gradient = gradient * (1.0 - jnp.minimum(jnp.square(x / options.soft_cap), 1.0))
    return partials.scaled(gradient * (1.0 / options.temperature), scale)


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
