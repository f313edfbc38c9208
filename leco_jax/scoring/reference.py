"""The statistics written the plain way, with whole `[T, V]` arrays and JAX's own derivatives.

For tests, and to settle arguments; it costs what the other implementations avoid.
"""

import math

import jax.numpy as jnp
from jax import lax
from jax.nn import logsumexp

from leco_jax.scoring.hidden_xla import Head
from leco_jax.scoring.types import Asked, Options, TokenStats


def token_stats(logits, asked: Asked, options: Options) -> TokenStats:
    """Statistics from logits `[..., T, V]`; see `scoring.token_stats`."""
    x, tokens = logits.astype(jnp.float32)[..., : options.valid_vocab], asked.tokens
    x = x * jnp.where(x == jnp.inf, jnp.nan, 1.0)  # a product, so that its gradient is NaN too
    if options.soft_cap is not None:
        inside = jnp.where(x == -jnp.inf, 0.0, x)
        capped = options.soft_cap * jnp.tanh(inside / options.soft_cap)
        x = jnp.where(x == -jnp.inf, -jnp.inf, capped)
    x = x / options.temperature
    if asked.scale is not None:
        x = x * asked.scale[..., None]
    vocab = x.shape[-1]
    if asked.mask is not None:
        x = jnp.where(asked.mask[..., None], x, 0.0)
    alive = x.max(-1) != -jnp.inf
    nothing = jnp.where(alive, 0.0, -jnp.inf)
    x = jnp.where(alive[..., None], x, 0.0)
    total = logsumexp(x, axis=-1)
    logp = x - total[..., None]
    possible = logp != -jnp.inf
    fields = {}
    if "logprob" in options.stats:
        value = jnp.take_along_axis(logp, jnp.clip(tokens, 0, vocab - 1), axis=-1)
        exists = alive[..., None] & (tokens < vocab) | jnp.isnan(x.max(-1))[..., None]
        fields["logprob"] = jnp.where(tokens < 0, 0.0, jnp.where(exists, value, -jnp.inf))
    if "entropy" in options.stats:
        surprise = jnp.where(possible, jnp.exp(logp) * jnp.where(possible, logp, 0.0), 0.0)
        fields["entropy"] = jnp.where(alive, -surprise.sum(-1), 0.0)
    if "self_certainty" in options.stats:
        fields["self_certainty"] = jnp.where(alive, -logp.mean(-1) - math.log(vocab), 0.0)
    if "max_logprob" in options.stats:
        fields["max_logprob"] = jnp.where(alive, logp.max(-1), -jnp.inf)
    if "logsumexp" in options.stats:
        fields["logsumexp"] = total + nothing
    if options.needs_argmax:
        fields["argmax"] = jnp.where(alive & ~jnp.isnan(total), x.argmax(-1), -1)
    if options.needs_top:
        top = lax.top_k(logp, min(options.topk, vocab))[0]
        if "topk_logprob" in options.stats:
            fields["topk_logprob"] = jnp.where(alive, top.mean(-1), -jnp.inf)
        if "topk_logmass" in options.stats:
            fields["topk_logmass"] = jnp.where(alive, logsumexp(top, axis=-1), -jnp.inf)
    return TokenStats(**fields)


def token_stats_from_hidden(head: Head, asked: Asked, options: Options, layout: str) -> TokenStats:
    """Statistics from hidden states `[..., T, D]`; see `scoring.token_stats_from_hidden`."""
    product = "...d,vd->...v" if layout == "VD" else "...d,dv->...v"
    logits = jnp.einsum(product, *head[:2], preferred_element_type=jnp.float32)
    return token_stats(logits if head.bias is None else logits + head.bias, asked, options)
