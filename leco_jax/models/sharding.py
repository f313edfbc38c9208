"""Where every axis of every array lives: one table from logical axes to mesh axes."""

import functools
import logging
import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import jax
import numpy as np
from jax.experimental import mesh_utils
from jax.sharding import AxisType, Mesh, NamedSharding

_log = logging.getLogger(__name__)

MeshAxes = str | tuple[str, ...] | None
Rules = Mapping[str, MeshAxes]

MESH_AXES = ("data", "fsdp", "tensor")

# Logical axis -> mesh axis or axes. A mesh axis that the mesh lacks counts as absent.
RULES: dict[str, MeshAxes] = {
    # weights
    "layers": None,
    "vocab": "tensor",
    "embed": "fsdp",
    "vector": None,
    "heads": "tensor",
    "kv_heads": "tensor",
    "head_width": None,
    "mlp": "tensor",
    # adapters: over both axes, or what belongs to the axis that a matrix lacks is replicated
    "lora_inputs": ("tensor", "fsdp"),
    "lora_outputs": ("tensor", "fsdp"),
    "rank": None,
    # activations
    "batch": ("data", "fsdp"),
    "length": None,
    "act_embed": None,
    "act_heads": "tensor",
    "act_kv_heads": "tensor",
    "act_mlp": "tensor",
    "act_vocab": "tensor",
}


class Fallback(NamedTuple):
    """An axis that stays whole although a rule asks for sharding, because it does not divide."""

    name: str
    axis: str
    size: int
    mesh_axes: tuple[str, ...]
    mesh_size: int


