"""Token statistics from logits, with their derivative, whatever computes the sums."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from leco_jax.scoring import dispatch, gradients, partials, topk, vocab_parallel
from leco_jax.scoring.types import Options, TokenStats
from leco_jax.scoring.varying import sum_to_type


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _token_stats(logits, tokens, options: Options) -> TokenStats:
    """Statistics of `tokens` `[..., T]` under `logits` `[..., T, V]` (or a shard of them)."""
    return _forward(logits, tokens, options)[0]


def _forward(logits, tokens, options: Options):
    shard = vocab_parallel.shard_of(logits.shape[-1], options)
    sums = dispatch.sums_from_logits(logits, shard.valid, options)
    columns = shard.columns(tokens)
    found = jnp.take_along_axis(logits, jnp.maximum(columns, 0)[..., None], axis=-1)[..., 0]
    target = jnp.where(columns >= 0, partials.cap(found, options), 0.0)
    sums, target = vocab_parallel.combine(sums, target, options)
    return partials.finish(sums, target, tokens, options, shard.vocab), sums


def _forward_and_keep(logits, tokens, options: Options):
    shard = vocab_parallel.shard_of(logits.shape[-1], options)
    stats, sums = _forward(logits, tokens, options)
    k = gradients.top_size(options)
    top = topk.top_of_logits(logits, shard.valid, k, options) if k else None
    kept = gradients.residuals_of(sums, stats, top, options, shard.vocab)
    return stats, (logits, tokens, kept)


def _backward(options: Options, saved, cotangents: TokenStats):
    logits, tokens, kept = saved
    shard = vocab_parallel.shard_of(logits.shape[-1], options)
    cotangents = vocab_parallel.whole_cotangents(cotangents, logits, options)
    weights = gradients.coefficients(cotangents, tokens, shard, kept, options)
    gradient = gradients.logits_gradient(
        partials.cap(logits, options),
        weights,
        kept,
        jnp.arange(logits.shape[-1]),
        shard.mask_count,
        options,
    )
    d_logits = sum_to_type(gradient.astype(logits.dtype), logits)
    return d_logits, np.zeros(tokens.shape, jax.dtypes.float0)


_token_stats.defvjp(_forward_and_keep, _backward)
token_stats = jax.jit(_token_stats, static_argnums=2)
