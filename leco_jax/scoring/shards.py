"""Scoring where each device of a named axis holds an equal share of the vocabulary.

Two all-reduces whatever the statistics: the largest logit, then all sums stacked in one array. The
top k of each shard travel in that same array: each shard fills its own places, zeros elsewhere.
"""

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import AxisType

from leco_jax.scoring import partials
from leco_jax.scoring.partials import Partials
from leco_jax.scoring.types import Options


@dataclasses.dataclass(frozen=True)
class Shard:
    """Which part of the vocabulary an array holds.

    `vocab` counts the valid ids of the whole vocabulary, `start` is the first id held here, `valid`
    counts the valid ids held here (an int unless only the device knows).
    """

    vocab: int
    size: int
    start: Any
    valid: Any

    @property
    def mask_count(self):
        """`valid` where some of the columns are not valid, else None."""
        return None if isinstance(self.valid, int) and self.valid == self.size else self.valid

    def columns(self, tokens):
        """The column of each token, −1 where it lies elsewhere or nowhere."""
        columns = tokens - self.start
        return jnp.where((columns >= 0) & (columns < self.valid), columns, -1)


def shard_of(size: int, options: Options) -> Shard:
    """The part of the vocabulary that an array with `size` columns holds on this device."""
    parts = 1 if options.axis_name is None else lax.axis_size(options.axis_name)
    total = size * parts
    vocab = total if options.valid_vocab is None else options.valid_vocab
    if not 0 < vocab <= total:
        raise ValueError(
            f"valid_vocab={vocab} does not fit {total} columns ({parts} shard(s) of {size}); "
            "pass the number of real tokens, at most the number of columns"
        )
    if options.axis_name is None:
        return Shard(vocab, size, 0, vocab)
    start = lax.axis_index(options.axis_name) * size
    valid = size if vocab == total else jnp.clip(vocab - start, 0, size)
    return Shard(vocab, size, start, valid)


def check_sharded(x, name: str, axis_name):
    """Refuses an array of which every device of the axis holds the same.

    Only `check_vma=True` tells: without it, and in `pmap`, no type says what a value varies over.
    """
    missing = varying_axes(lax.axis_index(axis_name)) - varying_axes(x)
    if missing:
        raise ValueError(
            f"axis_name={axis_name!r} says that the vocabulary is sharded, but {name} is not "
            f"sharded over {sorted(missing, key=str)}: split it by in_specs or drop axis_name"
        )


def combine(sums: Partials, target, shard: Shard, options: Options) -> tuple[Partials, Any]:
    """The sums over all shards, and each token's logit from the shard that owns it (others: 0)."""
    axis = options.axis_name
    if axis is None:
        return sums, target
    peak, argmax = lax.pmax(sums.peak, axis), None
    if options.needs_argmax:  # a third all-reduce
        mine = (sums.peak == peak) & (sums.argmax < partials.NO_COLUMN)
        argmax = lax.pmin(jnp.where(mine, sums.argmax + shard.start, partials.NO_COLUMN), axis)
    sums = partials.rebase(sums, peak, options)
    parts = [*jnp.moveaxis(target, -1, 0), *(x for x in sums[1:4] if x is not None)]
    if options.needs_top:
        mine = jnp.arange(lax.axis_size(axis)) == lax.axis_index(axis)
        places = jnp.where(mine[:, None], sums.top[..., None, :], 0.0)
        parts += list(jnp.moveaxis(places.reshape(*sums.peak.shape, -1), -1, 0))
    parts = lax.psum(jnp.stack(parts), axis)
    tokens = target.shape[-1]
    target, (mass, *rest) = jnp.moveaxis(parts[:tokens], 0, -1), parts[tokens:]
    dot = rest.pop(0) if options.needs_dot else None
    total = rest.pop(0) if options.needs_total else None
    top = lax.top_k(jnp.stack(rest, -1), options.topk)[0] if options.needs_top else None
    return Partials(sums.peak, mass, dot, total, argmax, top), target


def whole_cotangents(cotangents, shard, options: Options):
    """The cotangents of what was combined, as the transpose of the sums over shards.

    With typed axes (`check_vma=True`) a statistic is the same on all shards and its cotangent
    arrives whole. Untyped, and in `pmap`, every device holds a share, and they add up.
    """
    axis = options.axis_name
    if axis is None or varying_axes(shard):
        return cotangents
    return lax.psum(cotangents, axis)


