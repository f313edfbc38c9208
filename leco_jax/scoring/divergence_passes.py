"""How two models' distributions differ: the differentiable function behind `scoring.kl`.

Both logsumexps come first, from the passes that token statistics take; a second pass adds the terms
p·log(p/q), a tile of both models' logits at a time.
"""

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
from jax import lax

from leco_jax.scoring import (
    dispatch,
    divergence_pallas_tpu,
    gradients,
    hidden_xla,
    logits_xla,
    partials,
    shards,
    topk,
)
from leco_jax.scoring.divergence_terms import (
    DIRECTIONS,
    Level,
    Pair,
    Side,
    derivative,
    logprob,
    terms_of,
)
from leco_jax.scoring.hidden_xla import Head
from leco_jax.scoring.types import Asked, Options

TILE = 2048  # columns of a tile of both models' logits


@functools.partial(jax.jit, static_argnames="pair")
def divergence(sides, mask, pair: Pair):
    """The divergence `[..., T]` of two sides over the rows of the mask, or over all."""
    return _compare(sides, mask, pair)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _compare(sides, mask, pair: Pair):
    return _forward(sides, mask, pair)[0]


def _forward(sides, mask, pair: Pair):
    shard = _shard(sides, pair)
    sums = [
        _sums(side, mask, shard, options, layout)
        for side, options, layout in zip(sides, pair.options, pair.layouts, strict=True)
    ]
    axis = pair.options[0].axis_name
    if axis is not None:
        peaks = lax.pmax(jnp.stack([x.peak for x in sums]), axis)
        both = zip(sums, peaks, pair.options, strict=True)
        sums = [partials.rebase(*x) for x in both]
        masses = lax.psum(jnp.stack([x.mass for x in sums]), axis)
        sums = [x._replace(mass=mass) for x, mass in zip(sums, masses, strict=True)]
    alive = (sums[0].mass != 0) & (sums[1].mass != 0)
    seen = alive if mask is None else alive & mask
    levels = tuple(
        Level(x.peak, jnp.where(seen, jnp.log(jnp.where(alive, x.mass, 1.0)), jnp.inf))
        for x in sums
    )
    if _whole(sides):
        terms = _over_logits(sides, levels, shard, pair)
    else:
        rest = {"valid": shard.valid, "pair": pair}
        terms = dispatch.run(
            "the divergence",
            functools.partial(divergence_pallas_tpu.terms_from_hidden, **rest),
            functools.partial(_over_hidden, **rest),
            (sides, levels, mask),
            pair.options[0],
            divergence_pallas_tpu.unsupported(sides, pair),
        )
    if axis is not None:
        terms = tuple(lax.psum(jnp.stack(terms), axis))
    value = jnp.where(alive, sum(terms), jnp.nan)
    return value if mask is None else jnp.where(mask, value, 0.0), (levels, terms)


def _forward_and_keep(sides, mask, pair: Pair):
    sides = dispatch.once_differentiable(sides)
    value, (levels, terms) = _forward(sides, mask, pair)
    return value, (sides, mask, levels, terms)


def _backward(pair: Pair, saved, cotangent):
    sides, mask, levels, terms = saved
    shard = _shard(sides, pair)
    held = jax.tree.leaves(sides[0].source)[-1]  # a share of the vocabulary
    cotangent = shards.whole_cotangents(cotangent, held, pair.options[0])
    weights = (levels, terms, jnp.where(levels[0].log_mass != jnp.inf, cotangent, 0.0))
    found = []
    for i in range(1 + pair.teacher_gradient):
        if _whole(sides):
            source = _of_logits(sides, i, mask, weights, shard, pair)
        else:
            compute = functools.partial(_of_hidden, sides, i, mask, weights, shard, pair)
            unembeds = [side.source.unembed for side in sides]
            source = dispatch.in_readable_layouts(compute, unembeds, pair.layouts, i)
        found.append(Side(jax.tree.map(shards.sum_to_type, source, sides[i].source), None))
    return (found[0], found[1] if pair.teacher_gradient else None), None


_compare.defvjp(_forward_and_keep, _backward)


def _whole(sides) -> bool:
    return not isinstance(sides[0].source, Head)


