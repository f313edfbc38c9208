"""Sums over the vocabulary from logits, as a Pallas TPU kernel: one read of HBM."""

import functools
import math

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

from leco_jax.scoring import pallas_tiles, topk
from leco_jax.scoring.partials import Partials
from leco_jax.scoring.shards import shape_like, vary_like
from leco_jax.scoring.types import Options


def sums_from_logits(logits, scale, valid, options: Options) -> Partials:
    """Sums over the first `valid` logits of the last axis; arguments as in `xla`."""
    assert scale is None  # `pallas_tiles.unsupported`
    *rows, vocab = logits.shape
    flat = logits.reshape(-1, vocab)
    static = valid if isinstance(valid, int) else None
    call = functools.partial(_sums, static=static, options=options)
    valid = jnp.asarray(valid, jnp.int32).reshape(1)
    stacked = pallas_tiles.over_wanted_rows(call, None, [flat], valid)
    sums = pallas_tiles.unpack(stacked, options)
    sums = jax.tree.map(lambda x: x.reshape(rows), sums)
    if options.needs_top:
        sums = sums._replace(top=topk.top_of_logits(logits, scale, valid, options.topk, options)[0])
    return sums


def _sums(_, logits, valid, *, static: int | None, options: Options):
    valid, logits = vary_like(valid, logits), vary_like(logits, valid)
    count, vocab = logits.shape
    blocks = pallas_tiles.blocks_for(pallas_tiles.LOGITS)
    columns = min(blocks.columns, pl.cdiv(vocab, pallas_tiles.LANES) * pallas_tiles.LANES)
    # No tile of a static count is ever masked but the last one, and then only if it is not whole.
    tiles = pl.cdiv(vocab if static is None else static, columns)
    used_rows = min(blocks.rows, pl.cdiv(count, pallas_tiles.GROUP) * pallas_tiles.GROUP)
    number = len(pallas_tiles.names(options))
    kernel = functools.partial(
        _kernel,
        options=options,
        shape=(used_rows, columns),
        ragged=static is None or static % columns != 0,
    )
    return pl.pallas_call(
        kernel,
        out_shape=shape_like((number, count), jnp.float32, logits),
        grid_spec=pltpu.PrefetchScalarGridSpec(
            num_scalar_prefetch=1,
            grid=(pl.cdiv(count, blocks.rows), tiles),
            in_specs=[pl.BlockSpec((blocks.rows, columns), lambda i, j, _: (i, j))],
            out_specs=pl.BlockSpec((number, blocks.rows), lambda i, j, _: (0, i)),
            scratch_shapes=pallas_tiles.scratch(blocks.rows, options),
        ),
        compiler_params=pltpu.CompilerParams(
            dimension_semantics=("parallel", "arbitrary"), vmem_limit_bytes=blocks.vmem_limit
        ),
        cost_estimate=pl.CostEstimate(
            flops=5 * number * math.prod(logits.shape),
            transcendentals=math.prod(logits.shape),
            bytes_accessed=logits.size * logits.dtype.itemsize + 4 * number * count,
        ),
        name="leco_sums_from_logits",
    )(valid, logits)


def _kernel(valid_ref, logits_ref, out_ref, *sums, options: Options, shape, ragged: bool):
    tile, columns = pl.program_id(1), shape[1]

    def load(rows, columns):
        return logits_ref[rows, columns]

    @pl.when(tile == 0)
    def _():
        pallas_tiles.reset(sums)

    def absorb(limit):
        unroll = True if limit is None else 1  # one tile of many is ragged: a short program
        pallas_tiles.absorb(load, shape, sums, options, limit=limit, unroll=unroll)

    limit = valid_ref[0] - tile * columns
    pallas_tiles.absorb_once(absorb, limit, columns, ragged)

    @pl.when(tile == pl.num_programs(1) - 1)
    def _():
        pallas_tiles.write(out_ref, sums, options)
