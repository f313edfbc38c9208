"""The text of an optimised XLA module as data: computations, instructions, shapes; imports no jax.

Reads what `compiled.as_text()` prints for TPU and for CPU.
"""

import dataclasses
import functools
import math
import re

_BITS = {"pred": 8, "s4": 4, "u4": 4, "bf16": 16, "c64": 64, "c128": 128, "token": 0, "opaque": 0}
_HEAD = re.compile(r"(ENTRY )?%?([\w.\-]+) \(.*\{$")
_NAME = re.compile(r"\s+(ROOT )?%?([\w.\-]+) = ")
_OPCODE = re.compile(r"(?:^|\s)([a-z][\w\-]*)\(")
_SHAPE = re.compile(r"\b([a-z]\w*)\[([^\]]*)\](\{[^}]*\})?")
_SPACE = re.compile(r"S\((\d+)\)")


@dataclasses.dataclass(frozen=True, slots=True)
class Shape:
    """An array: type, sizes, and the memory that it lies in (0 is HBM)."""

    dtype: str
    sizes: tuple[int, ...]
    space: int

    @property
    def bytes(self) -> int:
        """Bytes without padding."""
        return math.prod(self.sizes) * _bits(self.dtype) // 8


@dataclasses.dataclass(frozen=True, slots=True)
class Instruction:
    """One line of a computation."""

    name: str
    opcode: str
    shapes: tuple[Shape, ...]  # of the result; those of a tuple one after the other
    operands: tuple[str, ...]  # names, of the same computation
    inside: str  # the text in the parentheses
    attributes: str  # the text after them
    root: bool

    def attribute(self, name: str) -> str:
        """A computation's name after `name=`, "" if there is none."""
        found = re.search(rf"\b{name}=%?([\w.\-]+)", self.attributes)
        return found[1] if found else ""


@dataclasses.dataclass(frozen=True)
class Computation:
    """Instructions by name, in their order."""

    name: str
    instructions: dict[str, Instruction]

    @functools.cached_property
    def root(self) -> Instruction:
        """The one whose value it returns."""
        return next(x for x in self.instructions.values() if x.root)

    @functools.cached_property
    def parameters(self) -> list[Instruction]:
        """Its parameters in order."""
        found = [x for x in self.instructions.values() if x.opcode == "parameter"]
        return sorted(found, key=lambda x: int(x.inside))

    @functools.cached_property
    def users(self) -> dict[str, list[Instruction]]:
        """Which instructions take the value of which."""
        found: dict[str, list[Instruction]] = {name: [] for name in self.instructions}
        for instruction in self.instructions.values():
            for operand in dict.fromkeys(instruction.operands):
                found[operand].append(instruction)
        return found

    def shapes(self, names: tuple[str, ...]) -> list[Shape]:
        """The shapes of some values, one after the other."""
        return [shape for name in names for shape in self.instructions[name].shapes]


@dataclasses.dataclass(frozen=True)
class Module:
    """A whole program."""

    computations: dict[str, Computation]
    entry: str


def parse(text: str) -> Module:
    """Reads a module.

    Raises:
      ValueError: the text has no entry computation.
    """
    computations: dict[str, Computation] = {}
    entry, current = "", None
    for line in text.splitlines():
        if line.startswith(" "):
            if current is not None and (instruction := _instruction(line)) is not None:
                current.instructions[instruction.name] = instruction
        elif head := _HEAD.match(line):
            current = computations[head[2]] = Computation(head[2], {})
            entry = head[2] if head[1] else entry
    if not entry:
        raise ValueError("the text of the compiled program has no entry computation")
    return Module(computations, entry)


def _instruction(line: str) -> Instruction | None:
    name = _NAME.match(line)
    opcode = _OPCODE.search(line, name.end() - 1) if name else None
    if name is None or opcode is None:
        return None
    end = _closing(line, opcode.end())
    inside = line[opcode.end() : end]
    operands = () if opcode[1] in ("constant", "parameter") else _operands(inside)
    return Instruction(
        name=name[2],
        opcode=opcode[1],
        shapes=_shapes(line[name.end() : opcode.start()]),
        operands=operands,
        inside=inside,
        attributes=line[end + 1 :],
        root=bool(name[1]),
    )


def _closing(line: str, start: int) -> int:
    """Where the parenthesis ends that is open at `start`."""
    depth = 1
    for bracket in re.compile(r"[()]").finditer(line, start):
        depth += 1 if bracket[0] == "(" else -1
        if not depth:
            return bracket.start()
    return len(line)


def _operands(inside: str) -> tuple[str, ...]:
    return tuple(re.findall(r"%([\w.\-]+)", inside))


@functools.lru_cache(maxsize=100_000)
def _shapes(text: str) -> tuple[Shape, ...]:
    found = []
    for dtype, sizes, layout in _SHAPE.findall(text):
        space = _SPACE.search(layout)
        numbers = tuple(int(x) for x in re.findall(r"\d+", sizes))
        found.append(Shape(dtype, numbers, int(space[1]) if space else 0))
    return tuple(found)


def _bits(dtype: str) -> int:
    if dtype in _BITS:
        return _BITS[dtype]
    digits = re.match(r"[a-z]+(\d+)", dtype)  # f8e4m3fn has 8
    return int(digits[1]) if digits else 32
