"""How often the loops of an optimised module turn."""

import re
from typing import NamedTuple

from launchers.compilation.hlo_text import Computation, Instruction, Module

_COPIES = {"copy", "bitcast", "convert", "reshape", "copy-done", "copy-start", "opt-barrier"}


class Loop(NamedTuple):
    """How often a loop turns; not `known`: at most so often."""

    turns: int
    known: bool


class _Caller(NamedTuple):
    computation: Computation
    loop: Instruction


def find_loops(module: Module) -> dict[str, Loop]:
    """The loops of all computations, by the name of their `while`.

    A count that XLA states is taken; else the condition is read: a counter from a constant to a
    constant. Where the limit is known at run time alone, a loop turns at most as often as the
    longest array that it walks along, slice by slice, has slices.
    """
    callers = {
        it.attribute(role): _Caller(computation, it)
        for computation in module.computations.values()
        for it in computation.instructions.values()
        if it.opcode == "while"
        for role in ("body", "condition")
    }
    return {
        caller.loop.name: _turns(module, callers, caller)
        for name, caller in callers.items()
        if name == caller.loop.attribute("body")
    }


def _turns(module: Module, callers: dict[str, _Caller], caller: _Caller) -> Loop:
    stated = re.search(r"known_trip_count\W+n\W+(\d+)", caller.loop.attributes)
    if stated:
        return Loop(int(stated[1]), True)
    counted = _counted(module, callers, caller)
    if counted is not None:
        return Loop(counted, True)
    return Loop(max(_walked(module, caller.loop), 1), False)


def _counted(module: Module, callers: dict[str, _Caller], caller: _Caller) -> int | None:
    """Turns by the condition `counter < limit`; None where something is no constant."""
    condition = module.computations[caller.loop.attribute("condition")]
    compare = _comparison(module, condition)
    if compare is None:
        return None
    direction, sides = compare
    indices = [_counter(condition, name) for name in sides]
    body = module.computations[caller.loop.attribute("body")]
    for place, index in enumerate(indices):
        step = None if index is None else _step(body, index)
        if index is None or step is None:
            continue
        limit = _constant(module, callers, condition, sides[1 - place])
        start = _initial(module, callers, caller, index)
        if limit is None or start is None:
            return None
        if direction in ("LE", "GE"):
            limit += 1 if step > 0 else -1
        return max(-(-(limit - start) // step), 0)
    return None


def _comparison(module: Module, condition: Computation) -> tuple[str, tuple[str, str]] | None:
    root = condition.root
    names: list[str] = []
    if root.opcode == "fusion":  # a CPU wraps it
        inner = module.computations[root.attribute("calls")]
        places = {p.name: root.operands[i] for i, p in enumerate(inner.parameters)}
        root = inner.root
        names = [places.get(name, "") for name in root.operands]
    direction = re.search(r"direction=(\w\w)", root.attributes)
    if root.opcode != "compare" or direction is None:
        return None
    left, right = names or root.operands
    return (direction[1], (left, right)) if left and right else None


def _counter(condition: Computation, name: str) -> int | None:
    """The place in the loop's tuple of a value of it; None if it is none."""
    it = condition.instructions[name]
    while it.opcode in _COPIES:
        it = condition.instructions[it.operands[0]]
    if it.opcode != "get-tuple-element":
        return None
    of = condition.instructions[it.operands[0]]
    return _index(it) if of.opcode == "parameter" else None


def _index(it: Instruction) -> int:
    found = re.search(r"index=(\d+)", it.attributes)
    assert found is not None
    return int(found[1])


def _step(body: Computation, index: int) -> int | None:
    """By how much a turn raises a value of the tuple; None if not by a constant."""
    if body.root.opcode != "tuple":
        return None
    it = body.instructions[body.root.operands[index]]
    while it.opcode in _COPIES:
        it = body.instructions[it.operands[0]]
    values = [_plain(body, name) for name in it.operands]
    if it.opcode == "fusion":  # of the counter and, where it is not inside, the step
        return 1 if any(_counter(body, name) == index for name in it.operands) else None
    if it.opcode != "add":
        return None
    steps = [v for v in values if v is not None]
    return steps[0] if steps and any(_counter(body, n) == index for n in it.operands) else None


def _plain(computation: Computation, name: str) -> int | None:
    it = computation.instructions[name]
    while it.opcode in _COPIES:
        it = computation.instructions[it.operands[0]]
    return int(it.inside) if it.opcode == "constant" and it.inside.lstrip("-").isdigit() else None


def _constant(
    module: Module, callers: dict[str, _Caller], computation: Computation, name: str
) -> int | None:
    """The integer that a value is, looked for through the loops around."""
    found = _plain(computation, name)
    if found is not None:
        return found
    index = _counter(computation, name)
    caller = callers.get(computation.name)
    if index is None or caller is None:
        return None
    body = module.computations[caller.loop.attribute("body")]
    if body.root.opcode != "tuple" or _counter(body, body.root.operands[index]) != index:
        return None  # a turn changes it
    return _initial(module, callers, caller, index)


def _initial(
    module: Module, callers: dict[str, _Caller], caller: _Caller, index: int
) -> int | None:
    given = caller.computation.instructions[caller.loop.operands[0]]
    while given.opcode in _COPIES:
        given = caller.computation.instructions[given.operands[0]]
    if given.opcode != "tuple":
        return None
    return _constant(module, callers, caller.computation, given.operands[index])


def _walked(module: Module, loop: Instruction) -> int:
    """Slices of the longest array that the loop's body takes or writes one slice of."""
    body = module.computations[loop.attribute("body")]
    return max(
        (_slices(module, body, it) for it in body.instructions.values()
         if it.opcode == "get-tuple-element"),
        default=1,
    )  # fmt: skip


def _slices(module: Module, computation: Computation, value: Instruction) -> int:
    most = 1
    for user in computation.users[value.name]:
        if user.opcode in _COPIES:
            most = max(most, _slices(module, computation, user))
        elif user.opcode == "fusion":
            inner = module.computations[user.attribute("calls")]
            place = user.operands.index(value.name)
            most = max(most, _slices(module, inner, inner.parameters[place]))
        elif user.operands[0] == value.name and user.opcode in (
            "dynamic-slice", "dynamic-update-slice"
        ):  # fmt: skip
            update = user.opcode == "dynamic-update-slice"
            part = computation.instructions[user.operands[1]] if update else user
            whole = value.shapes[0].sizes
            for size, own in zip(whole, part.shapes[0].sizes, strict=False):
                if own and own < size:
                    most = max(most, size // own)
                    break
    return most
