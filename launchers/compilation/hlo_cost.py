"""What one chip does in a compiled program: products, bytes to and from HBM, collectives.

XLA's own cost analysis counts the body of a loop once; here a loop counts as often as it turns. Of
elementwise arithmetic nothing is counted, as the units of matrices bound what a model does. A
value that the compiler keeps in VMEM costs no HBM byte. Sizes are without the padding of layouts.
"""

import collections
import dataclasses
import functools
import math
import re
from collections.abc import Iterable

import numpy as np

from launchers.compilation.hlo_loops import find_loops
from launchers.compilation.hlo_text import Computation, Instruction, Module, Shape, parse

COLLECTIVES = (
    "all-gather", "all-reduce", "reduce-scatter", "all-to-all", "ragged-all-to-all",
    "collective-permute",
)  # fmt: skip
# What moves nothing by itself.
_FREE = {
    "parameter", "constant", "tuple", "get-tuple-element", "bitcast", "after-all", "partition-id",
    "replica-id", "opt-barrier", "while", "conditional", "call",
}  # fmt: skip
_FREE_CALLS = {"AllocateBuffer", "ConcatBitcast", "AsyncCollectiveStart", "AsyncCollectiveDone"}
_SLICES = {"dynamic-slice", "slice", "gather"}


@dataclasses.dataclass(frozen=True, slots=True)
class Collective:
    """One kind of collective: what each chip puts in, and among whom."""

    kind: str  # one of `COLLECTIVES`
    bytes: int  # of a chip's operands
    groups: str  # as the module prints them


@dataclasses.dataclass(frozen=True)
class Cost:
    """What one chip does, loops unrolled.

    Attributes:
      flops: of matrix products and of kernels that state theirs.
      hbm_bytes: read from and written to HBM.
      collectives: how often each one runs.
      open_loops: loops whose number of turns is known at run time alone; they are counted at the
        length of what they walk over.
      silent_kernels: Pallas kernels that state no FLOPs, which are not counted.
    """

    flops: float = 0.0
    hbm_bytes: float = 0.0
    collectives: collections.Counter[Collective] = dataclasses.field(
        default_factory=collections.Counter
    )
    open_loops: int = 0
    silent_kernels: int = 0

    def plus(self, other: "Cost", times: int = 1) -> "Cost":
        """The sum of this and `times` the other."""
        more = collections.Counter({c: n * times for c, n in other.collectives.items()})
        return Cost(
            self.flops + times * other.flops,
            self.hbm_bytes + times * other.hbm_bytes,
            self.collectives + more,
            self.open_loops + other.open_loops,
            self.silent_kernels + other.silent_kernels,
        )


def read_cost(text: str) -> Cost:
    """The cost of an optimised module's text, for one chip."""
    return _Reader(parse(text)).cost()


