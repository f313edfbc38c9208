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
from leco_jax.scoring.hidden_xla import Head
from leco_jax.scoring.partials import Partials
from leco_jax.scoring.types import Asked, Options, TokenStats

logger = logging.getLogger("leco_jax.scoring")


@jax.custom_jvp
def once_differentiable(x):
    """The same; marks what a gradient is taken of, for the forward pass has no derivative rule."""
    return x


@once_differentiable.defjvp
def _(primals, tangents):
    raise ValueError(
        'second derivatives of token statistics need implementation="reference", '
        "which is plain JAX throughout"
    )


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _from_logits(logits, asked: Asked, options: Options) -> TokenStats:
    """Statistics under `logits` `[..., T, V]` (or a shard of them)."""
    return _logits_forward(logits, asked, options)[0]


def _logits_forward(logits, asked: Asked, options: Options):
    shard = shards.shard_of(logits.shape[-1], options)
    sums = sums_from_logits(logits, asked, shard.valid, options)
    columns = shard.columns(asked.tokens)
    logit = jnp.take_along_axis(logits, jnp.maximum(columns, 0), axis=-1)
    target = jnp.where(columns >= 0, partials.cap(logit, options, asked.scale), 0.0)
    sums, target = shards.combine(sums, target, shard, options)
    return partials.finish(sums, target, asked, options, shard.vocab), sums


def _logits_forward_and_keep(logits, asked: Asked, options: Options):
    logits = once_differentiable(logits)
    shard = shards.shard_of(logits.shape[-1], options)
    stats, sums = _logits_forward(logits, asked, options)
    k = gradients.top_size(options)
    top = topk.top_of_logits(logits, asked.scale, shard.valid, k, options) if k else None
    kept = gradients.residuals_of(sums, stats, top, asked, options, shard.vocab)
    return stats, (logits, asked, kept)


def _logits_backward(options: Options, saved, cotangents: TokenStats):
    logits, asked, kept = saved
    shard = shards.shard_of(logits.shape[-1], options)
    cotangents = shards.whole_cotangents(cotangents._replace(argmax=None), logits, options)
    weights = gradients.coefficients(cotangents, asked, shard, kept, options)
    ids, x = jnp.arange(logits.shape[-1]), partials.cap(logits, options)
    gradient = gradients.logits_gradient(
        x, asked.scale, weights, kept, ids, shard.mask_count, options
    )
    return shards.sum_to_type(gradient.astype(logits.dtype), logits), None


_from_logits.defvjp(_logits_forward_and_keep, _logits_backward)


@functools.partial(jax.jit, static_argnames="options")
def token_stats(logits, asked: Asked, options: Options) -> TokenStats:
    """See `scoring.token_stats`."""
    return _from_logits(logits, asked, options)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3))
def _from_hidden(head: Head, asked: Asked, options: Options, layout: str) -> TokenStats:
    """Statistics under hidden states `[..., T, D]` times the unembedding."""
    return _hidden_forward(sums_from_hidden, head, asked, options, layout)[0]


def _hidden_forward(compute, head: Head, asked: Asked, options: Options, layout: str):
    shard = shards.shard_of(head.unembed.shape[layout.index("V")], options)
    columns = shard.columns(asked.tokens)
    sums, target, top = compute(head, columns, asked, shard.valid, options, layout)
    sums, target = shards.combine(sums, target, shard, options)
    stats = partials.finish(sums, target, asked, options, shard.vocab)
    kept = gradients.residuals_of(sums, stats, top, asked, options, shard.vocab)
    return stats, (head, asked, kept)


def _hidden_forward_and_keep(head: Head, asked: Asked, options: Options, layout: str):
    compute = sums_from_hidden
    if gradients.top_size(options):  # the kernel does not know which tokens are the most likely
        compute = functools.partial(hidden_xla.sums_from_hidden, keep_top=True)
    return _hidden_forward(compute, once_differentiable(head), asked, options, layout)


def _hidden_backward(options: Options, layout: str, saved, cotangents: TokenStats):
    head, asked, kept = saved
    shard = shards.shard_of(head.unembed.shape[layout.index("V")], options)
    cotangents = shards.whole_cotangents(cotangents._replace(argmax=None), head.unembed, options)
    weights = gradients.coefficients(cotangents, asked, shard, kept, options)

    def compute(unembeds, layouts):
        here = head._replace(unembed=unembeds[0])
        return hidden_xla.gradients_from_hidden(
            here, asked, weights, kept, shard.valid, options, layouts[0]
        )

    found = in_readable_layouts(compute, [head.unembed], [layout], 0)
    return jax.tree.map(shards.sum_to_type, found, head), None


_from_hidden.defvjp(_hidden_forward_and_keep, _hidden_backward)


@functools.partial(jax.jit, static_argnames=("options", "layout"))
def token_stats_from_hidden(head: Head, asked: Asked, options: Options, layout: str) -> TokenStats:
    """See `scoring.token_stats_from_hidden`."""
    return _from_hidden(head, asked, options, layout)


def in_readable_layouts(compute, unembeds, layouts, i: int) -> Head:
    """Calls what accumulates the cotangent of an unembedding; on TPU none is copied.

    Args:
      compute: (unembeddings, layouts) -> cotangents of the i-th head.
      unembeds: of one model, or of two.
      layouts: theirs.
      i: whose cotangent is computed.
    """
    views = [pallas_tiles.readable(x, y)[1] for x, y in zip(unembeds, layouts, strict=True)]
    if list(layouts) == views or shards.partitioned(*unembeds):
        return compute(unembeds, layouts)

    def turn(*unembeds):
        turned = zip(unembeds, layouts, strict=True)
        found = compute([pallas_tiles.readable(x, y)[0] for x, y in turned], views)
        same = views[i] == layouts[i]
        return found if same else found._replace(unembed=found.unembed.T)

    def plain(*unembeds):
        return compute(unembeds, layouts)

    return lax.platform_dependent(*unembeds, tpu=turn, default=plain)


def sums_from_logits(logits, asked: Asked, valid, options: Options) -> Partials:
    return run(
        "logits",
        functools.partial(logits_pallas_tpu.sums_from_logits, valid=valid, options=options),
        functools.partial(logits_xla.sums_from_logits, valid=valid, options=options),
        (logits, asked.scale),
        options,
        pallas_tiles.unsupported(logits, asked, options),
    )


def sums_from_hidden(head: Head, columns, asked: Asked, valid, options: Options, layout: str):
    """Sums, target logits and the most likely tokens; see `hidden_xla.sums_from_hidden`."""
    rest = {"valid": valid, "options": options, "layout": layout}
    return run(
        "hidden states",
        functools.partial(hidden_pallas_tpu.sums_from_hidden, **rest),
        functools.partial(hidden_xla.sums_from_hidden, **rest),
        (head, columns, asked),
        options,
        hidden_pallas_tpu.unsupported(head, asked, options),
    )


def run(source: str, kernel, plain, arrays, options: Options, unsupported: str | None):
    """Calls the TPU kernel or plain JAX, whichever the options name or the platform allows."""
    reason = _partitioned(*jax.tree.leaves(arrays)) or unsupported
    if options.implementation == "pallas_tpu":
        if reason is not None:
            raise ValueError(f'implementation="pallas_tpu" cannot run here: {reason}')
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
