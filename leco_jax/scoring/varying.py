"""Mesh axes over which a value varies inside `shard_map` (its manual-axes type).

With `check_vma=True` JAX types every value with these axes and asks that loop carries and
cotangents match; with `check_vma=False`, and outside `shard_map`, the set is empty and these
functions change nothing.
"""

import jax
from jax import lax


def varying_axes(x) -> frozenset:
    """The manual mesh axes over which `x` is typed as varying."""
    aval = jax.typeof(x)
    manual = getattr(aval, "manual_axis_type", None)  # jax >= 0.10; `.vma` before and beside it
    return manual.varying if manual is not None else getattr(aval, "vma", frozenset())


def vary_like(x, *examples):
    """Types `x` as varying over every axis over which an example varies."""
    wanted = frozenset().union(*map(varying_axes, examples))
    missing = tuple(sorted(wanted - varying_axes(x), key=str))
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
