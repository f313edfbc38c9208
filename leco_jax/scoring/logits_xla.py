"""Statistics from logits in plain JAX: one read of the logits, no `[T, V]` temporary.

XLA's CPU and TPU backends want different programs for the same sums. On CPU a loop over tiles keeps
a tile in cache and vectorises over 128 lanes; a reduction with its own combiner runs element by
element there. On TPU that very reduction reads the logits once and needs no temporary,
while the loop would copy every tile.
"""

import functools
import math

import jax
import jax.numpy as jnp
from jax import lax

from leco_jax.scoring import partials, topk
from leco_jax.scoring.partials import Partials
from leco_jax.scoring.shards import vary_like
from leco_jax.scoring.types import Options

LANES = 128
# 128 × 4096 float32 logits, 2 MB, stay in the cache of a CPU core while they are passed over twice.
ROWS = 128
TILE = 4096
# So few logits, of a decoding step say, need no loop: its steps would take longer than the cache.
WHOLE = 2**22


def sums_from_logits(logits, scale, valid, options: Options) -> Partials:
    """Sums over the first `valid` logits of the last axis.

    Args:
      logits: `[..., V]` float32 or bfloat16, uncapped.
      scale: `[...]` factor of each row, or None.
      valid: how many logits count: an int, or an int32 array where only the device knows.
      options: the statistics asked for.

    Returns:
      Partials `[...]`.
    """
    sums = lax.platform_dependent(
        logits,
        scale,
        cpu=functools.partial(_rows_known, valid=valid, options=options),
        default=functools.partial(_by_reduction, valid=valid, options=options),
    )
    if options.needs_top:
        sums = sums._replace(top=topk.top_of_logits(logits, scale, valid, options.topk, options)[0])
    return sums


def _rows_known(logits, scale, valid, options: Options) -> Partials:
    """`_by_tiles` of all rows at once, also under vmap: their number decides how it goes."""
    if not isinstance(valid, int):
        return _by_tiles((logits, scale), valid, options)

    @jax.custom_batching.custom_vmap
    def sums(arrays):
        return _by_tiles(arrays, valid, options)

    @sums.def_vmap
    def rule(size, batched, arrays):
        arrays = jax.tree.map(
            lambda x, b: x if b else jnp.broadcast_to(x, (size, *x.shape)), arrays, batched[0]
        )
        batch = _rows_known(arrays[0], arrays[1], valid, options)  # a batch is only more rows
        return batch, jax.tree.map(lambda _: True, batch)

    return sums((logits, scale))


