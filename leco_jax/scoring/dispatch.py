"""Token statistics with their derivative, and the choice of implementation.

`token_stats` and `token_stats_from_hidden` are the differentiable functions; what computes the sums
over the vocabulary is chosen here. An explicit request is strict. "auto" takes what fits and logs
once why it fell back; it is settled when the program is lowered, by the platform that it is lowered
for: tracing on a CPU host and compiling for TPU takes the TPU kernel.
"""

import functools
import logging

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from leco_jax.scoring import (
    gradients,
    hidden_pallas_tpu,
    hidden_xla,
    logits_pallas_tpu,
    logits_xla,
    pallas_tiles,
    partials,
    shards,
    topk,
)
from leco_jax.scoring.partials import Partials
from leco_jax.scoring.types import Options, TokenStats

logger = logging.getLogger("leco_jax.scoring")


@jax.custom_jvp
def _once_differentiable(x):
    """The same; marks what a gradient is taken of, for the forward pass has no derivative rule."""
    return x


@_once_differentiable.defjvp
def _(primals, tangents):
    raise ValueError(
        'second derivatives of token statistics need implementation="reference", '
        "which is plain JAX throughout"
    )


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _from_logits(logits, tokens, options: Options) -> TokenStats:
    """Statistics of `tokens` `[..., T]` under `logits` `[..., T, V]` (or a shard of them)."""
    return _logits_forward(logits, tokens, options)[0]


def _logits_forward(logits, tokens, options: Options):
    shard = shards.shard_of(logits.shape[-1], options)
    sums = _sums_from_logits(logits, shard.valid, options)
    columns = shard.columns(tokens)
    logit = jnp.take_along_axis(logits, jnp.maximum(columns, 0)[..., None], axis=-1)[..., 0]
    target = jnp.where(columns >= 0, partials.cap(logit, options), 0.0)
    sums, target = shards.combine(sums, target, options)
    return partials.finish(sums, target, tokens, options, shard.vocab), sums


def _logits_forward_and_keep(logits, tokens, options: Options):
    logits = _once_differentiable(logits)
    shard = shards.shard_of(logits.shape[-1], options)
    stats, sums = _logits_forward(logits, tokens, options)
    k = gradients.top_size(options)
    top = topk.top_of_logits(logits, shard.valid, k, options) if k else None
    kept = gradients.residuals_of(sums, stats, top, tokens, options, shard.vocab)
    return stats, (logits, tokens, kept)


def _logits_backward(options: Options, saved, cotangents: TokenStats):
    logits, tokens, kept = saved
    shard = shards.shard_of(logits.shape[-1], options)
    cotangents = shards.whole_cotangents(cotangents, logits, options)
    weights = gradients.coefficients(cotangents, tokens, shard, kept, options)
    ids, x = jnp.arange(logits.shape[-1]), partials.cap(logits, options)
    gradient = gradients.logits_gradient(x, weights, kept, ids, shard.mask_count, options)
    d_logits = shards.sum_to_type(gradient.astype(logits.dtype), logits)
    return d_logits, np.zeros(tokens.shape, jax.dtypes.float0)


_from_logits.defvjp(_logits_forward_and_keep, _logits_backward)


@functools.partial(jax.jit, static_argnames="options")
def token_stats(logits, tokens, options: Options) -> TokenStats:
    """See `scoring.token_stats`."""
    return _from_logits(logits, tokens, options)


@functools.partial(jax.custom_vjp, nondiff_argnums=(3, 4))
def _from_hidden(hidden, unembed, tokens, options: Options, layout: str) -> TokenStats:
    """Statistics of `tokens` `[..., T]` under `hidden` `[..., T, D]` times `unembed`."""
    return _hidden_forward(_sums_from_hidden, hidden, unembed, tokens, options, layout)[0]


def _hidden_forward(compute, hidden, unembed, tokens, options: Options, layout: str):
    shard = shards.shard_of(unembed.shape[layout.index("V")], options)
    columns = shard.columns(tokens)
    sums, target, top = compute(hidden, unembed, columns, shard.valid, options, layout)
    sums, target = shards.combine(sums, target, options)
    stats = partials.finish(sums, target, tokens, options, shard.vocab)
    kept = gradients.residuals_of(sums, stats, top, tokens, options, shard.vocab)
    return stats, (hidden, unembed, tokens, kept)


