"""What the Pallas TPU kernels share: block sizes, vmap, and running sums over a tile of logits.

Block sizes. Logits kernel: `rows` × `columns` of logits per grid step, read ahead twice. 256 × 4096
is the smallest block at which the bundles per element stop falling (compiler schedules;
benchmarks/scoring_tpu.py). Hidden kernel: `rows` × `columns` float32 accumulators, `depth` of the
contraction per grid step. Each product reads rows·depth + columns·depth numbers for
rows·columns·depth multiplications, so the matrix unit is kept busy where
rows·columns/(rows + columns) exceeds FLOPs over bytes of the chip: 224 (v4), 241 (v5e), 187 (v5p),
560 (v6e), 312 (7x).

Running sums. Each of a row's 128 lanes keeps its own peak and sums, so the loop over a tile never
crosses lanes; the lanes are combined once, after the last tile. Eight rows × CHUNK columns are in
registers at a time: their maximum first, then every exponential relative to it. Powers are of two,
so one factor 1/(τ ln 2) serves temperature and base.
"""

import dataclasses
import math

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

from leco_jax.scoring import partials
from leco_jax.scoring.partials import LOWEST, Partials
from leco_jax.scoring.types import Asked, Options

LANES = 128
GROUP = 8  # rows of one float32 register
CHUNK = 1024
MIB = 1 << 20
VMEM = 16 * MIB  # the compiler's own limit, where a kernel names none
SHARE = 0.9  # of the limit; the rest is the compiler's own
ROW_NUMBERS = 8  # at most, that a kernel keeps in all lanes for each row


@dataclasses.dataclass(frozen=True)
class Blocks:
    """A tile, and the VMEM that the kernel may take (None: the compiler's default)."""

    rows: int
    columns: int
    depth: int = 0
    vmem_limit: int | None = None


# Keys are what `pltpu.get_tpu_info()` calls the chip; "other" compiles on every generation.
# `python -m benchmarks.scoring_matrix --blocks` chooses.
LOGITS = {"other": Blocks(256, 4096)}
HIDDEN = {
    "v4": Blocks(1024, 1024, 256),
    "v5e": Blocks(1024, 1024, 512, 64 * MIB),
    "v5p": Blocks(1024, 1024, 512, 48 * MIB),
    "v6e": Blocks(1024, 2048, 512, 64 * MIB),
    "7x": Blocks(1024, 2048, 512, 48 * MIB),
    "other": Blocks(256, 1024, 512),
}
MEGACORE = ("v4", "v5p")  # chips whose two cores share one kernel


def chip() -> str:
    """The TPU that the surrounding mesh or the default backend has: "v5e", ..., or "other"."""
    try:
        return str(pltpu.get_tpu_info().chip_version)
    except Exception:  # no TPU here, or one that this jax does not know
        return "other"


def compiler_params(blocks: Blocks, wanted=None) -> pltpu.CompilerParams:
    """Of a grid of rows × columns × contraction; `wanted` as for `over_wanted_rows`."""
    # Cores share a grid of known size; one that only the device knows matters where there are two.
    shared = wanted is None or chip() in MEGACORE
    return pltpu.CompilerParams(
        dimension_semantics=("parallel" if shared else "arbitrary", "arbitrary", "arbitrary"),
        vmem_limit_bytes=blocks.vmem_limit,
    )


def blocks_for(table: dict[str, Blocks]) -> Blocks:
    """The chip's row of a table."""
    return table.get(chip(), table["other"])


def unsupported(x, asked: Asked, options: Options) -> str | None:
    """Why the kernels do not serve such a call, or None."""
    if options.needs_argmax:
        return 'the kernels keep no arg-max; "xla" does'
    if asked.scale is not None:
        return 'the kernels take one temperature, known when tracing; "xla" takes any'
    if x.dtype not in (jnp.float32, jnp.bfloat16):
        return f"the kernels take float32 and bfloat16; this is {x.dtype}"
    return None


