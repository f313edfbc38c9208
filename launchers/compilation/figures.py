"""What the compiler plans for a program: whether it fits, its memory, its work, its roofline."""

import dataclasses
import re
import resource
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from launchers.compilation.chips import Slices
from launchers.compilation.hlo_cost import read_cost
from launchers.compilation.programs import Program, chip_bytes, held_buffers
from launchers.compilation.roofline import roofline


@dataclasses.dataclass(frozen=True, kw_only=True)
class Figures:
    """One compiled program: the compiler's plan and arithmetic, nothing measured on a TPU.

    Attributes:
      program, topology, num_slices, mesh, copies, batch, unit: what was compiled.
      fits: whether HBM holds it.
      memory: bytes a chip, by what they are.
      hbm_bytes: that a chip has.
      reason: where it does not fit, the compiler's own sentence.
      largest: where it does not fit, (bytes, what) of its largest buffers: the temporaries that the
        compiler names, and the arrays that are held.
      flops, moved: FLOPs and bytes to and from HBM of a chip and call.
      sent: bytes that a chip sends in a call, by kind of collective.
      dcn_bytes: of those, between slices.
      seconds: least time of a call by each bound.
      bound: the longest of them.
      mfu_ceiling: share of the peak that model FLOPs reach in that time.
      tokens: of a call over all chips.
      open_loops: loops counted at their longest.
      silent_kernels: kernels whose FLOPs are not known, and not counted.
      compile_cpu_seconds, host_bytes: of this process, the latter its peak so far.
    """

    program: str
    topology: str
    num_slices: int
    mesh: dict[str, int]
    copies: int
    batch: int
    unit: str
    fits: bool
    memory: dict[str, float]
    hbm_bytes: float
    reason: str = ""
    largest: list[tuple[float, str]] = dataclasses.field(default_factory=list)
    flops: float = 0.0
    moved: float = 0.0
    sent: dict[str, float] = dataclasses.field(default_factory=dict)
    dcn_bytes: float = 0.0
    seconds: dict[str, float] = dataclasses.field(default_factory=dict)
    bound: str = ""
    mfu_ceiling: float = 0.0
    tokens: int = 0
    open_loops: int = 0
    silent_kernels: int = 0
    compile_cpu_seconds: float = 0.0
    host_bytes: float = 0.0


def compile_program(program: Program, slices: Slices) -> Figures:
    """Compiles a program and reads what came out."""
    started = time.process_time()
    memory = {name: float(chip_bytes(tree)) for name, tree in program.held.items()}
    if program.beside:
        memory["cache"] = program.beside
    capacity = slices.chip.hbm_bytes
    common: dict[str, Any] = {
        "program": program.name, "topology": slices.topology, "num_slices": slices.num_slices,
        "mesh": dict(program.mesh.shape), "copies": program.copies, "batch": program.batch,
        "unit": program.unit, "hbm_bytes": capacity,
    }  # fmt: skip
    try:
        compiled = program.lower().compile()
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        return Figures(
            **common, **_spent(started), fits=False, memory=memory, reason=_reason(str(error)),
            largest=_largest(largest_buffers(str(error)), program),
        )  # fmt: skip
    spent = _spent(started)
    plan, text = compiled.memory_analysis(), compiled.as_text()
    assert plan is not None  # the TPU compiler gives both
    assert text is not None
    named = sum(memory.values()) - program.beside
    memory["other arguments"] = max(plan.argument_size_in_bytes - named, 0.0)
    memory["results"] = float(max(plan.output_size_in_bytes - plan.alias_size_in_bytes, 0))
    memory["temporaries"] = float(plan.temp_size_in_bytes)
    memory["code"] = float(plan.generated_code_size_in_bytes)
    cost = read_cost(text)
    bounds = roofline(cost, slices, _places(program, slices))
    total = sum(memory.values())
    fits = total <= capacity
    peak = program.mesh.size * slices.peak_flops
    return Figures(
        **common,
        **spent,
        fits=fits,
        memory=memory,
        reason="" if fits else f"needs {total / 1e9:.2f} GB of the {capacity / 1e9:.2f} GB of HBM",
        largest=[] if fits else _largest([(memory["temporaries"], "temporaries")], program),
        flops=cost.flops,
        moved=cost.hbm_bytes,
        sent=bounds.sent,
        dcn_bytes=bounds.dcn_bytes,
        seconds=bounds.seconds,
        bound=bounds.bound,
        mfu_ceiling=program.model_flops / (peak * bounds.least),
        tokens=program.tokens * program.copies,
        open_loops=cost.open_loops,
        silent_kernels=cost.silent_kernels,
    )


def largest_that_fits(
    plan: Callable[[int | None], Program], slices: Slices, report: Callable[[Figures], None]
) -> Figures:
    """The program with the largest batch that fits; the smallest possible one if none does.

    Batches are doubled from the config's own until one does not fit, and what lies between is
    bisected, in multiples that the mesh allows. `report` is told of every program.
    """
    tried: dict[int, Figures] = {}

    def attempt(batch: int) -> Figures:
        if batch not in tried:
            tried[batch] = compile_program(plan(batch), slices)
            report(tried[batch])
        return tried[batch]

    start = plan(None)
    unit = start.multiple or 1
    low, high = 0, None  # the largest that fits, the smallest that does not, in multiples
    size = max(start.batch // unit, 1)
    while high is None or (not low and high > 1):
        if attempt(size * unit).fits:
            low, size = size, size * 2
        else:
            high, size = size, size // 2
        if low and high is not None:
            break
    while start.multiple and low and high - low > max(1, low // 16):
        middle = (low + high) // 2
        if attempt(middle * unit).fits:
            low = middle
        else:
            high = middle
    return tried[(low or high or 1) * unit]


def largest_buffers(message: str) -> list[tuple[float, str]]:
    """(bytes, what) of the largest buffers that the compiler names where memory is short."""
    found = []
    for part in re.split(r"\n\s*\d+\. Size: ", message)[1:]:
        size = re.match(r"([\d.]+)([KMGT]?)", part)
        name = re.search(r'Operator: op_(?:type="[^"]*" op_)?name="([^"]*)"', part)
        shape = re.search(r"Shape: (\S+)", part)
        kind = re.search(r"Allocation type: (.*)", part)
        if size is None:
            continue
        what = name[1] if name else kind[1].strip() if kind else "unnamed"
        number = float(size[1]) * 1024 ** "_KMGT".index(size[2] or "_")
        found.append((number, f"{what} {shape[1].split('{')[0] if shape else ''}".strip()))
    return found


def _largest(named: list[tuple[float, str]], program: Program) -> list[tuple[float, str]]:
    return sorted([*named, *held_buffers(program)[:10]], reverse=True)[:10]


def _reason(message: str) -> str:
    used = re.search(r"Used ([\d.]+\w) of ([\d.]+\w) hbm", message)
    if used:
        return f"needs {used[1]}iB of the {used[2]}iB of HBM"
    return message.splitlines()[0].removeprefix("RESOURCE_EXHAUSTED: ")[:200]


def _spent(started: float) -> dict[str, Any]:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024.0
    return {"compile_cpu_seconds": time.process_time() - started, "host_bytes": peak}


def _places(program: Program, slices: Slices) -> np.ndarray:
    """The slice and the coordinates of each chip of a mesh, in its order."""
    axes = len(slices.axes)
    return np.array([
        (getattr(device, "slice_index", 0), *device.coords[:axes])
        for device in program.mesh.devices.flat
    ])  # fmt: skip
