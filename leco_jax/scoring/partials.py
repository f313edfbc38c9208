"""The sums that every statistic is made of, and how sums over parts of a vocabulary combine.

A pass over (part of) the vocabulary keeps, per row, the largest logit and sums relative to it.
Dividing by the temperature only *after* the largest logit is subtracted keeps differences exact
where they matter: at temperature 1e-3 the quotient of the logit itself would be off by 1e-3 nats.

In symbols, for capped logits x and temperature τ:

    peak  = max x                        mass = Σ exp((x − peak)/τ)
    total = Σ x                          dot  = Σ exp((x − peak)/τ) · (x − peak)/τ
    top   = the k largest x              argmax = the first column with x = peak

A temperature that only the device knows, or one per row, is multiplied in before all this: then τ
is 1, and `scale` is what the capped logits are multiplied by.
"""

import math
from typing import Any, NamedTuple

import jax.numpy as jnp

from leco_jax.scoring.types import Asked, Options, TokenStats

NO_COLUMN = 2**30  # the arg-max of no logits; leaves room for a shard's first id
LOWEST = -1e30  # stands for −inf where −inf would make NaN: x − (−inf), 0 · (−inf)


class Partials(NamedTuple):
    """Sums over a part of the vocabulary; what the options do not need is None."""

    peak: Any
    mass: Any
    dot: Any = None
    total: Any = None
    argmax: Any = None
    top: Any = None


def cap(logits, options: Options, scale=None):
    """The logits in float32 after the soft cap, before τ; ±inf stay as they are.

    Args:
      logits: `[..., n]`.
      options: the cap.
      scale: `[...]`, the factor of each row, or None.
    """
    x = logits.astype(jnp.float32)
    if options.soft_cap is not None:
        capped = options.soft_cap * jnp.tanh(x * (1.0 / options.soft_cap))
        x = jnp.where(jnp.abs(x) == jnp.inf, x, capped)
    return scaled(x, scale)


def scaled(x, scale):
    """`[..., n]` capped logits times the `[...]` factor of each row, if there is one."""
    return x if scale is None else x * scale[..., None]


def scaled_gap(x, peak, options: Options):
    """(x − peak)/τ; −inf where x is."""
    return (x - peak) * (1.0 / options.temperature)


def finite_gap(x, peak, options: Options):
    """(x − peak)/τ, but never below LOWEST, so that a product with zero is zero."""
    return jnp.maximum(scaled_gap(x, peak, options), LOWEST)


def empty(shape, options: Options) -> Partials:
    """The sums over no logits (all fields but `top`)."""
    zeros = jnp.zeros(shape, jnp.float32)
    return Partials(
        peak=jnp.full(shape, LOWEST, jnp.float32),
        mass=zeros,
        dot=zeros if options.needs_dot else None,
        total=zeros if options.needs_total else None,
        argmax=jnp.full(shape, NO_COLUMN, jnp.int32) if options.needs_argmax else None,
    )


def rebase(sums: Partials, peak, options: Options) -> Partials:
    """The same sums relative to a larger (or equal) peak."""
    shift = finite_gap(sums.peak, peak, options)
    rescale = jnp.exp(shift)
    dot = None if sums.dot is None else rescale * (sums.dot + sums.mass * shift)
    return sums._replace(peak=peak, mass=rescale * sums.mass, dot=dot)


def absorb(sums: Partials, x, axis: int, options: Options, ids, valid=None) -> Partials:
    """Adds capped logits `x`, reduced over `axis`, to all sums but `top`.

    Args:
      sums: fields of the shape of `x` without `axis`.
      x: float32 logits after the soft cap.
      axis: the axis of `x` to reduce.
      options: which sums to keep, and the temperature.
      ids: int32, broadcastable to `x`: its columns, all beyond those absorbed before.
      valid: bool, broadcastable to `x`: which logits belong to the vocabulary; None for all.

    Returns:
      The sums over both.
    """
    seen = x if valid is None else jnp.where(valid, x, -jnp.inf)
    old = rebase(sums, jnp.maximum(sums.peak, seen.max(axis)), options)
    difference = scaled_gap(seen, jnp.expand_dims(old.peak, axis), options)
    share = jnp.exp(difference)
    new = old._replace(mass=old.mass + share.sum(axis))
    if options.needs_dot:
        # A weight of zero times a difference of −inf would be NaN.
        new = new._replace(dot=old.dot + (share * jnp.maximum(difference, LOWEST)).sum(axis))
    if options.needs_total:
        counted = x if valid is None else jnp.where(valid, x, 0.0)
        new = new._replace(total=old.total + counted.sum(axis))
    if options.needs_argmax:
        first = jnp.where(seen == jnp.expand_dims(new.peak, axis), ids, NO_COLUMN).min(axis)
        new = new._replace(argmax=jnp.where(sums.peak == new.peak, sums.argmax, first))
    return new


