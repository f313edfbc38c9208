"""From what a chip does to the time that it takes at least, by published peaks.

A network's time is that of its collectives one after the other, each over the links that its group
of chips spans: two along a ring, one along a line (the chip at its end has no more).
"""

import dataclasses
import functools
import math
import re

import numpy as np

from launchers.compilation.chips import Chip, Slices
from launchers.compilation.hlo_cost import Collective, Cost


@dataclasses.dataclass(frozen=True)
class Traffic:
    """Bytes that a chip sends in one run of a collective, and how long they take at least."""

    ici_bytes: float
    dcn_bytes: float
    ici_seconds: float
    dcn_seconds: float


@dataclasses.dataclass(frozen=True)
class Roofline:
    """Least seconds of a program by each of its bounds, and the bytes behind them."""

    seconds: dict[str, float]  # "compute", "hbm", "ici", "dcn"
    sent: dict[str, float]  # bytes that a chip sends, by kind of collective
    dcn_bytes: float

    @property
    def bound(self) -> str:
        """What takes longest."""
        return max(self.seconds, key=lambda name: self.seconds[name])

    @property
    def least(self) -> float:
        """Seconds of a program all of whose parts overlap."""
        return max(self.seconds.values())


def roofline(cost: Cost, slices: Slices, places: np.ndarray) -> Roofline:
    """The roofline of a program.

    Args:
      cost: what a chip does.
      slices: where.
      places: [chips, 1 + axes], the slice and the coordinates of each chip in the program's order.
    """
    chip = slices.chip
    seconds = {
        "compute": cost.flops / slices.peak_flops,
        "hbm": cost.hbm_bytes / chip.hbm,
        "ici": 0.0,
        "dcn": 0.0,
    }
    sent: dict[str, float] = {}
    dcn_bytes = 0.0
    for collective, times in cost.collectives.items():
        if collective.kind == "collective-permute":
            group = joined(collective.groups)
        else:
            group = first_group(collective.groups, len(places))
        one = traffic(collective, places[group], chip, slices.axes)
        seconds["ici"] += times * one.ici_seconds
        seconds["dcn"] += times * one.dcn_seconds
        total = times * (one.ici_bytes + one.dcn_bytes)
        sent[collective.kind] = sent.get(collective.kind, 0.0) + total
        dcn_bytes += times * one.dcn_bytes
    return Roofline(seconds, sent, dcn_bytes)


def traffic(
    collective: Collective, places: np.ndarray, chip: Chip, axes: tuple[int, ...]
) -> Traffic:
    """What one chip of a group sends, by the best algorithms of rings.

    A group over several slices works within each slice and then, every chip with its part, across
    them.
    """
    count = len(places)
    slices = len(np.unique(places[:, 0]))
    per_slice = count // slices
    size = float(collective.bytes)
    inner, outer = (per_slice - 1) / per_slice, (slices - 1) / slices
    if collective.kind == "all-gather":
        ici, dcn = size * slices * (per_slice - 1), size * (slices - 1)
    elif collective.kind == "all-reduce":
        ici, dcn = 2 * size * inner, 2 * size / per_slice * outer
    elif collective.kind == "reduce-scatter":
        ici, dcn = size * inner, size / per_slice * outer
    elif collective.kind == "collective-permute":
        ici, dcn = (0.0, size) if slices > 1 else (size if count > 1 else 0.0, 0.0)
    else:
        ici, dcn = size * inner / slices, size * outer
    here = places[places[:, 0] == places[0, 0], 1:]
    links = 0
    for axis, length in enumerate(axes):
        extent = len(np.unique(here[:, axis]))
        ring = extent == length and length % chip.wrap == 0 and length > 2
        links += 0 if extent == 1 else 2 if ring else 1
    return Traffic(ici, dcn, ici / (max(links, 1) * chip.ici_link), dcn / chip.dcn)


@functools.cache
def first_group(text: str, count: int) -> list[int]:
    """The first group of a collective as XLA prints them: numbers of chips in the program's order.

    Lists, `[groups, size]<=[dims]T(order)`, named axes of a mesh, and pairs of source and target
    (the chips that they join) are read; nothing means all chips. ValueError for anything else.
    """
    text = text.strip()
    if text in ("", "{}", "{{}}"):
        return list(range(count))
    if text.startswith("{{"):
        groups = [
            [int(x) for x in re.findall(r"\d+", group)]
            for group in re.findall(r"\{([\d,\s]*)\}", text[1:-1])
        ]
        return groups[0]
    listed = re.match(r"\[(\d+),(\d+)\]<=", text)
    if listed:
        return _ordered(text[listed.end() :])[: int(listed[2])].tolist()
    mesh = re.match(r"mesh\[([^\]]*)\](?:, device_ids=\(([^)]*\)?)\))?\s*\{([^}]*)\}", text)
    if mesh:
        sizes = {name: int(size) for name, size in re.findall(r"'([^']+)'=(\d+)", mesh[1])}
        ids = _ordered(mesh[2]) if mesh[2] else np.arange(math.prod(sizes.values()))
        ids = ids.reshape(tuple(sizes.values()))
        index: list = [slice(None) if f"'{name}'" in mesh[3] else 0 for name in sizes]
        for name, before, part in re.findall(r"'([^']+)':\((\d+)\)(\d+)", mesh[3]):
            axis = list(sizes).index(name)
            after = sizes[name] // (int(before) * int(part))
            index[axis] = slice(0, int(part) * after, after)
        return ids[tuple(index)].reshape(-1).tolist()
    raise ValueError(f"cannot read the groups {text!r} of a collective")


def joined(pairs: str) -> list[int]:
    """The chips that `source_target_pairs` joins to the first one."""
    edges = [tuple(map(int, pair)) for pair in re.findall(r"\{(\d+),(\d+)\}", pairs)]
    found = {edges[0][0]}
    while True:
        more = found | {x for edge in edges if set(edge) & found for x in edge}
        if more == found:
            return sorted(found)
        found = more


def _ordered(text: str) -> np.ndarray:
    """The numbers of `[8,2]T(1,0)`: counted along the axes, then transposed."""
    sizes = re.match(r"\[([\d,]+)\](?:T\(([\d,]+)\))?", text)
    if sizes is None:
        raise ValueError(f"cannot read the order {text!r} of a collective's chips")
    dims = [int(x) for x in sizes[1].split(",")]
    ids = np.arange(math.prod(dims)).reshape(dims)
    if sizes[2]:
        ids = ids.transpose([int(x) for x in sizes[2].split(",")])
    return ids.reshape(-1)
