"""Statistics from logits in plain JAX: one read of the logits, no `[T, V]` temporary.

XLA's CPU and TPU backends want different programs for the same sums. On CPU a loop over vocabulary
tiles keeps a tile in cache and vectorises over 128 lanes; a reduction with its own combiner runs
element by element there. On TPU that very reduction reads the logits once and needs no temporary,
while the loop would copy every tile.
"""

import functools

import jax
import jax.numpy as jnp
from jax import lax

from leco_jax.scoring import partials, topk
from leco_jax.scoring.partials import Partials
from leco_jax.scoring.types import Options
from leco_jax.scoring.varying import vary_like

LANES = 128
TILE = 1024  # times the rows of a batch: what stays in the cache of a CPU core


def sums_from_logits(logits, valid, options: Options) -> Partials:
    """Sums over the first `valid` logits of the last axis.

    Args:
      logits: `[..., V]` float32 or bfloat16, uncapped.
      valid: how many logits count: an int, or an int32 array where only the device knows.
      options: the statistics asked for.

    Returns:
      Partials `[...]`.
    """
    sums = lax.platform_dependent(
        logits,
        cpu=functools.partial(_by_tiles, valid=valid, options=options),
        default=functools.partial(_by_reduction, valid=valid, options=options),
    )
    if options.needs_top:
        sums = sums._replace(top=topk.top_of_logits(logits, valid, options.topk, options)[0])
    return sums


def _by_tiles(logits, valid, options: Options) -> Partials:
    # A slice of the logits up front would be copied; so the loop stops at the static count.
    *rows, vocab = logits.shape
    count, dynamic = (valid, False) if isinstance(valid, int) else (vocab, True)
    tiles, rest = divmod(count, TILE)
    # A loop over 16-bit floats would first convert them all to float32; their bits it leaves alone.
    narrow = logits.dtype.itemsize == 2
    source = lax.bitcast_convert_type(logits, jnp.uint16) if narrow else logits

    def step(sums, start):
        x = lax.dynamic_slice_in_dim(source, start, TILE, axis=-1)
        if source is not logits:
            x = lax.bitcast_convert_type(x, logits.dtype)
        x = partials.cap(x, options).reshape(*rows, TILE // LANES, LANES)
        ids = start + jnp.arange(TILE).reshape(TILE // LANES, LANES)
        return partials.absorb(sums, x, -2, options, ids < valid if dynamic else None), None

    sums = jax.tree.map(lambda x: vary_like(x, logits), partials.empty((*rows, LANES), options))
    if tiles:
        sums, _ = lax.scan(step, sums, jnp.arange(tiles) * TILE)
    sums = partials.collapse(sums, options)
    if rest:
        x = partials.cap(logits[..., count - rest : count], options)
        ids = jnp.arange(count - rest, count)
        sums = partials.absorb(sums, x, -1, options, ids < valid if dynamic else None)
    return sums


def _by_reduction(logits, valid, options: Options) -> Partials:
    if isinstance(valid, int):
        logits, valid = logits[..., :valid], None
    else:
        valid = jnp.arange(logits.shape[-1]) < valid
    x = partials.cap(logits, options)
    seen = x if valid is None else jnp.where(valid, x, -jnp.inf)
    elements = Partials(
        peak=jnp.maximum(seen, partials.LOWEST),
        mass=(seen > partials.LOWEST).astype(jnp.float32),
        dot=vary_like(jnp.zeros_like(x), x) if options.needs_dot else None,
        total=(x if valid is None else jnp.where(valid, x, 0.0)) if options.needs_total else None,
    )
    return lax.reduce(
        elements,
        jax.tree.map(lambda init: vary_like(init, x), partials.empty((), options)),
        functools.partial(partials.join, options=options),
        (logits.ndim - 1,),
    )