def fit(vocab: int, widths, itemsize: int) -> list[Blocks]:
    """Blocks for products of these widths, of which all tiles are in VMEM together.

    A width without a good divisor is not divided; tiles are made smaller where that takes too much.

    Args:
      vocab: columns of the logits.
      widths: of the products.
      itemsize: bytes of each number.

    Returns:
      Blocks for each width, or none where nothing fits.
    """
    blocks = blocks_for(HIDDEN)
    room = SHARE * (VMEM if blocks.vmem_limit is None else blocks.vmem_limit)
    rows, columns = blocks.rows, min(blocks.columns, pl.cdiv(vocab, LANES) * LANES)
    for least in (blocks.depth // 2, LANES):
        depths = [_depth(width, least, blocks.depth) for width in widths]
        for parts in ((1, 1), (1, 2), (2, 2), (2, 4), (4, 4)):
            r, c = (
                max(1, x // n // LANES) * LANES for x, n in zip((rows, columns), parts, strict=True)
            )
            # Each product's logits and one tile that is being added; operands are read ahead.
            taken = 4 * (len(depths) + 1) * r * c + 2 * itemsize * (r + c) * sum(depths)
            taken += 4 * ROW_NUMBERS * LANES * r
            if taken <= room:
                return [dataclasses.replace(blocks, rows=r, columns=c, depth=d) for d in depths]
    return []


def _depth(width: int, least: int, most: int) -> int:
    """The largest divisor in a range that fills whole lanes, or the width itself."""
    divisors = (d for d in range(LANES, most + 1, LANES) if d >= least and width % d == 0)
    return max(divisors, default=width)


def readable(unembed, layout: str):
    """An unembedding and its layout as a kernel reads them without a copy.

    XLA lays out an array whose last axis does not fill whole lanes the other way round.
    """
    if unembed.shape[1] % LANES and not unembed.shape[0] % LANES:
        return unembed.T, layout[::-1]
    return unembed, layout


def product_specs(rows: int, blocks: Blocks, layout: str, step) -> list:
    """How a product's operands are read; `step` makes the last grid index the contraction's."""
    by_columns = pl.BlockSpec(
        (blocks.columns, blocks.depth) if layout == "VD" else (blocks.depth, blocks.columns),
        lambda i, j, k, _: (j, step(k)) if layout == "VD" else (step(k), j),
    )
    return [pl.BlockSpec((rows, blocks.depth), lambda i, j, k, _: (i, step(k))), by_columns]


def multiply(logits, hidden, unembed, layout: str, first):
    """Adds a product to a tile of logits, or begins it where `first`."""
    product = lax.dot_general(
        hidden[...],
        unembed[...],
        (((1,), (layout.index("D"),)), ((), ())),
        preferred_element_type=jnp.float32,
    )

    @pl.when(first)
    def _():
        logits[...] = product

    @pl.when(~first)
    def _():
        logits[...] += product


def absorb_once(absorb, limit, columns: int, ragged: bool, complete=True):
    """Calls absorb(None or how many columns count) when a tile of logits is complete.

    Args:
      absorb: adds the tile to the sums; masks only what is not whole.
      limit: how many columns from the tile's first on count.
      columns: of the tile.
      ragged: whether any tile has columns that do not count.
      complete: whether the last product was added.
    """
    if ragged:
        pl.when(complete & (limit >= columns))(lambda: absorb(None))
        pl.when(complete & (limit > 0) & (limit < columns))(lambda: absorb(limit))
    else:
        pl.when(complete)(lambda: absorb(None))


def in_lanes(row):
    """`[1, rows]` as `[rows, LANES]`, each number in all lanes of its row."""
    return jnp.broadcast_to(row, (LANES, row.shape[1])).T


def over_wanted_rows(call, wanted, rows, *others):
    """Calls a kernel, under vmap for all rows at once, and only for blocks with a wanted row.

    Args:
      call: (how many leading rows to compute or None for all, rows..., others...) ->
        `[sums, rows]`.
      wanted: `[rows]` bool, or None for all; the others get zeros.
      rows: arrays whose first axis is rows.
      *others: arrays that all rows share.
    """

    def compute(rows, *others):
        *rows, wanted = rows
        if wanted is None or len(wanted) <= blocks_for(HIDDEN).rows:
            return call(None, *rows, *others)
        order = jnp.argsort(~wanted, stable=True)
        found = call(wanted.sum(dtype=jnp.int32), *(x[order] for x in rows), *others)
        return jnp.where(wanted, found[:, jnp.argsort(order)], 0.0)

    return _merge_rows_under_vmap(compute)((*rows, wanted), *others)


def _merge_rows_under_vmap(call):
    """Batched rows are merged, and other batched arguments looped over."""

    @jax.custom_batching.custom_vmap
    def merged(rows, *others):
        return call(rows, *others)

    @merged.def_vmap
    def rule(size, batched, rows, *others):
        if any(jax.tree.leaves(batched[1:])):

            def one(i):
                here = jax.tree.map(lambda x, b: x[i] if b else x, (rows, *others), tuple(batched))
                return merged(*here)

            return lax.map(one, jnp.arange(size)), True
        rows = jax.tree.map(
            lambda x, b: x if b else jnp.broadcast_to(x, (size, *x.shape)), rows, batched[0]
        )
        sums = merged(jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), rows), *others)
        return jnp.moveaxis(sums.reshape(sums.shape[0], size, -1), 1, 0), True

    return merged


