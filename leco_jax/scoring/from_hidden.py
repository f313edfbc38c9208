"""Token statistics from hidden states and the unembedding matrix, with their derivative."""

import functools

import jax
import numpy as np

from leco_jax.scoring import dispatch, gradients, hidden_xla, partials, vocab_parallel
from leco_jax.scoring.types import Options, TokenStats
from leco_jax.scoring.varying import sum_to_type


@functools.partial(jax.custom_vjp, nondiff_argnums=(3, 4))
def _token_stats(hidden, unembed, tokens, options: Options, layout: str) -> TokenStats:
    """Statistics of `tokens` `[..., T]` under `hidden` `[..., T, D]` times `unembed`."""
    return _forward(dispatch.sums_from_hidden, hidden, unembed, tokens, options, layout)[0]


def _forward_and_keep(hidden, unembed, tokens, options: Options, layout: str):
    compute = dispatch.sums_from_hidden
    if gradients.top_size(options):  # the kernel does not know which tokens are the most likely
        compute = functools.partial(hidden_xla.sums_from_hidden, keep_top=True)
    return _forward(compute, hidden, unembed, tokens, options, layout)


def _forward(compute, hidden, unembed, tokens, options: Options, layout: str):
    shard = vocab_parallel.shard_of(unembed.shape[layout.index("V")], options)
    sums, target, top = compute(
        hidden, unembed, shard.columns(tokens), shard.valid, options, layout
    )
    sums, target = vocab_parallel.combine(sums, target, options)
    stats = partials.finish(sums, target, tokens, options, shard.vocab)
    kept = gradients.residuals_of(sums, stats, top, options, shard.vocab)
    return stats, (hidden, unembed, tokens, kept)


def _backward(options: Options, layout: str, saved, cotangents: TokenStats):
    hidden, unembed, tokens, kept = saved
    shard = vocab_parallel.shard_of(unembed.shape[layout.index("V")], options)
    cotangents = vocab_parallel.whole_cotangents(cotangents, unembed, options)
    weights = gradients.coefficients(cotangents, tokens, shard, kept, options)
    d_hidden, d_unembed = hidden_xla.gradients_from_hidden(
        hidden, unembed, weights, kept, shard.valid, options, layout
    )
    return (
        sum_to_type(d_hidden, hidden),
        sum_to_type(d_unembed, unembed),
        np.zeros(tokens.shape, jax.dtypes.float0),
    )


_token_stats.defvjp(_forward_and_keep, _backward)
token_stats = jax.jit(_token_stats, static_argnums=(3, 4))