def _shard(sides, pair: Pair):
    source = sides[0].source
    size = source.shape[-1] if _whole(sides) else source.unembed.shape[pair.layouts[0].index("V")]
    return shards.shard_of(size, pair.options[0])


def _logprob(x, scale, level: Level, options: Options):
    level = Level(*(number[..., None] for number in level))
    return logprob(partials.scaled(x, scale), level, options)


def _sums(side: Side, mask, shard, options: Options, layout: str):
    """Peak and mass over this device's share of the vocabulary."""
    head = isinstance(side.source, Head)
    rows = (side.source.hidden if head else side.source).shape[:-1]
    asked = Asked(jnp.full((*rows, 1), -1), side.scale, mask)
    if head:
        columns = asked.tokens
        return dispatch.sums_from_hidden(side.source, columns, asked, shard.valid, options, layout)[
            0
        ]
    return dispatch.sums_from_logits(side.source, asked, shard.valid, options)


def _over_logits(sides, levels, shard, pair: Pair):
    """Sums of the terms over logits in memory: by tiles on CPU, else one fused reduction."""
    return lax.platform_dependent(
        sides,
        levels,
        cpu=functools.partial(_by_tiles, shard=shard, pair=pair),
        default=functools.partial(_by_reduction, shard=shard, pair=pair),
    )


def _by_reduction(sides, levels, shard, pair: Pair):
    size = shard.valid if isinstance(shard.valid, int) else sides[0].source.shape[-1]
    u, t = (
        _logprob(partials.cap(side.source[..., :size], options), side.scale, level, options)
        for side, level, options in zip(sides, levels, pair.options, strict=True)
    )
    terms = terms_of(u, t, pair.direction)
    if not isinstance(shard.valid, int):
        terms = tuple(jnp.where(jnp.arange(size) < shard.valid, x, 0.0) for x in terms)
    return tuple(x.sum(-1) for x in terms)


