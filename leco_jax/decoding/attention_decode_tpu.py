"""Decode attention on TPU: one new token a row, each key and value read once, none past the length.

XLA's form reads all S slots of every row. Here a list of (row, block) pairs, made from the lengths,
drives the grid, so that a row costs only the blocks that hold its own tokens, and short and long
rows share a batch without waste. Heads narrower than 128 are read with the slots along the lanes:
so XLA lays such a cache out by itself, and asking for rows of 64 would copy all of it.

Source: our own; online softmax after Milakov & Gimelshein (2018).
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

_MASKED = -1e30  # finite: the difference of two masked scores is no NaN
_LANES = 128

# Blocks: the most slots for which the keys of all heads stay within the bytes; the four buffers
# (keys and values, two each) then take 2 MiB. Set by compile-time figures, not by a clock.
_BLOCK_BYTES = 512 * 1024
_BLOCK_SLOTS = (512, 256, 128)


class Softmax(NamedTuple):
    """An unfinished softmax-weighted sum, to which more keys can be added.

    Attributes:
        weighted: `[B, K, G, H]` float32, the sum of `exp(score − top) · value`.
        top: `[B, K, G]` float32, the largest score so far.
        total: `[B, K, G]` float32, the sum of `exp(score − top)`.
    """

    weighted: jax.Array
    top: jax.Array
    total: jax.Array


def unfit(*, head_width: int, dtype) -> str | None:
    """Why the kernel cannot run, or None if it can."""
    if head_width % _LANES and head_width != 64:
        return f"head_width={head_width} is neither 64 nor a multiple of {_LANES}"
    if jnp.dtype(dtype) not in (jnp.dtype(jnp.bfloat16), jnp.dtype(jnp.float32)):
        return f"the cache is {jnp.dtype(dtype).name}, not bfloat16 or float32"
    return None


def block_shape(*, kv_heads: int, slots: int, head_width: int, itemsize: int) -> tuple[int, int]:
    """Heads and slots of one block of the cache."""
    slot_bytes = head_width * itemsize
    fitting = [n for n in _BLOCK_SLOTS if kv_heads * n * slot_bytes <= _BLOCK_BYTES]
    block_slots = fitting[0] if fitting else _BLOCK_SLOTS[-1]
    most = max(_BLOCK_BYTES // (block_slots * slot_bytes), 1)
    heads = max(n for n in range(1, min(kv_heads, most) + 1) if kv_heads % n == 0)
    return heads, min(block_slots, slots)


def decode_attention(
    q_BNH: jax.Array,
    k_BKSH: jax.Array,
    v_BKSH: jax.Array,
    visible_B: jax.Array,
    start: Softmax | None = None,
    *,
    sliding_window: int | None = None,
) -> jax.Array:
    """Attention of one query a row to the first `visible` slots of that row.

    Args:
        q_BNH: queries, not scaled; bfloat16 or float32.
        k_BKSH: keys of the cache, in the queries' dtype.
        v_BKSH: values.
        visible_B: int32, slots that hold tokens, the query's own included; at most S.
        start: what came before the cache (a shared prefix), added exactly.
        sliding_window: only the last `sliding_window` of the visible slots are seen.

    Returns:
        `[B, N, H]` in the queries' dtype; zeros for a row that sees nothing.
    """
    batch, num_heads, width = q_BNH.shape
    kv_heads, slots = k_BKSH.shape[1:3]
    groups = num_heads // kv_heads
    itemsize = k_BKSH.dtype.itemsize
    heads, block = block_shape(kv_heads=kv_heads, slots=slots, head_width=width, itemsize=itemsize)
    span = functools.partial(_span, block=block, window=sliding_window)
    work = _work_list(visible_B, span, pl.cdiv(slots, block))

    def per_row(*shape):
        return pl.BlockSpec((1, heads, *shape), lambda h, w, row, *_: (row[w], h, 0, 0))

    if width < _LANES:
        k, v = (x.swapaxes(2, 3) for x in (k_BKSH, v_BKSH))  # how they lie: no copy
        cache_spec = pl.BlockSpec(
            (1, heads, width, block), lambda h, w, row, index, _: (row[w], h, 0, index[w])
        )
    else:
        k, v = k_BKSH, v_BKSH
        cache_spec = pl.BlockSpec(
            (1, heads, block, width), lambda h, w, row, index, _: (row[w], h, index[w], 0)
        )
    starts, start_specs = [], []
    if start is not None:
        starts = [start.weighted, start.top[..., None], start.total[..., None]]
        start_specs = [per_row(groups, width), per_row(groups, 1), per_row(groups, 1)]
    out_BKGH = pl.pallas_call(
        functools.partial(
            _kernel,
            slots_last=width < _LANES,
            scale=width**-0.5,
            window=sliding_window,
            span=span,
            resumed=start is not None,
        ),
        grid_spec=pltpu.PrefetchScalarGridSpec(
            num_scalar_prefetch=3,
            grid=(kv_heads // heads, work.steps),
            in_specs=[per_row(groups, width), cache_spec, cache_spec, *start_specs],
            out_specs=per_row(groups, width),
            scratch_shapes=[
                pltpu.VMEM((heads, groups, width), jnp.float32),
                pltpu.VMEM((heads, groups, _LANES), jnp.float32),
                pltpu.VMEM((heads, groups, _LANES), jnp.float32),
            ],
        ),
        out_shape=jax.ShapeDtypeStruct((batch, kv_heads, groups, width), q_BNH.dtype),
        compiler_params=pltpu.CompilerParams(dimension_semantics=("parallel", "arbitrary")),
        cost_estimate=pl.CostEstimate(  # of full rows: the lengths are known at run time only
            flops=4 * batch * num_heads * slots * width,
            bytes_accessed=2 * k_BKSH.size * itemsize + 2 * q_BNH.size * itemsize,
            transcendentals=batch * num_heads * slots,
        ),
        name="decode_attention",
    )(
        work.row,
        work.index,
        visible_B,
        q_BNH.reshape(batch, kv_heads, groups, width),
        k,
        v,
        *starts,
    )
    return out_BKGH.reshape(q_BNH.shape)


class _Work(NamedTuple):
    row: jax.Array  # of each grid step
    index: jax.Array  # of the block of that row
    steps: jax.Array  # how many of them there are


def _span(visible, *, block: int, window: int | None):
    """First and last block of a row; a row that sees nothing still takes one, to write zeros."""
    last = jnp.maximum(visible - 1, 0) // block
    first = 0 if window is None else jnp.maximum(visible - window, 0) // block
    return first, last


def _work_list(visible_B: jax.Array, span, blocks: int) -> _Work:
    """The steps of all rows one after the other; sums of comparisons, as gathers are slow there."""
    first_B, last_B = span(visible_B)
    row_B = jnp.arange(visible_B.shape[0], dtype=jnp.int32)
    count_B = last_B - first_B + 1
    end_B = jnp.sum(jnp.where(row_B <= row_B[:, None], count_B, 0), axis=1, dtype=jnp.int32)
    step_W = jnp.arange(visible_B.shape[0] * blocks, dtype=jnp.int32)
    mine_WB = (step_W[:, None] < end_B) & (step_W[:, None] >= end_B - count_B)
    row_W = jnp.sum(jnp.where(mine_WB, row_B, 0), axis=1, dtype=jnp.int32)
    index_WB = last_B + 1 - end_B + step_W[:, None]
    index_W = jnp.sum(jnp.where(mine_WB, index_WB, 0), axis=1, dtype=jnp.int32)
    return _Work(row_W, index_W, end_B[-1])


def _kernel(
    row_ref,
    index_ref,
    visible_ref,
    q_ref,
    k_ref,
    v_ref,
    *refs,
    slots_last,
    scale,
    window,
    span,
    resumed,
):
    *start_refs, out_ref, weighted_ref, top_ref, total_ref = refs
    step = pl.program_id(1)
    index = index_ref[step]
    visible = visible_ref[row_ref[step]]
    first, last = span(visible)
    cache_letters, slots_axis = ("KHS", 2) if slots_last else ("KSH", 1)
    block = k_ref.shape[1 + slots_axis]

    @pl.when(index == first)
    def _():
        if resumed:
            weighted, top, total = (ref[0] for ref in start_refs)
            weighted_ref[...] = weighted
            top_ref[...] = jnp.broadcast_to(top, top_ref.shape)
            total_ref[...] = jnp.broadcast_to(total, total_ref.shape)
        else:
            weighted_ref[...] = jnp.zeros_like(weighted_ref)
            top_ref[...] = jnp.full_like(top_ref, _MASKED)
            total_ref[...] = jnp.zeros_like(total_ref)

    def seen(shape, axis):
        slot = index * block + jax.lax.broadcasted_iota(jnp.int32, shape, axis)
        mask = slot < visible
        return mask if window is None else mask & (slot >= visible - window)

    k, v = k_ref[0], v_ref[0]
    scores_KGS = scale * jnp.einsum(
        f"KGH,{cache_letters}->KGS", q_ref[0], k, preferred_element_type=jnp.float32
    )
    scores_KGS = jnp.where(seen(scores_KGS.shape, 2), scores_KGS, _MASKED)
    # Not only their weights are 0: what a slot past the length holds may be NaN, and 0 · NaN is.
    v = jnp.where(seen(v.shape, slots_axis), v, jnp.zeros_like(v))

    before = top_ref[...]
    top = jnp.maximum(before, jnp.max(scores_KGS, axis=-1, keepdims=True))
    shrink = jnp.exp(before - top)
    weights_KGS = jnp.exp(scores_KGS - top[..., :1])
    top_ref[...] = top
    total_ref[...] = shrink * total_ref[...] + jnp.sum(weights_KGS, axis=-1, keepdims=True)
    weighted_ref[...] = shrink[..., :1] * weighted_ref[...] + jnp.einsum(
        f"KGS,{cache_letters}->KGH",
        weights_KGS.astype(v.dtype),
        v,
        preferred_element_type=jnp.float32,
    )

    @pl.when(index == last)
    def _():
        out_ref[0] = (weighted_ref[...] / total_ref[..., :1]).astype(out_ref.dtype)
