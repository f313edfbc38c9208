"""Sums over the vocabulary from logits, as a Pallas Triton kernel: each logit is read once.

A program takes one row, or part of a row where there are too few rows to fill the GPU. It walks
over tiles of DEPTH × LANES logits with a running sum per lane, so that threads never exchange
anything before the end; lanes are combined in the kernel, the parts of a row after it.

Checked in interpret mode and lowered for CUDA; it has not been run on a GPU, so "auto" never takes
it. jax 0.11 deprecates this backend of Pallas and warns where the kernel is lowered.
"""

import functools
import math

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton as plt

from leco_jax.scoring import lane_sums, partials, topk
from leco_jax.scoring.partials import LOWEST, Partials
from leco_jax.scoring.rowwise import merge_rows_under_vmap
from leco_jax.scoring.types import Options
from leco_jax.scoring.varying import shape_like, vary_like

LANES = 1024  # 128 threads × 8 numbers: 16-byte loads of bfloat16
DEPTH = 4
WARPS = 4
PROGRAMS = 1024  # a few per multiprocessor


def sums_from_logits(logits, valid, options: Options, *, interpret: bool = False) -> Partials:
    """Sums over the first `valid` logits of the last axis; arguments as in `xla`."""
    *rows, vocab = logits.shape
    flat = logits.reshape(-1, vocab)
    most = valid if isinstance(valid, int) else vocab
    call = functools.partial(_sums, most=most, options=options, interpret=interpret)
    found = merge_rows_under_vmap(call, 1)(flat, jnp.asarray(valid, jnp.int32).reshape(1))
    sums = jax.tree.map(lambda x: x.reshape(rows), lane_sums.unpack(found, options))
    if options.needs_top:
        sums = sums._replace(top=topk.top_of_logits(logits, valid, options.topk, options)[0])
    return sums


def _sums(logits, valid, *, most: int, options: Options, interpret: bool):
    valid, logits = vary_like(valid, logits), vary_like(logits, valid)
    count, vocab = logits.shape
    tiles = pl.cdiv(most, LANES * DEPTH)
    parts = max(1, min(tiles, PROGRAMS // count))
    number = len(lane_sums.names(options))
    found = pl.pallas_call(
        functools.partial(_kernel, options=options, tiles_each=pl.cdiv(tiles, parts)),
        out_shape=[shape_like((count, parts), jnp.float32, logits)] * number,
        grid=(count, parts),
        in_specs=[
            pl.BlockSpec((1,), lambda row, part: (0,)),
            pl.BlockSpec((None, vocab), lambda row, part: (row, 0)),
        ],
        out_specs=[pl.BlockSpec((None, None), lambda row, part: (row, part))] * number,
        compiler_params=plt.CompilerParams(num_warps=WARPS, num_stages=2),
        interpret=interpret,
        name="leco_sums_from_logits",
    )(valid, logits)
    sums = partials.collapse(lane_sums.unpack(found, options), options)
    return jnp.stack([getattr(sums, name) for name in lane_sums.names(options)])


def _kernel(valid_ref, logits_ref, *out, options: Options, tiles_each: int):
    tile = LANES * DEPTH
    valid = valid_ref[0]
    first = pl.program_id(1) * tiles_each
    last = jnp.minimum(first + tiles_each, pl.cdiv(valid, tile))
    whole = jnp.minimum(last, valid // tile)
    lanes = lax.broadcasted_iota(jnp.int32, (DEPTH, LANES), 1)
    columns = lax.broadcasted_iota(jnp.int32, (DEPTH, LANES), 0) * LANES + lanes
    scale = 1.0 / (options.temperature * math.log(2.0))

    def whole_tile(i, sums):
        x = partials.cap(plt.load(logits_ref.at[i * tile + columns]), options)
        return _absorb(sums, x, x, scale)

    def last_tile(i, sums):
        inside = i * tile + columns < valid
        x = plt.load(logits_ref.at[i * tile + columns], mask=inside, other=-jnp.inf)
        x = jnp.where(inside, partials.cap(x, options), -jnp.inf)
        return _absorb(sums, x, jnp.where(inside, x, 0.0), scale)

    sums = partials.empty((LANES,), options)
    sums = lax.fori_loop(first, whole, whole_tile, sums)
    sums = lax.fori_loop(jnp.maximum(first, whole), last, last_tile, sums)
    if options.needs_dot:
        sums = sums._replace(dot=sums.dot * math.log(2.0))
    found = partials.collapse(sums, options)
    for ref, name in zip(out, lane_sums.names(options), strict=True):
        ref[...] = getattr(found, name)


def _absorb(sums: Partials, x, counted, scale: float) -> Partials:
    peak = jnp.maximum(sums.peak, x.max(0))
    shift = jnp.maximum((sums.peak - peak) * scale, LOWEST)
    rescale = jnp.exp2(shift)
    power = (x - peak[None, :]) * scale
    share = jnp.exp2(power)
    dot = total = None
    if sums.dot is not None:
        weighted = share * jnp.maximum(power, LOWEST)  # a weight of zero times −inf would be NaN
        dot = rescale * (sums.dot + sums.mass * shift) + weighted.sum(0)
    if sums.total is not None:
        total = sums.total + counted.sum(0)
    return Partials(peak, rescale * sums.mass + share.sum(0), dot, total)