def _by_tiles(arrays, valid, options: Options) -> Partials:
    logits, scale = arrays
    if logits.ndim == 1:
        arrays = jax.tree.map(lambda x: x[None], arrays)
        return jax.tree.map(lambda x: x[0], _by_tiles(arrays, valid, options))
    load = loader(logits, scale, options)
    few = isinstance(valid, int) and math.prod(logits.shape[:-1]) * valid <= WHOLE
    if few and logits.dtype.itemsize < 4 and _peak_and_mass_alone(options):
        return _few_narrow(logits[..., :valid], scale, options)

    def block(row, size):
        shape = (*logits.shape[:-2], size)
        load_rows = functools.partial(load, row, size=size)
        return _sums_of_rows(load_rows, shape, logits.shape[-1], valid, options, logits)

    lead = math.prod(logits.shape[:-2])
    return topk.over_blocks(block, logits.shape[-2], max(1, ROWS // max(1, lead)))


def _peak_and_mass_alone(options: Options) -> bool:
    return not (options.needs_dot or options.needs_total or options.needs_argmax)


def _few_narrow(logits, scale, options: Options) -> Partials:
    """Peak and mass of few rows, in two passes as the plain idiom takes, without a float32 copy.

    The barrier gives the second pass a conversion of its own: one that both share is stored.
    """
    peak = partials.cap(logits.max(-1, keepdims=True), options, scale)
    peak = jnp.maximum(peak, partials.LOWEST)
    x = partials.cap(lax.optimization_barrier(logits), options, scale)
    mass = jnp.exp(partials.scaled_gap(x, peak, options)).sum(-1)
    return Partials(peak.squeeze(-1), mass)


def loader(logits, scale, options: Options):
    """Makes the function (row, column, rows, columns) -> float32 capped logits of a tile."""
    # A loop over narrow floats would first convert them all to float32; their bits it leaves alone.
    bits = {1: jnp.uint8, 2: jnp.uint16}.get(logits.dtype.itemsize)
    source = logits if bits is None else lax.bitcast_convert_type(logits, bits)

    def load(row, column, size, width):
        x = lax.dynamic_slice_in_dim(source, row, size, -2)
        x = lax.dynamic_slice_in_dim(x, column, width, -1)
        x = x if bits is None else lax.bitcast_convert_type(x, logits.dtype)
        factor = None if scale is None else lax.dynamic_slice_in_dim(scale, row, size, -1)
        return partials.cap(x, options, factor)

    return load


def _sums_of_rows(load, rows, vocab: int, valid, options: Options, example) -> Partials:
    """Sums of some rows; `load(column, width=...)` gives their float32 logits.

    A slice of the logits up front would be copied, so the loop stops at the count of valid ones
    where that is static.
    """
    count, dynamic = (valid, False) if isinstance(valid, int) else (vocab, True)

    def absorb(sums, start, width):
        x = load(column=start, width=width).reshape(*rows, width // LANES, LANES)
        ids = start + jnp.arange(width).reshape(width // LANES, LANES)
        return partials.absorb(sums, x, -2, options, ids, ids < valid if dynamic else None)

    whole = not dynamic and math.prod(rows) * count <= WHOLE  # else vmap may hide rows
    if whole and _peak_and_mass_alone(options):
        sums = jax.tree.map(lambda x: vary_like(x, example), partials.empty(rows, options))
        return partials.absorb(sums, load(column=0, width=count), -1, options, jnp.arange(count))
    sums = jax.tree.map(lambda x: vary_like(x, example), partials.empty((*rows, LANES), options))
    tile = max(count // LANES * LANES, LANES) if whole else TILE
    tiles, rest = divmod(count, tile)
    if tiles:
        starts = jnp.arange(tiles) * tile
        sums, _ = lax.scan(lambda sums, start: (absorb(sums, start, tile), None), sums, starts)
    if rest >= LANES:
        sums = absorb(sums, count - rest, rest - rest % LANES)
    sums = partials.collapse(sums, options)
    rest %= LANES
    if rest:
        ids = jnp.arange(count - rest, count)
        x = load(column=count - rest, width=rest)
        sums = partials.absorb(sums, x, -1, options, ids, ids < valid if dynamic else None)
    return sums


def _by_reduction(logits, scale, valid, options: Options) -> Partials:
    if isinstance(valid, int):
        logits, valid = logits[..., :valid], None
    else:
        valid = jnp.arange(logits.shape[-1]) < valid
    x = partials.cap(logits, options, scale)
    seen = x if valid is None else jnp.where(valid, x, -jnp.inf)
    elements = Partials(
        peak=jnp.maximum(seen, partials.LOWEST),
        mass=jnp.where(seen <= partials.LOWEST, 0.0, 1.0),  # NaN counts
        dot=vary_like(jnp.zeros_like(x), x) if options.needs_dot else None,
        total=(x if valid is None else jnp.where(valid, x, 0.0)) if options.needs_total else None,
    )
    if options.needs_argmax:
        ids = jnp.where(seen <= partials.LOWEST, partials.NO_COLUMN, jnp.arange(x.shape[-1]))
        elements = elements._replace(argmax=ids.astype(jnp.int32))
    return lax.reduce(
        elements,
        jax.tree.map(lambda init: vary_like(init, x), partials.empty((), options)),
        functools.partial(partials.join, options=options),
        (logits.ndim - 1,),
    )
