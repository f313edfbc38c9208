"""Decode attention on TPU: one new token a row; reads each key and value up to its length once.

The XLA form reads all S slots of every row, and its scatter of the new tokens copies the whole
cache into another layout and back. Here the grid runs over a list of (row, block) pairs made from
the lengths, so a row costs only the blocks that hold its tokens; the tile with the new token is
written back from the block that was read anyway. Heads narrower than 128 are read with the slots
along the lanes, which is XLA's own layout of such a cache: any other would copy it.

Source: our own; online softmax after Milakov & Gimelshein (2018).
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

from leco_jax.models.attention import soft_capped

_MASKED = -1e30  # finite: the difference of two masked scores is not NaN
_LANES = 128
_SUBLANE_BYTES = 32  # a tile holds 8 float32 or 16 bfloat16 along its second-last axis

# The largest block whose keys of all heads fit into so many bytes; the four buffers (keys and
# values, two each) then take 2 MiB. Chosen from compile-time figures, not from measured times.
_BLOCK_BYTES = 512 * 1024
_BLOCK_SLOTS = (512, 256, 128)


class Softmax(NamedTuple):
    """An unfinished softmax-weighted sum, to which more keys can be added."""

    weighted: jax.Array  # `[B, K, G, H]` float32, the sum of `exp(score − top) · value`
    top: jax.Array  # `[B, K, G]` float32, the largest score so far
    total: jax.Array  # `[B, K, G]` float32, the sum of `exp(score − top)`


def unfit(*, head_width: int, slots: int, dtype) -> str | None:
    """Why the kernel cannot run, or None if it can."""
    if head_width % (_LANES if head_width > _LANES else 16):
        return (
            f"head_width={head_width} is not a multiple of 16 up to {_LANES}, or of {_LANES} beyond"
        )
    if slots > _LANES and slots % _LANES:
        return f"the cache's {slots} slots are more than {_LANES} and not a multiple of it"
    if jnp.dtype(dtype) not in (jnp.dtype(jnp.bfloat16), jnp.dtype(jnp.float32)):
        return f"the model computes in {jnp.dtype(dtype).name}, not bfloat16 or float32"
    return None


class Blocks(NamedTuple):
    """Block sizes: heads and slots read at once, and slots of the tile that is written."""

    heads: int
    slots: int
    tile: int


def blocks_for(*, kv_heads: int, slots: int, head_width: int, itemsize: int) -> Blocks:
    """The blocks of a cache."""
    tile = _LANES if head_width < _LANES else _SUBLANE_BYTES // itemsize
    if slots <= _LANES:
        return Blocks(kv_heads, slots, slots if slots % tile else tile)
    slot_bytes = head_width * itemsize
    whole = [n for n in _BLOCK_SLOTS if slots % n == 0]
    block = next((n for n in whole if kv_heads * n * slot_bytes <= _BLOCK_BYTES), whole[-1])
    most = max(_BLOCK_BYTES // (block * slot_bytes), 1)
    heads = max(n for n in range(1, min(kv_heads, most) + 1) if kv_heads % n == 0)
    return Blocks(heads, block, tile)


def decode_attention(
    q_BNH: jax.Array,
    new_k_BKH: jax.Array,
    new_v_BKH: jax.Array,
    k_BKSH: jax.Array,
    v_BKSH: jax.Array,
    length_B: jax.Array,
    start: Softmax | None = None,
    *,
    sliding_window: int | None = None,
    soft_cap: float | None = None,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Stores one token a row and computes its attention over the row's tokens and itself.

    Args:
      q_BNH: queries, not scaled; all arrays are bfloat16 or all float32.
      new_k_BKH: the tokens' own keys.
      new_v_BKH: their values.
      k_BKSH: keys of the cache; updated in place where they are donated.
      v_BKSH: values.
      length_B: int32, tokens of each row in the cache, which is the slot of the new one; at most S:
        a full row stores nothing and does not see its own token.
      start: the part of the softmax that a shared prefix contributes.
      sliding_window: a token sees itself and `sliding_window - 1` tokens before it.
      soft_cap: of the scores, after they are scaled.

    Returns:
      `[B, N, H]` in the queries' dtype, and the new keys and values.
    """
    batch, num_heads, width = q_BNH.shape
    kv_heads, slots = k_BKSH.shape[1:3]
    groups = num_heads // kv_heads
    itemsize = k_BKSH.dtype.itemsize
    heads, block, tile = blocks_for(
        kv_heads=kv_heads, slots=slots, head_width=width, itemsize=itemsize
    )
    span = functools.partial(_span, slots=slots, block=block, window=sliding_window)
    work = _work_list(length_B, span, slots // block)

    slots_last = width < _LANES
    if slots_last:
        k, v = (x.swapaxes(2, 3) for x in (k_BKSH, v_BKSH))  # XLA's own layout: nothing moves
    else:
        k, v = k_BKSH, v_BKSH

    def per_row(*shape):
        return pl.BlockSpec((1, heads, *shape), lambda h, w, row, *_: (row[w], h, 0, 0))

    def of_cache(size, index_of):
        def index_map(h, w, row, index, length):
            at = index_of(w, row, index, length)
            return (row[w], h, 0, at) if slots_last else (row[w], h, at, 0)

        return pl.BlockSpec(
            (1, heads, *((width, size) if slots_last else (size, width))), index_map
        )

    read = of_cache(block, lambda w, row, index, length: index[w])
    write = of_cache(
        tile, lambda w, row, index, length: jnp.minimum(length[row[w]], slots - 1) // tile
    )
    starts, start_specs = [], []
    if start is not None:
        starts = [start.weighted, start.top[..., None], start.total[..., None]]
        start_specs = [per_row(groups, width), per_row(groups, 1), per_row(groups, 1)]
    out_BKGH, k, v = pl.pallas_call(
        functools.partial(
            _kernel,
            slots_axis=3 if slots_last else 2,
            tile=tile,
            scale=width**-0.5,
            soft_cap=soft_cap,
            window=sliding_window,
            span=span,
        ),
        grid_spec=pltpu.PrefetchScalarGridSpec(
            num_scalar_prefetch=3,
            grid=(kv_heads // heads, work.steps),
            in_specs=[
                per_row(groups, width),
                per_row(1, width),
                per_row(1, width),
                read,
                read,
                *start_specs,
            ],
            out_specs=[per_row(groups, width), write, write],
            scratch_shapes=[
                pltpu.VMEM((heads, groups, width), jnp.float32),
                pltpu.VMEM((heads, groups, _LANES), jnp.float32),
                pltpu.VMEM((heads, groups, _LANES), jnp.float32),
            ],
        ),
        out_shape=[
            jax.ShapeDtypeStruct((batch, kv_heads, groups, width), q_BNH.dtype),
            jax.ShapeDtypeStruct(k.shape, k.dtype),
            jax.ShapeDtypeStruct(v.shape, v.dtype),
        ],
        input_output_aliases={6: 1, 7: 2},
        compiler_params=pltpu.CompilerParams(dimension_semantics=("parallel", "arbitrary")),
        cost_estimate=pl.CostEstimate(  # of full rows: the lengths are known at run time only
            flops=4 * batch * num_heads * slots * width,
            bytes_accessed=2 * k_BKSH.size * itemsize + 2 * q_BNH.size * itemsize,
            transcendentals=batch * num_heads * slots,
        ),
        name="decode_attention",
    )(
        work.row,
        work.block,
        length_B,
        q_BNH.reshape(batch, kv_heads, groups, width),
        new_k_BKH[:, :, None],
        new_v_BKH[:, :, None],
        k,
        v,
        *starts,
    )
    if slots_last:
        k, v = k.swapaxes(2, 3), v.swapaxes(2, 3)
    return out_BKGH.reshape(q_BNH.shape), k, v


class _Work(NamedTuple):
    row: jax.Array  # of each grid step
    block: jax.Array  # of that row
    steps: jax.Array  # how many of them there are


def _span(length, *, slots: int, block: int, window: int | None):
    """First and last block that a row reads; the last one holds the new token's slot."""
    last = jnp.minimum(length, slots - 1) // block
    if window is None:
        return 0, last
    return jnp.minimum(jnp.maximum(length + 1 - window, 0) // block, last), last


def _work_list(length_B: jax.Array, span, blocks: int) -> _Work:
    """The grid steps of all rows in order; sums of comparisons, as gathers are slow on a TPU."""
    first_B, last_B = span(length_B)
    row_B = jnp.arange(length_B.shape[0], dtype=jnp.int32)
    count_B = last_B - first_B + 1
    end_B = jnp.sum(jnp.where(row_B <= row_B[:, None], count_B, 0), axis=1, dtype=jnp.int32)
    step_W = jnp.arange(length_B.shape[0] * blocks, dtype=jnp.int32)
    mine_WB = (step_W[:, None] < end_B) & (step_W[:, None] >= end_B - count_B)
    row_W = jnp.sum(jnp.where(mine_WB, row_B, 0), axis=1, dtype=jnp.int32)
    index_WB = last_B + 1 - end_B + step_W[:, None]
    index_W = jnp.sum(jnp.where(mine_WB, index_WB, 0), axis=1, dtype=jnp.int32)
    return _Work(row_W, index_W, end_B[-1])


def _kernel(
    row_ref,
    index_ref,
    length_ref,
    q_ref,
    new_k_ref,
    new_v_ref,
    k_ref,
    v_ref,
    *refs,
    slots_axis,
    tile,
    scale,
    soft_cap,
    window,
    span,
):
    *start_refs, out_ref, k_out_ref, v_out_ref, weighted_ref, top_ref, total_ref = refs
    step = pl.program_id(1)
    index = index_ref[step]
    length = length_ref[row_ref[step]]
    first, last = span(length)
    block = k_ref.shape[slots_axis]

    @pl.when(index == first)
    def _():
        if start_refs:
            weighted, top, total = (ref[0] for ref in start_refs)
            weighted_ref[...] = weighted
            top_ref[...] = jnp.broadcast_to(top, top_ref.shape)
            total_ref[...] = jnp.broadcast_to(total, total_ref.shape)
        else:
            weighted_ref[...] = jnp.zeros_like(weighted_ref)
            top_ref[...] = jnp.full_like(top_ref, _MASKED)
            total_ref[...] = jnp.zeros_like(total_ref)

    @pl.when(index == last)
    def _():
        offset = length - index * block  # of the new token; `block` or more in a full row
        at = jnp.minimum(offset // tile * tile, block - tile)
        begin = pl.multiple_of(at, tile) if tile < block else 0
        here = [0, slice(None), slice(None), slice(None)]
        here[slots_axis] = pl.ds(begin, tile)
        for new_ref, ref, written_ref in (
            (new_k_ref, k_ref, k_out_ref),
            (new_v_ref, v_ref, v_out_ref),
        ):
            old = ref[tuple(here)]
            slot = begin + jax.lax.broadcasted_iota(jnp.int32, old.shape, slots_axis - 1)
            new = new_ref[0] if slots_axis == 2 else new_ref[0].swapaxes(1, 2)
            new = jnp.where(slot == offset, new, old)
            ref[tuple(here)] = new
            written_ref[0] = new

    def seen(shape, axis):
        slot = index * block + jax.lax.broadcasted_iota(jnp.int32, shape, axis)
        mask = slot <= length
        return mask if window is None else mask & (slot > length - window)

    k, v = k_ref[0], v_ref[0]
    letters = "KSH" if slots_axis == 2 else "KHS"
    scores_KGS = scale * jnp.einsum(
        f"KGH,{letters}->KGS", q_ref[0], k, preferred_element_type=jnp.float32
    )
    scores_KGS = soft_capped(scores_KGS, soft_cap)
    scores_KGS = jnp.where(seen(scores_KGS.shape, 2), scores_KGS, _MASKED)
    # A weight of 0 is not enough: a slot past the length may hold NaN, and 0 · NaN is NaN.
    v = jnp.where(seen(v.shape, slots_axis - 1), v, jnp.zeros_like(v))

    before = top_ref[...]
    top = jnp.maximum(before, jnp.max(scores_KGS, axis=-1, keepdims=True))
    shrink = jnp.exp(before - top)
    weights_KGS = jnp.exp(scores_KGS - top[..., :1])
    top_ref[...] = top
    total_ref[...] = shrink * total_ref[...] + jnp.sum(weights_KGS, axis=-1, keepdims=True)
    weighted_ref[...] = shrink[..., :1] * weighted_ref[...] + jnp.einsum(
        f"KGS,{letters}->KGH", weights_KGS.astype(v.dtype), v, preferred_element_type=jnp.float32
    )

    @pl.when(index == last)
    def _():
        out_ref[0] = (weighted_ref[...] / total_ref[..., :1]).astype(out_ref.dtype)