def collapse(sums: Partials, options: Options, axis: int = -1) -> Partials:
    """Combines the parts that lie along an axis (all fields but `top`)."""
    peak = sums.peak.max(axis, keepdims=True)
    if options.needs_argmax:
        sums = sums._replace(argmax=jnp.where(sums.peak == peak, sums.argmax, NO_COLUMN))
    sums = rebase(sums, peak, options)
    mass, dot, total = (x if x is None else x.sum(axis) for x in sums[1:4])
    argmax = sums.argmax.min(axis) if options.needs_argmax else None
    return Partials(peak.squeeze(axis), mass, dot, total, argmax)


def join(a: Partials, b: Partials, options: Options) -> Partials:
    """Combines two parts (all fields but `top`)."""
    peak = jnp.maximum(a.peak, b.peak)
    argmax = None
    if options.needs_argmax:
        mine = (jnp.where(x.peak == peak, x.argmax, NO_COLUMN) for x in (a, b))
        argmax = jnp.minimum(*mine)
    a, b = rebase(a, peak, options), rebase(b, peak, options)
    mass, dot, total = (x if x is None else x + y for x, y in zip(a[1:4], b[1:4], strict=True))
    return Partials(peak, mass, dot, total, argmax)


def finish(sums: Partials, target, asked: Asked, options: Options, vocab: int) -> TokenStats:
    """Statistics from the sums over the whole vocabulary.

    Args:
      sums: each `[..., T]`, `top` with a further axis of k.
      target: `[..., T, K]` capped logit of each token; anything where the token has none.
      asked: negative ids are ignored (log-probability 0), ids at or beyond `vocab` have probability
        zero (−inf).
      options: the statistics asked for.
      vocab: how many ids the whole vocabulary has.

    Returns:
      TokenStats; a row of nothing but −inf has −inf log-probabilities and zeros else, one with NaN
      or +inf has NaN, but log-probability 0 where its token is ignored; neither has an arg-max: −1.
    """
    alive = sums.mass != 0  # NaN is
    nothing = jnp.where(jnp.isnan(sums.mass), jnp.nan, -jnp.inf)
    log_mass = jnp.log(jnp.where(alive, sums.mass, 1.0))

    def logprob(x, exists=alive):
        return jnp.where(exists, scaled_gap(x, sums.peak, options) - log_mass, nothing)

    fields = {}
    if "logprob" in options.stats:
        # Rows last, here and below: rows of so few numbers are slow.
        ids, x = (jnp.moveaxis(x, -1, 0) for x in (asked.tokens, target))
        found = jnp.where(ids < 0, 0.0, logprob(x, alive & (ids < vocab)))
        fields["logprob"] = jnp.moveaxis(found, 0, -1)
    if "entropy" in options.stats:
        entropy = log_mass - sums.dot / jnp.where(alive, sums.mass, 1.0)
        fields["entropy"] = jnp.where(alive, jnp.maximum(entropy, 0.0), 0.0)
    if "self_certainty" in options.stats:
        divergence = log_mass - scaled_gap(sums.total / vocab, sums.peak, options) - math.log(vocab)
        fields["self_certainty"] = jnp.where(alive, jnp.maximum(divergence, 0.0), 0.0)
    if "max_logprob" in options.stats:
        fields["max_logprob"] = logprob(sums.peak)
    if "logsumexp" in options.stats:
        fields["logsumexp"] = jnp.where(
            alive, scaled_gap(sums.peak, 0.0, options) + log_mass, nothing
        )
    if options.needs_argmax:
        # A peak may hide NaN, the mass never does.
        found = (sums.argmax < NO_COLUMN) & ~jnp.isnan(sums.mass)
        fields["argmax"] = jnp.where(found, sums.argmax, -1)
    if options.needs_top:
        # Together: taken one by one, a CPU sorts all that they are chosen from.
        top = logprob(jnp.moveaxis(sums.top, -1, 0)[: min(options.topk, vocab)])
        if "topk_logprob" in options.stats:
            fields["topk_logprob"] = top.mean(0)
        if "topk_logmass" in options.stats:
            mass = jnp.exp(top).sum(0)
            fields["topk_logmass"] = jnp.where(alive, jnp.minimum(jnp.log(mass), 0.0), -jnp.inf)
    return TokenStats(**fields)
