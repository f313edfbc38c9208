"""Sums over a tile of logits inside a Pallas TPU kernel, 128 running sums per row.

Each lane of a row keeps its own peak and sums, so the loop over a tile never crosses lanes; the
lanes are combined once, after the last tile. Eight rows × CHUNK columns are in registers at a time:
their maximum first, then every exponential relative to it. Powers are of two, so one factor
1/(τ ln 2) serves temperature and base.
"""

import math

import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

from leco_jax.scoring import partials
from leco_jax.scoring.partials import LOWEST, Partials
from leco_jax.scoring.types import Options

LANES = 128
GROUP = 8  # rows of one float32 register
CHUNK = 1024


def names(options: Options) -> tuple[str, ...]:
    """The sums that the options need, in the order of the kernel's scratch and output."""
    wanted = {"peak": True, "mass": True, "dot": options.needs_dot, "total": options.needs_total}
    return tuple(name for name, needed in wanted.items() if needed)


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
    found = partials.collapse(lanes, options, axis=0)
    for i, name in enumerate(names(options)):
        out[i : i + 1, :] = getattr(found, name)[None, :]


def _tree(combine, values):
    while len(values) > 1:
        pairs = [combine(a, b) for a, b in zip(values[::2], values[1::2], strict=False)]
        values = pairs + values[len(values) & ~1 :]
    return values[0]


def unpack(found, options: Options) -> Partials:
    """The kernel's output `[number of sums, N]` as Partials."""
    return Partials(**dict(zip(names(options), found, strict=True)))