def _by_tiles(sides, levels, shard, pair: Pair):
    if sides[0].source.ndim == 1:
        sides, levels = jax.tree.map(lambda x: x[None], (sides, levels))
        return jax.tree.map(lambda x: x[0], _by_tiles(sides, levels, shard, pair))
    shape = sides[0].source.shape
    count = shard.valid if isinstance(shard.valid, int) else shape[-1]
    loads = [
        logits_xla.loader(side.source, side.scale, options)
        for side, options in zip(sides, pair.options, strict=True)
    ]

    def block(row, size):
        here = jax.tree.map(lambda x: lax.dynamic_slice_in_dim(x, row, size, -1), levels)

        def tile(start, width):
            each = zip(loads, here, pair.options, strict=True)
            u, t = (
                _logprob(load(row, start, size, width), None, level, options)
                for load, level, options in each
            )
            terms = terms_of(u, t, pair.direction)
            if not isinstance(shard.valid, int):
                keep = start + jnp.arange(width) < shard.valid
                terms = tuple(jnp.where(keep, x, 0.0) for x in terms)
            return terms

        def add(sums, start):  # a CPU vectorises over the last axis, not in a sum over it
            lanes = (x.reshape(*x.shape[:-1], -1, logits_xla.LANES) for x in tile(start, TILE))
            return tuple(a + x.sum(-2) for a, x in zip(sums, lanes, strict=True)), None

        zeros = jnp.zeros((*shape[:-2], size, logits_xla.LANES))
        zeros = shards.vary_like(zeros, *jax.tree.leaves((sides, levels)))
        sums = (zeros,) * (2 if pair.direction == "jsd" else 1)
        whole = count // TILE * TILE
        if whole:
            sums, _ = lax.scan(add, sums, jnp.arange(0, whole, TILE))
        total = tuple(x.sum(-1) for x in sums)
        if whole == count:
            return total
        rest = tile(whole, count - whole)
        return tuple(a + x.sum(-1) for a, x in zip(total, rest, strict=True))

    lead = math.prod(shape[:-2])
    return topk.over_blocks(block, shape[-2], max(1, logits_xla.ROWS // max(1, lead)))


def _of_logits(sides, i: int, mask, weights, shard, pair: Pair):
    """The cotangent of the logits of side i."""
    levels, terms, cotangent = weights
    x = [partials.cap(s.source, o) for s, o in zip(sides, pair.options, strict=True)]
    gradient = _gradient(x, [s.scale for s in sides], i, levels, terms, cotangent, pair)
    if shard.mask_count is not None:
        gradient = jnp.where(jnp.arange(gradient.shape[-1]) < shard.mask_count, gradient, 0.0)
    return gradient.astype(sides[i].source.dtype)


def _gradient(x, scales, i: int, levels, terms, cotangent, pair: Pair):
    """The cotangent of uncapped logits of side i, from both sides' capped ones."""
    logprobs = [_logprob(*each) for each in zip(x, scales, levels, pair.options, strict=True)]
    direction = DIRECTIONS[pair.direction] if i else pair.direction
    share = terms[i if len(terms) > 1 else 0]
    gradient = cotangent[..., None] * derivative(logprobs[i], logprobs[1 - i], share, direction)
    gradient = gradients.through_cap(gradient, x[i], scales[i], pair.options[i])
    return jnp.where(levels[0].log_mass[..., None] != jnp.inf, gradient, 0.0)


def _tiles(sides, mask, valid, pair: Pair):
    head = sides[0].source
    tiles, count, dynamic = hidden_xla.tiles_of(
        head, mask, valid, pair.layouts[0], sides[1].source.hidden, sides[1].source.unembed
    )
    return tiles, count, valid if dynamic else None


def _blocks(sides, start, size, pair: Pair):
    return [
        hidden_xla.block_of(side.source, start, size, layout)
        for side, layout in zip(sides, pair.layouts, strict=True)
    ]


def _logits(hidden, blocks, pair: Pair):
    parts = zip(hidden, blocks, pair.layouts, pair.options, strict=True)
    return [
        partials.cap(hidden_xla.product(h, block, layout), options)
        for h, block, layout, options in parts
    ]


def _over_hidden(sides, levels, mask, valid, pair: Pair):
    """Sums of the terms over tiles of both models' logits."""
    tiles, count, valid = _tiles(sides, mask, valid, pair)
    hidden = [side.source.hidden for side in sides]
    rows = tiles.split((hidden, [side.scale for side in sides], levels))

    def add(carry, start, size):
        blocks = _blocks(sides, start, size, pair)

        def tile(carry, i):
            hidden, scales, levels = tiles.at(rows, i)
            x = _logits(hidden, blocks, pair)
            u, t = (_logprob(*each) for each in zip(x, scales, levels, pair.options, strict=True))
            terms = terms_of(u, t, pair.direction)
            if valid is not None:
                keep = start + jnp.arange(size) < valid
                terms = tuple(jnp.where(keep, x, 0.0) for x in terms)
            old = tiles.at(carry, i)
            new = tuple(a + x.sum(-1) for a, x in zip(old, terms, strict=True))
            return tiles.put(carry, i, new)

        return tiles.over_rows(tile, carry)

    carry = (jnp.zeros(tiles.rows),) * (2 if pair.direction == "jsd" else 1)
    carry = jax.tree.map(
        lambda x: shards.vary_like(x, *jax.tree.leaves((sides, levels, mask))), carry
    )
    return tiles.join(tiles.over_columns(add, carry, count))


def _of_hidden(sides, i: int, mask, weights, shard, pair: Pair, unembeds, layouts) -> Head:
    """The cotangents of what the logits of side i are made of."""
    sides = [
        side._replace(source=side.source._replace(unembed=x))
        for side, x in zip(sides, unembeds, strict=True)
    ]
    pair = dataclasses.replace(pair, layouts=tuple(layouts))
    tiles, count, valid = _tiles(sides, mask, shard.valid, pair)
    hidden = [hidden_xla.masked(side.source.hidden, mask) for side in sides]
    rows = tiles.split((hidden, [side.scale for side in sides], weights))

    def gradient(block, _, start, size):
        blocks = _blocks(sides, start, size, pair)
        hidden, scales, (levels, terms, cotangent) = tiles.at(rows, block)
        x = _logits(hidden, blocks, pair)
        found = _gradient(x, scales, i, levels, terms, cotangent, pair)
        if valid is not None:
            found = jnp.where(start + jnp.arange(size) < valid, found, 0.0)
        return found

    leaves = jax.tree.leaves((sides, weights))
    return hidden_xla.accumulate(
        tiles, sides[i].source, rows[0][i], gradient, count, pair.layouts[i], *leaves
    )