def _hidden_forward_and_keep(hidden, unembed, tokens, options: Options, layout: str):
    hidden, unembed = _once_differentiable((hidden, unembed))
    compute = _sums_from_hidden
    if gradients.top_size(options):  # the kernel does not know which tokens are the most likely
        compute = functools.partial(hidden_xla.sums_from_hidden, keep_top=True)
    return _hidden_forward(compute, hidden, unembed, tokens, options, layout)


def _hidden_backward(options: Options, layout: str, saved, cotangents: TokenStats):
    hidden, unembed, tokens, kept = saved
    shard = shards.shard_of(unembed.shape[layout.index("V")], options)
    cotangents = shards.whole_cotangents(cotangents, unembed, options)
    weights = gradients.coefficients(cotangents, tokens, shard, kept, options)
    d_hidden, d_unembed = hidden_xla.gradients_from_hidden(
        hidden, unembed, weights, kept, shard.valid, options, layout
    )
    return (
        shards.sum_to_type(d_hidden, hidden),
        shards.sum_to_type(d_unembed, unembed),
        np.zeros(tokens.shape, jax.dtypes.float0),
    )


_from_hidden.defvjp(_hidden_forward_and_keep, _hidden_backward)


@functools.partial(jax.jit, static_argnames=("options", "layout"))
def token_stats_from_hidden(hidden, unembed, tokens, options: Options, layout: str) -> TokenStats:
    """See `scoring.token_stats_from_hidden`."""
    return _from_hidden(hidden, unembed, tokens, options, layout)


def _sums_from_logits(logits, valid, options: Options) -> Partials:
    return _run(
        "logits",
        functools.partial(logits_pallas_tpu.sums_from_logits, valid=valid, options=options),
        functools.partial(logits_xla.sums_from_logits, valid=valid, options=options),
        (logits,),
        options,
        pallas_tiles.unsupported_dtype(logits),
    )


def _sums_from_hidden(hidden, unembed, columns, valid, options: Options, layout: str):
    """Sums, target logits and the most likely tokens; see `hidden_xla.sums_from_hidden`."""
    rest = {"valid": valid, "options": options, "layout": layout}
    return _run(
        "hidden states",
        functools.partial(hidden_pallas_tpu.sums_from_hidden, **rest),
        functools.partial(hidden_xla.sums_from_hidden, **rest),
        (hidden, unembed, columns),
        options,
        hidden_pallas_tpu.unsupported(hidden, unembed, options),
    )


def _run(source: str, kernel, plain, arrays, options: Options, unsupported: str | None):
    """Calls the TPU kernel or plain JAX, whichever the options name or the platform allows."""
    reason = _partitioned(*arrays) or unsupported
    if options.implementation == "pallas_tpu":
        if reason is not None:
            raise NotImplementedError(f'implementation="pallas_tpu" cannot run here: {reason}')
        return kernel(*arrays)
    reason = reason or _many_devices()
    if options.implementation == "auto" and reason is None:
        return lax.platform_dependent(*arrays, tpu=kernel, default=plain)
    if options.implementation == "auto":
        _say_once(f'"auto" takes "xla" for {source}: {reason}')
    return plain(*arrays)


def _many_devices() -> str | None:
    """Why arrays might be spread over devices without a mesh that says so, or None."""
    if jax.sharding.get_abstract_mesh().empty and jax.device_count() > 1:
        return f"{jax.device_count()} devices and no mesh; name one with jax.set_mesh"
    return None


def _partitioned(*arrays) -> str | None:
    """Why the compiler may partition the arrays, so that a kernel would not see them whole."""
    split = shards.partitioned(*arrays)
    if not split:
        return None
    return (
        f"the compiler may partition arrays over the mesh axes {split}, and cannot partition a "
        "kernel: wrap the call in jax.shard_map over them"
    )


@functools.cache
def _say_once(message: str):
    logger.info(message)