def names(options: Options) -> tuple[str, ...]:
    """The sums that the options need, in the order of the kernel's scratch and output."""
    needed = {"peak": True, "mass": True, "dot": options.needs_dot, "total": options.needs_total}
    return tuple(name for name, is_needed in needed.items() if is_needed)


def scratch(rows: int, options: Options) -> list:
    """One float32 register row per sum and row."""
    return [pltpu.VMEM((rows, LANES), jnp.float32) for _ in names(options)]


def reset(sums):
    """Sets the scratch to the sums over nothing."""
    sums[0][...] = jnp.full_like(sums[0], LOWEST)
    for ref in sums[1:]:
        ref[...] = jnp.zeros_like(ref)


def absorb(load, shape, sums, options: Options, *, limit=None, unroll=True, visit=None):
    """Adds a tile of logits to the sums.

    Args:
      load: (row slice, column slice) -> uncapped logits `[GROUP, LANES]`.
      shape: rows and columns of the tile, multiples of GROUP and LANES.
      sums: the scratch.
      options: the statistics asked for.
      limit: how many of the columns count; None for all.
      unroll: of the loop over groups of rows.
      visit: called with (row slice, first column, capped logits) of each register.
    """
    rows, columns = shape
    scale = 1.0 / (options.temperature * math.log(2.0))

    def group(i, _):
        here = pl.ds(pl.multiple_of(i * GROUP, GROUP), GROUP)
        state = dict(zip(names(options), (ref[here, :] for ref in sums), strict=True))
        for start in range(0, columns, CHUNK):
            x, counted = [], []
            for column in range(start, min(start + CHUNK, columns), LANES):
                logits = partials.cap(load(here, pl.ds(column, LANES)), options)
                if visit is not None:
                    visit(here, column, logits)
                if limit is None:
                    x.append(logits)
                    counted.append(logits)
                    continue
                valid = lax.broadcasted_iota(jnp.int32, logits.shape, 1) < limit - column
                x.append(jnp.where(valid, logits, -jnp.inf))
                counted.append(jnp.where(valid, logits, 0.0))
            state = _absorb_chunk(state, x, counted, scale)
        for ref, value in zip(sums, state.values(), strict=True):
            ref[here, :] = value
        return _

    lax.fori_loop(0, rows // GROUP, group, 0, unroll=unroll)


def _absorb_chunk(state, x, counted, scale: float):
    peak = jnp.maximum(state["peak"], _tree(jnp.maximum, x))
    shift = jnp.maximum((state["peak"] - peak) * scale, LOWEST)
    rescale = jnp.exp2(shift)
    power = [(logits - peak) * scale for logits in x]
    share = [jnp.exp2(p) for p in power]
    new = {"peak": peak, "mass": rescale * state["mass"] + _tree(jnp.add, share)}
    if "dot" in state:
        # A weight of zero times −inf would be NaN.
        weighted = [s * jnp.maximum(p, LOWEST) for s, p in zip(share, power, strict=True)]
        new["dot"] = rescale * (state["dot"] + state["mass"] * shift) + _tree(jnp.add, weighted)
    if "total" in state:
        new["total"] = state["total"] + _tree(jnp.add, counted)
    return new


def write(out, sums, options: Options):
    """Combines the lanes and writes `[number of sums, rows]`."""
    lanes = Partials(**{n: ref[...].T for n, ref in zip(names(options), sums, strict=True)})
    if lanes.dot is not None:
        lanes = lanes._replace(dot=lanes.dot * math.log(2.0))
    total = partials.collapse(lanes, options, axis=0)
    for i, name in enumerate(names(options)):
        out[i : i + 1, :] = getattr(total, name)[None, :]


def _tree(combine, values):
    while len(values) > 1:
        pairs = [combine(a, b) for a, b in zip(values[::2], values[1::2], strict=False)]
        values = pairs + values[len(values) & ~1 :]
    return values[0]


def unpack(stacked, options: Options) -> Partials:
    """The kernel's output `[number of sums, N]` as Partials."""
    return Partials(**dict(zip(names(options), stacked, strict=True)))
