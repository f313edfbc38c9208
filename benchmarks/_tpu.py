"""Compiling for TPU topologies on a host without one, for the benchmarks that read the result."""

import collections
import math
import os
import re

import jax
import numpy as np
from jax.experimental import topologies
from jax.sharding import AxisType

# libtpu describes a topology without a TPU.
ENVIRONMENT = {
    "TPU_SKIP_MDS_QUERY": "1",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "TPU_ACCELERATOR_TYPE": "v5litepod-4",
}
TOPOLOGIES = {
    "v4": "v4:2x2x1",
    "v5e": "v5e:2x2",
    "v5p": "v5p:2x2x1",
    "v6e": "v6e:2x2",
    "7x": "tpu7x:2x2x1",
}


def prepare(**variables: str) -> None:
    """Sets the environment; before the first device or topology is asked for."""
    os.environ.update(ENVIRONMENT, JAX_PLATFORMS="cpu", **variables)


def mesh(name: str, *sizes: int, axes=("data", "vocab"), kind=AxisType.Auto):
    """The first chips of a topology, or of a chip's smallest one, as a mesh."""
    name = TOPOLOGIES.get(name, name)
    topology = topologies.get_topology_desc(platform="tpu", topology_name=name, num_slices=1)
    devices = np.array(topology.devices[: int(np.prod(sizes))]).reshape(sizes)
    return jax.sharding.Mesh(devices, axes[: len(sizes)], axis_types=(kind,) * len(sizes))


def compile_for(on, function, *arrays, specs=None):
    """Compiles a function of `(shape, dtype)` pairs, by default for whole arrays on one chip."""
    specs = specs or [jax.P()] * len(arrays)
    structs = [
        jax.ShapeDtypeStruct(shape, dtype, sharding=jax.NamedSharding(on, spec))
        for (shape, dtype), spec in zip(arrays, specs, strict=True)
    ]
    with jax.set_mesh(on):
        return jax.jit(function).lower(*structs).compile()


def work(compiled) -> tuple[float, dict[tuple[str, bool], int]]:
    """What one device does: floating-point operations of its products, and its collectives.

    XLA's own cost analysis counts the body of a loop once; here loops count as often as they turn.

    Returns:
      The operations, and how many collectives of a kind there are, inside a loop or outside.
    """
    programs: dict[str, list[str]] = {}
    for line in compiled.as_text().splitlines():
        head = re.match(r"(ENTRY )?%?([\w.\-]+) .*\{$", line)
        if head:
            name = "entry" if head[1] else head[2]
            programs[name] = []
        elif line.startswith("  "):
            programs[name].append(line)
    flops, found = 0.0, collections.Counter()

    def visit(name: str, turns: int, in_loop: bool) -> None:
        nonlocal flops
        shapes = {}
        for line in programs[name]:
            parts = re.match(r"\s+(?:ROOT )?%?([\w.\-]+) = (.*?) ([\w\-]+)\((.*)", line)
            if parts is None:
                continue
            own, shape, kind, rest = parts.groups()
            sizes = re.search(r"\[([\d,]+)\]", shape)
            shapes[own] = [int(x) for x in sizes[1].split(",")] if sizes else []
            if kind == "convolution":  # what a product becomes
                operand = re.findall(r"%([\w.\-]+)", rest)[1]
                features = re.search(r"dim_labels=\w+_(\w+)->", rest)[1].index("o")
                size = shapes[operand]
                flops += 2.0 * turns * math.prod(shapes[own]) * math.prod(size) / size[features]
            match = re.fullmatch("(all-reduce|all-gather|reduce-scatter|all-to-all)(-start)?", kind)
            if match:
                found[match[1], in_loop] += 1
            for attribute, called in re.findall(r"(body|calls|to_apply)=%?([\w.\-]+)", rest):
                loop = attribute == "body"
                visit(called, turns * (turns_of(rest) if loop else 1), in_loop or loop)

    def turns_of(loop: str) -> int:
        """How often a loop turns that counts from 0: what its condition compares the count with."""
        known = re.search(r"known_trip_count\W+n\W+(\d+)", loop)
        if known:
            return int(known[1])
        condition = programs[re.search(r"condition=%?([\w.\-]+)", loop)[1]]
        ends = [x[1] for line in condition if (x := re.search(r"= s32\S* constant\((\d+)\)", line))]
        if len(ends) != 1 or not any("direction=LT" in line for line in condition):
            raise RuntimeError(f"cannot tell how often a loop turns: {loop[:200]}")
        return int(ends[0])

    visit("entry", 1, False)
    return flops, dict(found)
