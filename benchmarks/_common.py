"""What the benchmarks share: paired timing, one table, one JSON format.

Every benchmark is run from the repository's root: `python -m benchmarks.NAME [--json FILE]`.
"""

import argparse
import dataclasses
import importlib.metadata
import json
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from leco_jax.evaluation.provenance import provenance

PACKAGES = ("jax", "jaxlib", "libtpu", "numpy", "torch", "transformers")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Row:
    """One figure: ours beside a peer's.

    Attributes:
      name: what was measured; the same from run to run.
      ours: our figure, None where it could not be had.
      peer: the peer's, None where there is none.
      peer_name: who the peer is, or why its figure is missing.
      unit: of both figures.
      bound: what was promised, as `"ratio <= 0.2"` or `"ours <= 1"`; None for no promise.
      note: printed under the table.
    """

    name: str
    ours: float | None
    peer: float | None = None
    peer_name: str = ""
    unit: str = "ms"
    bound: str | None = None
    note: str = ""

    @property
    def ratio(self) -> float | None:
        """Ours over the peer's."""
        return self.ours / self.peer if self.ours is not None and self.peer else None

    @property
    def holds(self) -> bool | None:
        """Whether the figure keeps its bound; None without a bound or a figure."""
        if self.bound is None:
            return None
        which, comparison, limit = self.bound.split()
        value = self.ratio if which == "ratio" else self.ours
        if value is None:
            return None
        if comparison == "==":
            return value == float(limit)
        return value <= float(limit) if comparison == "<=" else value >= float(limit)


def parser(description: str) -> argparse.ArgumentParser:
    """The command line that all benchmarks have."""
    options = argparse.ArgumentParser(description=description)
    options.add_argument("--json", type=Path, help="write the figures to this file")
    return options


def time_alternating(
    programs: Mapping[str, Callable[[], object]], *, repeats: int, wait=None
) -> dict[str, list[float]]:
    """Times programs by turns, so that a busy machine slows all of them alike.

    Args:
      programs: by name; each is called once before the first measured turn.
      repeats: how many turns.
      wait: called with a program's result to await its end (`jax.block_until_ready`).

    Returns:
      Milliseconds of each turn, by name.
    """
    wait = wait or (lambda result: result)
    for program in programs.values():
        wait(program())
    times: dict[str, list[float]] = {name: [] for name in programs}
    for _ in range(repeats):
        for name, program in programs.items():
            start = time.perf_counter()
            wait(program())
            times[name].append(1e3 * (time.perf_counter() - start))
    return times


def temporary_mb(compiled) -> float:
    """Temporary memory of a program compiled by JAX, in megabytes, as its compiler reports it."""
    return compiled.memory_analysis().temp_size_in_bytes / 1e6


def median(times: list[float]) -> float:
    """The middle one."""
    return statistics.median(times)


def spread(name: str, times: list[float]) -> str:
    """A note of a timing's median and range."""
    return f"{name}: {median(times):.3g} ms ({min(times):.3g} to {max(times):.3g})"


def paired_ratio(ours: list[float], peer: list[float]) -> float:
    """The median of the ratios of each turn."""
    return statistics.median(a / b for a, b in zip(ours, peer, strict=True))


def report(rows: list[Row], json_path: Path | None = None, notes: tuple[str, ...] = ()) -> None:
    """Prints the table and, if asked, writes the JSON file."""
    heading = ("figure", "ours", "peer", "ratio", "unit", "bound", "holds", "peer is")
    cells = [heading] + [
        (
            row.name,
            _number(row.ours),
            _number(row.peer),
            _number(row.ratio),
            row.unit,
            row.bound or "",
            {True: "yes", False: "NO", None: ""}[row.holds],
            row.peer_name,
        )
        for row in rows
    ]
    widths = [max(len(line[i]) for line in cells) for i in range(len(heading))]
    for line in cells:
        pairs = zip(line, widths, strict=True)
        print("  ".join(cell.ljust(width) for cell, width in pairs).rstrip())
    for note in (*notes, *(f"{row.name}: {row.note}" for row in rows if row.note)):
        print(f"  - {note}")
    if json_path is not None:
        keys = ("name", "ours", "peer", "peer_name", "ratio", "unit", "bound", "holds")
        found = {
            "context": context(),
            "rows": [{key: getattr(row, key) for key in keys} for row in rows],
        }
        json_path.write_text(json.dumps(found, indent=1) + "\n")


def context() -> dict:
    """Where and with what the figures were taken."""
    versions: dict[str, str | None] = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = None
    made = provenance()
    return {
        "command": made["command"],
        "date": made["date"],
        "commit": made["commit"],
        "versions": versions,
        "host": f"{platform.machine()} {platform.system()}, {made['device']}",
    }


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.4g}" if abs(value) < 1e6 else f"{value:.3e}"