class _Reader:
    def __init__(self, module: Module):
        self._module = module
        self._loops = find_loops(module)
        self._known: dict[str, Cost] = {}

    def cost(self) -> Cost:
        return self._computation(self._module.entry)

    def _computation(self, name: str) -> Cost:
        if name not in self._known:
            computation = self._module.computations[name]
            total = Cost()
            chains: set[tuple[str, Collective, float]] = set()
            for instruction in computation.instructions.values():
                total = total.plus(self._instruction(computation, instruction))
                if instruction.opcode == "fusion":
                    chains |= self._chained(instruction)
            # A collective that is spread over several fusions stands in each of them.
            for _, collective, moved in chains:
                total = total.plus(Cost(0, moved, collections.Counter({collective: 1})))
            self._known[name] = total
        return self._known[name]

    def _instruction(self, computation: Computation, it: Instruction) -> Cost:
        if it.opcode == "while":
            loop = self._loops[it.name]
            body = self._computation(it.attribute("body"))
            return Cost(open_loops=int(not loop.known)).plus(body, loop.turns)
        if it.opcode == "conditional":
            branches = [self._computation(name) for name in _branches(it)]
            return max(branches, key=lambda c: (c.flops, c.hbm_bytes))
        if it.opcode == "call":
            return self._computation(it.attribute("to_apply"))
        kind = it.opcode.removesuffix("-start")
        if kind in COLLECTIVES:
            return Cost(
                0, _collective_bytes(computation, it),
                collections.Counter({_collective(computation, it): 1}),
            )  # fmt: skip
        kernel = it.opcode == "custom-call" and '"tpu_custom_call"' in it.attributes
        return Cost(
            self._flops(computation, it), self._bytes(computation, it),
            silent_kernels=int(kernel and _stated(it, "flops") is None),
        )  # fmt: skip

    # FLOPs

    def _flops(self, computation: Computation, it: Instruction) -> float:
        if it.opcode == "fusion" or (it.opcode == "async-start" and it.attribute("calls")):
            return self._fused_flops(it.attribute("calls"))
        if it.opcode == "dot":
            return _dot_flops(computation, it)
        if it.opcode == "convolution":
            return _convolution_flops(computation, it)
        return _stated(it, "flops") or 0.0

    @functools.cache  # noqa: B019  a reader lives as long as its module
    def _fused_flops(self, name: str) -> float:
        inner = self._module.computations[name]
        return sum(self._flops(inner, it) for it in inner.instructions.values())

    # Bytes

    def _bytes(self, computation: Computation, it: Instruction) -> float:
        if it.opcode in _FREE or it.opcode.endswith(("-done", "-update")) or _free_call(it):
            return 0.0
        if it.opcode == "fusion":
            inner = self._module.computations[it.attribute("calls")]
            given = computation.shapes(it.operands)
            read = sum(
                self._read(inner, parameter, shape)
                for parameter, shape in zip(inner.parameters, given, strict=False)
                if not shape.space
            )
            return read + self._written(inner, it.shapes)
        if it.opcode == "slice-start":
            source, result, *_ = it.shapes
            return result.bytes * ((not source.space) + (not result.space))
        if it.opcode == "copy-start":
            return _hbm(it.shapes[:2])
        stated = _stated(it, "bytes_accessed")
        if stated is not None:
            return stated
        given = computation.shapes(it.operands)
        if it.opcode in _SLICES:
            return _hbm(it.shapes) + (0 if given[0].space else _total(it.shapes))
        if it.opcode == "dynamic-update-slice":
            update = given[1]
            return _hbm([update]) + (0 if it.shapes[0].space else update.bytes)
        return _hbm(given) + _hbm(it.shapes)

    def _read(self, inner: Computation, value: Instruction, shape: Shape) -> int:
        """Bytes that a fusion reads of one of its operands."""
        total = 0
        for user in inner.users[value.name]:
            first = user.operands[0] == value.name
            if user.opcode == "bitcast":
                total += self._read(inner, user, shape)
            elif user.opcode in _SLICES and first:
                total += _total(user.shapes)
            elif user.opcode == "dynamic-update-slice" and first:
                pass  # in place
            elif user.opcode == "fusion":
                called = self._module.computations[user.attribute("calls")]
                place = user.operands.index(value.name)
                total += self._read(called, called.parameters[place], shape)
            elif user.opcode == "tuple" or _moves(user) or _free_call(user):
                pass  # handed on, or counted with its collective
            else:
                return shape.bytes
        return min(total, shape.bytes)

    def _written(self, inner: Computation, shapes: Iterable[Shape]) -> int:
        """Bytes that a fusion writes; `shapes` are of its result, with their memories."""
        root = inner.root
        values = [root]
        if root.opcode == "tuple":
            values = [inner.instructions[name] for name in root.operands]
        if len(values) != len(list(shapes)):
            return _hbm(shapes)
        return sum(
            self._stored(inner, value, shape)
            for value, shape in zip(values, shapes, strict=True)
            if not shape.space
        )

    def _stored(self, inner: Computation, value: Instruction, shape: Shape) -> int:
        if value.opcode == "bitcast":
            return self._stored(inner, inner.instructions[value.operands[0]], shape)
        if value.opcode == "dynamic-update-slice":
            return inner.instructions[value.operands[1]].shapes[0].bytes
        if value.opcode == "fusion" and len(value.shapes) == 1:
            called = self._module.computations[value.attribute("calls")]
            return self._stored(called, called.root, shape)
        if value.opcode == "parameter" or _moves(value) or _free_call(value):
            return 0
        return shape.bytes

    # Collectives in fusions

    def _chained(self, fusion: Instruction) -> set[tuple[str, Collective, float]]:
        """The collectives of a fusion, each by its channel and with its bytes in HBM."""
        inner = self._module.computations[fusion.attribute("calls")]
        found: set[tuple[str, Collective, float]] = set()
        for it in inner.instructions.values():
            if it.opcode == "fusion":
                found |= self._chained(it)
            elif _moves(it):
                channel = re.search(r"channel_id=(\d+)", it.attributes)
                found.add((
                    channel[1] if channel else it.name, _collective(inner, it),
                    _collective_bytes(inner, it),
                ))  # fmt: skip
        return found


