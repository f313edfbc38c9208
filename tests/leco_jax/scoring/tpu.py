"""Compiles for TPU topologies on a host without one, and reads the result."""

import re

import jax
import numpy as np
from jax.experimental import topologies
from jax.sharding import AxisType

TOPOLOGIES = {"v4": "v4:2x2x1", "v5e": "v5e:2x2", "v5p": "v5p:2x2x1", "v6e": "v6e:2x2"}


def mesh(chip: str, *sizes: int, axes=("data", "vocab")) -> jax.sharding.Mesh:
    """The first chips of a small slice as a mesh."""
    topology = topologies.get_topology_desc(platform="tpu", topology_name=TOPOLOGIES[chip])
    devices = np.array(topology.devices[: int(np.prod(sizes))]).reshape(sizes)
    return jax.sharding.Mesh(devices, axes[: len(sizes)], axis_types=(AxisType.Auto,) * len(sizes))


def compile_for(on: jax.sharding.Mesh, function, *arrays, specs=None):
    """Compiles a function of `(shape, dtype)` pairs, by default for whole arrays on one chip."""
    specs = specs or [jax.P()] * len(arrays)
    structs = [
        jax.ShapeDtypeStruct(shape, dtype, sharding=jax.NamedSharding(on, spec))
        for (shape, dtype), spec in zip(arrays, specs, strict=True)
    ]
    with jax.set_mesh(on):
        return jax.jit(function).lower(*structs).compile()


def temporary_bytes(compiled) -> int:
    return compiled.memory_analysis().temp_size_in_bytes


def collectives(compiled) -> dict[str, int]:
    """How many of each kind of collective the program runs."""
    kinds = "all-reduce|all-gather|reduce-scatter|all-to-all|collective-permute"
    found = re.findall(rf"= [^=]*? ({kinds})(?:-start)?\(", compiled.as_text())
    return {kind: found.count(kind) for kind in set(found)}


def runs_a_kernel(compiled) -> bool:
    return "tpu_custom_call" in compiled.as_text()