def varying_axes(x) -> frozenset:
    """The manual mesh axes over which `x` is typed as varying."""
    aval = jax.typeof(x)
    manual = getattr(aval, "manual_axis_type", None)  # jax >= 0.10; `.vma` before and beside it
    return manual.varying if manual is not None else getattr(aval, "vma", frozenset())


def vary_like(x, *examples):
    """Types `x` as varying over every axis over which an example varies."""
    axes = frozenset().union(*map(varying_axes, examples))
    missing = tuple(sorted(axes - varying_axes(x), key=str))
    return lax.pcast(x, missing, to="varying") if missing else x


def sum_to_type(cotangent, primal):
    """Sums a cotangent over the axes over which its primal does not vary."""
    extra = tuple(sorted(varying_axes(cotangent) - varying_axes(primal), key=str))
    return lax.psum(cotangent, extra) if extra else vary_like(cotangent, primal)


def shape_like(shape, dtype, example) -> jax.ShapeDtypeStruct:
    """The type of a kernel's output that varies over the axes over which `example` does."""
    manual = getattr(jax.typeof(example), "manual_axis_type", None)
    if manual is not None:
        return jax.ShapeDtypeStruct(shape, dtype, manual_axis_type=manual)
    return jax.ShapeDtypeStruct(shape, dtype)


def mesh_of(*arrays):
    """The mesh of the context, else of the arrays' types; empty where nothing is sharded."""
    mesh = jax.sharding.get_abstract_mesh()
    for x in arrays:
        mesh = mesh if not mesh.empty else jax.typeof(x).sharding.mesh
    return mesh


def partitioned(*arrays) -> list[str]:
    """The mesh axes over which the compiler may partition the arrays."""
    mesh = mesh_of(*arrays)
    sized = zip(mesh.axis_names, mesh.axis_sizes, mesh.axis_types, strict=True)
    return [name for name, size, kind in sized if size > 1 and kind != AxisType.Manual]


def devices_of(*arrays) -> int:
    """Over how many devices the compiler may partition the arrays."""
    mesh = mesh_of(*arrays)
    return math.prod(mesh.shape[name] for name in partitioned(*arrays))


def in_auto_axes(function, rows, *arrays):
    """Calls a function of arrays on a mesh with Explicit axes as if these were Auto.

    Args:
      function: of the arrays; its results begin with the axes of `rows`.
      rows: says how the results are sharded: the first array with a sharded axis.
      *arrays: trees of arrays, any of which may be sharded.

    Returns:
      What the function returns.
    """
    mesh = mesh_of(*jax.tree.leaves(arrays))
    kinds = zip(mesh.axis_names, mesh.axis_types, strict=True)
    explicit = tuple(name for name, kind in kinds if kind == AxisType.Explicit)
    if not explicit:
        return function(*arrays)
    spec = next((spec for spec in rows if any(spec)), ())
    sharding = jax.NamedSharding(mesh, jax.P(*spec))
    return jax.sharding.auto_axes(function, axes=explicit, out_sharding=sharding)(*arrays)


def gather_width(unembed, axis: int, hidden):
    """The unembedding with its width whole where rows are sharded over the same mesh axes.

    Both over "fsdp", say: the compiler would gather it again for every block of rows. Only Explicit
    axes tell; the gradient is scattered again.
    """
    spec = list(spec_of(unembed, unembed.ndim))
    if _axes_of(spec[axis : axis + 1]).isdisjoint(_axes_of(spec_of(hidden, hidden.ndim - 1))):
        return unembed
    spec[axis] = None
    return jax.sharding.reshard(unembed, jax.NamedSharding(mesh_of(unembed), jax.P(*spec)))


def _axes_of(spec) -> set:
    entries = (x if isinstance(x, tuple) else (x,) for x in spec)
    return {name for entry in entries for name in entry} - {None}


def spec_of(x, axes: int) -> tuple:
    """How the first axes of an array are sharded, as far as its type says."""
    return tuple(jax.typeof(x).sharding.spec)[:axes]
