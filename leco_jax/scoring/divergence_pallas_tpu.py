"""Terms of a divergence from both models' hidden states, as a Pallas TPU kernel.

The grid runs over tiles of rows, of the vocabulary, and of the student's contraction followed by
the teacher's. When both tiles of logits are complete their terms are added to each row's sums, and
the tiles are overwritten: logits of neither model leave VMEM.
"""

import dataclasses
import functools

import jax.numpy as jnp
from jax import lax
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

from leco_jax.scoring import hidden_pallas_tpu, pallas_tiles, partials
from leco_jax.scoring.divergence_terms import Level, Pair, logprob, terms_of
from leco_jax.scoring.pallas_tiles import GROUP, LANES
from leco_jax.scoring.shards import shape_like, vary_like
from leco_jax.scoring.types import Asked


def unsupported(sides, pair: Pair) -> str | None:
    """Why this kernel does not serve such a call, or None."""
    for side, options in zip(sides, pair.options, strict=True):
        asked = Asked(jnp.zeros((1,)), side.scale)
        reason = hidden_pallas_tpu.unsupported(side.source, asked, options)
        if reason is not None:
            return reason
    student, teacher = (side.source.hidden for side in sides)
    if student.dtype != teacher.dtype:
        return f"the student is {student.dtype} and the teacher {teacher.dtype}; cast one of them"
    if not _blocks([side.source.hidden for side in sides], sides[0].source.unembed):
        return "no blocks of both models fit the memory of a core"
    return None


def _blocks(hidden, unembed) -> list[pallas_tiles.Blocks]:
    vocab = unembed.size // hidden[0].shape[-1]
    return pallas_tiles.fit(vocab, [x.shape[-1] for x in hidden], hidden[0].dtype.itemsize)


def terms_from_hidden(sides, levels, mask, *, valid, pair: Pair):
    """What the terms of each row sum up to, `[..., T]` each.

    Args:
      sides: the models' heads.
      levels: peak and mass of both models' rows.
      mask: `[..., T]` bool, which rows to compute; None for all.
      valid: how many columns count: an int, or an int32 array where only the device knows.
      pair: what is compared.
    """
    heads = [side.source for side in sides]
    shape = heads[0].hidden.shape[:-1]
    unembeds, layouts = zip(
        *(pallas_tiles.readable(x.unembed, y) for x, y in zip(heads, pair.layouts, strict=True)),
        strict=True,
    )
    pair = dataclasses.replace(pair, layouts=layouts)
    call = functools.partial(_terms, pair=pair, static=valid if isinstance(valid, int) else None)
    rows = [x.hidden.reshape(-1, x.hidden.shape[-1]) for x in heads]
    rows += [x.reshape(-1) for level in levels for x in level]
    wanted = None if mask is None else mask.reshape(-1)
    valid = jnp.asarray(valid, jnp.int32).reshape(1)
    terms = pallas_tiles.over_wanted_rows(call, wanted, rows, *unembeds, valid)
    return tuple(x.reshape(shape) for x in terms)


