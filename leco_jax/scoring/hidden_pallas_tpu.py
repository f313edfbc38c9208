"""Sums over the vocabulary from hidden states, as a Pallas TPU kernel: logits live in VMEM alone.

The grid runs over tiles of rows, of the vocabulary and of the contraction. A tile's products are
accumulated in float32; when the contraction is complete the tile is added to the running sums, the
logit of each row's token is picked by comparing column numbers, and the tile is overwritten.
"""

import functools

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

from leco_jax.scoring import pallas_tiles
from leco_jax.scoring.hidden_xla import Head
from leco_jax.scoring.pallas_tiles import GROUP, LANES
from leco_jax.scoring.shards import shape_like, vary_like
from leco_jax.scoring.types import Asked, Options

UNROLL = 4  # groups of eight rows in one basic block


def unsupported(head: Head, asked: Asked, options: Options) -> str | None:
    """Why this kernel does not serve such a call, or None."""
    hidden, unembed, bias = head
    if bias is not None:
        return 'the kernel adds no bias; "xla" does'
    if asked.tokens.shape[-1] > 1:
        return 'the kernel scores one id per token; "xla" scores several'
    if options.needs_top:
        return 'the kernel keeps no top k; "xla" does'
    if hidden.dtype != unembed.dtype:
        return f"hidden is {hidden.dtype} and unembed {unembed.dtype}; cast one of them"
    if not _blocks(hidden, unembed):
        return f"no block of the width {hidden.shape[-1]} fits the memory of a core"
    return pallas_tiles.unsupported(hidden, asked, options)


def _blocks(hidden, unembed) -> list[pallas_tiles.Blocks]:
    width = hidden.shape[-1]
    return pallas_tiles.fit(unembed.size // width, [width], hidden.dtype.itemsize)


def sums_from_hidden(head: Head, columns, asked: Asked, valid, options: Options, layout: str):
    """Sums and target logits; arguments and results as in `hidden_xla`, without a top k."""
    hidden, (unembed, layout) = head.hidden, pallas_tiles.readable(head.unembed, layout)
    *rows, width = hidden.shape
    flat = hidden.reshape(-1, width)
    static = valid if isinstance(valid, int) else None
    call = functools.partial(_sums, static=static, options=options, layout=layout)
    valid = jnp.asarray(valid, jnp.int32).reshape(1)
    wanted = None if asked.mask is None else asked.mask.reshape(-1)
    arrays = [flat, columns.reshape(-1)]
    sums_and_target = pallas_tiles.over_wanted_rows(call, wanted, arrays, unembed, valid)
    sums = pallas_tiles.unpack(sums_and_target[:-1], options)
    sums, target = jax.tree.map(lambda x: x.reshape(rows), (sums, sums_and_target[-1]))
    return sums, target[..., None], None


def _sums(
    wanted, hidden, token_columns, unembed, valid, *, static: int | None, options: Options, layout
):
    arrays = (valid, token_columns, hidden, unembed)
    valid, token_columns, hidden, unembed = (vary_like(x, *arrays) for x in arrays)
    count, width = hidden.shape
    vocab = unembed.shape[layout.index("V")]
    (blocks,) = _blocks(hidden, unembed)
    rows, columns = min(blocks.rows, pl.cdiv(count, LANES) * LANES), blocks.columns
    tiles = pl.cdiv(vocab if static is None else static, columns)
    number = len(pallas_tiles.names(options)) + 1
    return pl.pallas_call(
        functools.partial(
            _kernel,
            options=options,
            used_rows=min(rows, pl.cdiv(count, GROUP) * GROUP),
            columns=columns,
            layout=layout,
            ragged=static is None or static % columns != 0,
        ),
        out_shape=shape_like((number, count), jnp.float32, hidden),
        grid_spec=pltpu.PrefetchScalarGridSpec(
            num_scalar_prefetch=1,
            grid=(pl.cdiv(count if wanted is None else wanted, rows), tiles, width // blocks.depth),
            in_specs=[
                pl.BlockSpec((1, rows), lambda i, j, k, _: (0, i)),
                *pallas_tiles.product_specs(rows, blocks, layout, lambda k: k),
            ],
            out_specs=pl.BlockSpec((number, rows), lambda i, j, k, _: (0, i)),
            scratch_shapes=[
                pltpu.VMEM((rows, columns), jnp.float32),
                pltpu.VMEM((rows, LANES), jnp.int32),
                pltpu.VMEM((rows, LANES), jnp.float32),
                *pallas_tiles.scratch(rows, options),
            ],
        ),
        compiler_params=pallas_tiles.compiler_params(blocks, wanted),
        cost_estimate=pl.CostEstimate(
            flops=2 * count * width * vocab,
            transcendentals=count * vocab,
            bytes_accessed=hidden.dtype.itemsize
            * width
            * (count * tiles + vocab * pl.cdiv(count, rows)),
        ),
        name="leco_sums_from_hidden",
    )(valid, token_columns.reshape(1, -1), hidden, unembed)


def _kernel(
    valid_ref,
    token_ref,
    hidden_ref,
    unembed_ref,
    out_ref,
    logits_ref,
    token_lanes_ref,
    target_ref,
    *sums,
    options: Options,
    used_rows: int,
    columns: int,
    layout: str,
    ragged: bool,
):
    tile, step = pl.program_id(1), pl.program_id(2)

    @pl.when((tile == 0) & (step == 0))
    def _():
        pallas_tiles.reset(sums)
        target_ref[...] = jnp.zeros_like(target_ref)
        token_lanes_ref[...] = pallas_tiles.in_lanes(token_ref[...])  # to compare with columns

    pallas_tiles.multiply(logits_ref, hidden_ref, unembed_ref, layout, step == 0)
    limit = valid_ref[0] - tile * columns

    def absorb(limit):
        def load(rows, lanes):
            return logits_ref[rows, lanes]

        def pick(rows, column, x):
            """Adds the tokens' logits to the target; −inf elsewhere must not enter the sum."""
            ids = lax.broadcasted_iota(jnp.int32, x.shape, 1) + (tile * columns + column)
            target_ref[rows, :] += jnp.where(ids == token_lanes_ref[rows, :], x, 0.0)

        unroll = UNROLL if limit is None else 1  # one tile of many is ragged
        pallas_tiles.absorb(
            load, (used_rows, columns), sums, options, limit=limit, unroll=unroll, visit=pick
        )

    last = step == pl.num_programs(2) - 1
    pallas_tiles.absorb_once(absorb, limit, columns, ragged, last)

    @pl.when(last & (tile == pl.num_programs(1) - 1))
    def _():
        pallas_tiles.write(out_ref, sums, options)
        out_ref[len(sums) : len(sums) + 1, :] = target_ref[...].T.sum(0, keepdims=True)