def _moves(it: Instruction) -> bool:
    return it.opcode.removesuffix("-start") in COLLECTIVES


def _free_call(it: Instruction) -> bool:
    return it.opcode == "custom-call" and any(f'"{x}"' in it.attributes for x in _FREE_CALLS)


def _branches(it: Instruction) -> list[str]:
    several = re.search(r"branch_computations=\{([^}]*)\}", it.attributes)
    if several:
        return re.findall(r"%?([\w.\-]+)", several[1])
    return [it.attribute("true_computation"), it.attribute("false_computation")]


def _collective(computation: Computation, it: Instruction) -> Collective:
    kind = it.opcode.removesuffix("-start")
    scattered = any(user.opcode == "dynamic-slice" for user in computation.users[it.name])
    if kind == "all-reduce" and "all-reduce-scatter" in computation.name and scattered:
        kind = "reduce-scatter"  # so a TPU's backend writes one down
    return Collective(kind, _total(computation.shapes(it.operands)), _groups(it))


def _groups(it: Instruction) -> str:
    found = re.search(
        r"(?:replica_groups|source_target_pairs)=(.*?)(?=, [a-z_]+=|$)", it.attributes
    )
    return found[1] if found else ""


def _collective_bytes(computation: Computation, it: Instruction) -> float:
    given = computation.shapes(it.operands)
    result = it.shapes[len(given) :] if it.opcode.endswith("-start") else it.shapes
    return _hbm(given) + _hbm(result or it.shapes)


def _stated(it: Instruction, name: str) -> float | None:
    """A figure of the estimate that a kernel brings along."""
    if it.opcode != "custom-call":
        return None
    estimate = re.search(r'"cost_estimate":\{([^}]*)\}', it.attributes)
    figure = re.search(rf'"{name}":"?(\d+)', estimate[1]) if estimate else None
    return float(figure[1]) if figure else None


def _total(shapes: Iterable[Shape]) -> int:
    return sum(shape.bytes for shape in shapes)


def _hbm(shapes: Iterable[Shape]) -> int:
    return sum(shape.bytes for shape in shapes if not shape.space)


def _dot_flops(computation: Computation, it: Instruction) -> float:
    left = computation.shapes(it.operands[:1])[0]
    named = re.search(r"lhs_contracting_dims=\{([\d,]*)\}", it.attributes)
    contracted = [left.sizes[int(i)] for i in named[1].split(",") if i] if named else []
    return 2.0 * math.prod(it.shapes[0].sizes) * math.prod(contracted)


def _convolution_flops(computation: Computation, it: Instruction) -> float:
    """Twice the products of numbers that are there: not those with padding or between dilated ones.

    XLA writes a batched matrix product as a convolution with much of both.
    """
    left, right = computation.shapes(it.operands[:2])
    labels = re.search(r"dim_labels=(\w+)_(\w+)->(\w+)", it.attributes)
    if labels is None:
        raise ValueError(f"convolution {it.name} has no dim_labels")
    of_left, of_right, of_out = labels.groups()
    window = _window(it.attributes)
    out = it.shapes[0].sizes
    flops = 2.0 * right.sizes[of_right.index("i")]
    flops *= out[of_out.index("b")] * out[of_out.index("f")]
    for place, digit in enumerate(sorted(set(of_out) - {"b", "f"})):
        flops *= _valid(
            left.sizes[of_left.index(digit)], out[of_out.index(digit)],
            right.sizes[of_right.index(digit)],
            **{name: values[place] for name, values in window.items()},
        )  # fmt: skip
    return flops


def _window(attributes: str) -> dict[str, list[int]]:
    """stride, pad (the low one), lhs_dilate and rhs_dilate of each dimension that differ from 1."""
    found = re.search(r"window=\{([^}]*)\}", attributes)
    window = {}
    for name, values in re.findall(r"(\w+)=([\d_x\-]+)", found[1] if found else ""):
        if name in ("stride", "pad", "lhs_dilate", "rhs_dilate"):
            window[name] = [int(value.split("_")[0]) for value in values.split("x")]
    return window


@functools.cache
def _valid(size: int, out: int, taps: int, stride=1, pad=0, lhs_dilate=1, rhs_dilate=1) -> int:
    """Pairs of an output's place and a kernel's that meet a number of the input."""
    place = (np.arange(out) * stride)[:, None] + (np.arange(taps) * rhs_dilate)[None] - pad
    inside = (place >= 0) & (place <= (size - 1) * lhs_dilate) & (place % lhs_dilate == 0)
    return int(inside.sum())