def make_mesh(
    *, data: int = 1, fsdp: int = 1, tensor: int = 1, devices: Sequence[jax.Device] | None = None
) -> Mesh:
    """A mesh of all or given devices with axes ("data", "fsdp", "tensor"), for the compiler.

    One size may be -1: whatever is left. Neighbours along "tensor", then along "fsdp", are near on
    the network of the chips; slices differ along "data" alone.

    Raises:
      ValueError: the sizes do not multiply to the number of devices, or slices do not divide
        "data".
    """
    devices = jax.devices() if devices is None else devices
    sizes = mesh_sizes(data=data, fsdp=fsdp, tensor=tensor, count=len(devices))
    slices = len({getattr(device, "slice_index", 0) for device in devices})
    # A size may take a part of a physical axis: the 8 of a torus of 4 x 4 x 4, say.
    if slices == 1:
        placed = mesh_utils.create_device_mesh(sizes, devices, allow_split_physical_axes=True)
    elif sizes[0] % slices:
        raise ValueError(
            f"mesh data={sizes[0]} is not a multiple of the {slices} slices: only data parallelism "
            "crosses the network between slices"
        )
    else:
        placed = mesh_utils.create_hybrid_device_mesh(
            (sizes[0] // slices, *sizes[1:]),
            (slices, 1, 1),
            devices,
            allow_split_physical_axes=True,
        )
    return Mesh(placed, MESH_AXES, axis_types=(AxisType.Auto,) * 3)


def replica_meshes(tensor: int) -> list[Mesh]:
    """Meshes of `tensor` devices each, as many as this process's devices allow, for one model each.

    They are all near each other: chips of one host.

    Raises:
      ValueError: `tensor` does not divide the number of this process's devices.
    """
    devices = jax.local_devices()
    if tensor < 1 or len(devices) % tensor:
        raise ValueError(
            f"mesh.tensor={tensor}: a replica of the model has so many devices, and this process "
            f"has {len(devices)}: choose a divisor"
        )
    groups = np.array(devices).reshape(-1, 1, 1, tensor)
    return [Mesh(group, MESH_AXES, axis_types=(AxisType.Auto,) * 3) for group in groups]


def mesh_sizes(
    *, data: int = 1, fsdp: int = 1, tensor: int = 1, count: int
) -> tuple[int, int, int]:
    """The sizes of `make_mesh` on `count` devices, a -1 filled in."""
    sizes = [data, fsdp, tensor]
    if sizes.count(-1) == 1:
        known = math.prod(size for size in sizes if size != -1)
        sizes[sizes.index(-1)] = count // max(known, 1)
    if any(size < 1 for size in sizes) or math.prod(sizes) != count:
        raise ValueError(
            f"mesh data={data}, fsdp={fsdp}, tensor={tensor} does not fit {count} devices: the "
            "sizes must multiply to it (one may be -1: whatever is left)"
        )
    return sizes[0], sizes[1], sizes[2]


def resolve(
    name: str,
    shape: Sequence[int],
    axes: Sequence[str],
    mesh_sizes: Mapping[str, int],
    rules: Rules = RULES,
) -> tuple[jax.P, list[Fallback]]:
    """The partition spec of one array (`name` in reports) and the axes that had to stay whole.

    There is one logical axis per dimension. Of the mesh axes in its rule the longest prefix is used
    whose product, by `mesh_sizes`, divides the dimension.

    Raises:
      ValueError: a logical axis that no rule names, or len(axes) != len(shape).
    """
    if len(shape) != len(axes):
        raise ValueError(f"{name}: {len(axes)} logical axes {tuple(axes)} for shape {tuple(shape)}")
    spec: list[MeshAxes] = []
    fallbacks = []
    used: set[str] = set()
    for size, axis in zip(shape, axes, strict=True):
        if axis not in rules:
            raise ValueError(f"{name}: no rule for logical axis {axis!r}; rules: {sorted(rules)}")
        rule = rules[axis]
        wanted = (rule,) if isinstance(rule, str) else tuple(rule or ())
        # An axis of one device shards nothing, and one mesh axis serves one dimension.
        wanted = tuple(a for a in wanted if mesh_sizes.get(a, 1) > 1 and a not in used)
        kept = wanted
        while kept and size % math.prod(mesh_sizes[a] for a in kept):
            kept = kept[:-1]
        if kept != wanted:
            product = math.prod(mesh_sizes[a] for a in wanted)
            fallbacks.append(Fallback(name, axis, size, wanted, product))
        used.update(kept)
        spec.append(kept[0] if len(kept) == 1 else (kept or None))
    return jax.P(*spec), fallbacks


_reported: set[Fallback] = set()


def report(fallbacks: Sequence[Fallback]) -> None:
    """Logs each fallback once per process."""
    for fallback in fallbacks:
        if fallback not in _reported:
            _reported.add(fallback)
            _log.warning(
                "%s: axis %r of size %d is not divisible by mesh axes %s (%d devices); replicated",
                *fallback,
            )


def named_sharding(
    name: str, shape: Sequence[int], axes: Sequence[str], mesh: Mesh, rules: Rules = RULES
) -> NamedSharding:
    """The sharding of one weight on `mesh`; what cannot be sharded is replicated and reported."""
    spec, fallbacks = resolve(name, shape, axes, dict(mesh.shape), rules)
    report(fallbacks)
    return NamedSharding(mesh, spec)


def constrain(x: jax.Array, *axes: str, rules: Rules = RULES) -> jax.Array:
    """Asks the compiler to shard an activation as the rules say; no mesh set: `x` unchanged.

    Only mesh axes that the compiler partitions are named, so that it works inside a `jax.shard_map`
    that is manual over some. A dimension that does not divide stays whole.
    """
    auto = automatic_axes()
    spec, _ = resolve("activation", x.shape, axes, auto, rules)
    return jax.lax.with_sharding_constraint(x, spec) if auto else x


def gather(
    x: jax.Array,
    stored: Sequence[str],
    used: Sequence[str],
    *,
    shape: Sequence[int] | None = None,
    rules: Rules = RULES,
) -> jax.Array:
    """A weight sharded as a product uses it, with a gradient that is sharded as the weight is.

    `constrain` alone asks the same of a gradient as of its value: every device would receive the
    whole sum for a weight of which it stores a part. With a mesh set, forward-mode derivatives
    do not go through.

    Args:
      x: the weight.
      stored: its logical axes.
      used: the logical axes of the result.
      shape: the result's shape; default: that of `x`.
      rules: logical axis -> mesh axis.
    """
    auto = automatic_axes()
    shape = tuple(x.shape if shape is None else shape)
    if not auto:
        return x.reshape(shape)
    stored_spec, _ = resolve("weight", x.shape, stored, auto, rules)
    used_spec, _ = resolve("weight", shape, used, auto, rules)
    return _gather(x, stored_spec, used_spec, shape)


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2, 3))
def _gather(x, stored: jax.P, used: jax.P, shape: tuple[int, ...]):
    del stored
    return jax.lax.with_sharding_constraint(x.reshape(shape), used)


def _gather_forward(x, stored, used, shape):
    return _gather(x, stored, used, shape), x.shape


def _gather_backward(stored, used, shape, stored_shape, gradient):
    del used, shape
    return (jax.lax.with_sharding_constraint(gradient.reshape(stored_shape), stored),)


_gather.defvjp(_gather_forward, _gather_backward)


def automatic_axes() -> dict[str, int]:
    """Sizes of the current mesh's axes that the compiler partitions; empty without a mesh."""
    mesh = jax.sharding.get_abstract_mesh()
    axes = zip(mesh.axis_names, mesh.axis_sizes, mesh.axis_types, strict=True)
    return {name: size for name, size, kind in axes if kind == AxisType.Auto}