def _terms(wanted, *arrays, pair: Pair, static: int | None):
    arrays = tuple(vary_like(x, *arrays) for x in arrays)
    *hidden, _, _, _, _, student, teacher, valid = arrays
    count, vocab = len(hidden[0]), student.shape[pair.layouts[0].index("V")]
    blocks = _blocks(hidden, student)
    rows, columns = blocks[0].rows, blocks[0].columns
    rows = min(rows, pl.cdiv(count, LANES) * LANES)
    tiles = pl.cdiv(vocab if static is None else static, columns)
    steps = [x.shape[-1] // b.depth for x, b in zip(hidden, blocks, strict=True)]
    number = 2 if pair.direction == "jsd" else 1
    operands = [
        *pallas_tiles.product_specs(
            rows, blocks[0], pair.layouts[0], lambda k: jnp.minimum(k, steps[0] - 1)
        ),
        *pallas_tiles.product_specs(
            rows, blocks[1], pair.layouts[1], lambda k: jnp.maximum(k - steps[0], 0)
        ),
    ]
    read = sum(
        x.dtype.itemsize * x.shape[-1] * (count * tiles + vocab * pl.cdiv(count, rows))
        for x in hidden
    )
    return pl.pallas_call(
        functools.partial(
            _kernel,
            pair=pair,
            used_rows=min(rows, pl.cdiv(count, GROUP) * GROUP),
            columns=columns,
            begin_teacher=steps[0],
            ragged=static is None or static % columns != 0,
        ),
        out_shape=shape_like((number, count), jnp.float32, student),
        grid_spec=pltpu.PrefetchScalarGridSpec(
            num_scalar_prefetch=1,
            grid=(pl.cdiv(count if wanted is None else wanted, rows), tiles, sum(steps)),
            in_specs=[pl.BlockSpec((4, rows), lambda i, j, k, _: (0, i)), *operands],
            out_specs=pl.BlockSpec((number, rows), lambda i, j, k, _: (0, i)),
            scratch_shapes=[
                *(pltpu.VMEM((rows, columns), jnp.float32) for _ in hidden),
                *(pltpu.VMEM((rows, LANES), jnp.float32) for _ in range(4 + number)),
            ],
        ),
        compiler_params=pallas_tiles.compiler_params(blocks[0], wanted),
        cost_estimate=pl.CostEstimate(
            flops=2 * count * vocab * sum(x.shape[-1] for x in hidden),
            transcendentals=2 * count * vocab,
            bytes_accessed=read,
        ),
        name="leco_divergence_from_hidden",
    )(valid, jnp.stack(arrays[2:6]), hidden[0], student, hidden[1], teacher)


def _kernel(
    valid_ref,
    levels_ref,
    student_hidden_ref,
    student_unembed_ref,
    teacher_hidden_ref,
    teacher_unembed_ref,
    out_ref,
    student_ref,
    teacher_ref,
    *kept,
    pair: Pair,
    used_rows: int,
    columns: int,
    begin_teacher: int,
    ragged: bool,
):
    levels, sums = kept[:4], kept[4:]
    tile, step = pl.program_id(1), pl.program_id(2)

    @pl.when((tile == 0) & (step == 0))
    def _():
        for i, ref in enumerate(levels):
            ref[...] = pallas_tiles.in_lanes(levels_ref[i : i + 1, :])
        for ref in sums:
            ref[...] = jnp.zeros_like(ref)

    @pl.when(step < begin_teacher)
    def _():
        pallas_tiles.multiply(
            student_ref, student_hidden_ref, student_unembed_ref, pair.layouts[0], step == 0
        )

    @pl.when(step >= begin_teacher)
    def _():
        first = step == begin_teacher
        pallas_tiles.multiply(
            teacher_ref, teacher_hidden_ref, teacher_unembed_ref, pair.layouts[1], first
        )

    logits = student_ref, teacher_ref
    limit = valid_ref[0] - tile * columns

    def absorb(limit):
        def group(i, _):
            here = pl.ds(pl.multiple_of(i * GROUP, GROUP), GROUP)
            shifts = [ref[here, :] for ref in levels]
            own = shifts[:2], shifts[2:]
            totals = [ref[here, :] for ref in sums]
            for column in range(0, columns, LANES):
                lanes = pl.ds(column, LANES)
                u, t = (
                    logprob(partials.cap(ref[here, lanes], options), Level(*level), options)
                    for ref, level, options in zip(logits, own, pair.options, strict=True)
                )
                terms = terms_of(u, t, pair.direction)
                if limit is not None:
                    valid = lax.broadcasted_iota(jnp.int32, u.shape, 1) < limit - column
                    terms = tuple(jnp.where(valid, x, 0.0) for x in terms)
                totals = [a + b for a, b in zip(totals, terms, strict=True)]
            for ref, total in zip(sums, totals, strict=True):
                ref[here, :] = total
            return _

        lax.fori_loop(0, used_rows // GROUP, group, 0)

    last = step == pl.num_programs(2) - 1
    pallas_tiles.absorb_once(absorb, limit, columns, ragged, last)

    @pl.when(last & (tile == pl.num_programs(1) - 1))
    def _():
        for i, ref in enumerate(sums):
            out_ref[i : i + 1, :] = ref[...].T.sum(0, keepdims=True)
