"""What the tests read of programs that are compiled for TPU topologies on a host without one."""

import re

from benchmarks._tpu import TOPOLOGIES, compile_for, mesh, work

__all__ = [
    "TOPOLOGIES",
    "collectives",
    "compile_for",
    "mesh",
    "runs_a_kernel",
    "temporary_bytes",
    "work",
]


def temporary_bytes(compiled) -> int:
    return compiled.memory_analysis().temp_size_in_bytes


def collectives(compiled) -> dict[str, int]:
    """How many of each kind of collective the program runs."""
    kinds = "all-reduce|all-gather|reduce-scatter|all-to-all|collective-permute"
    found = re.findall(rf"= [^=]*? ({kinds})(?:-start)?\(", compiled.as_text())
    return {kind: found.count(kind) for kind in set(found)}


def runs_a_kernel(compiled) -> bool:
    return "tpu_custom_call" in compiled.as_text()
