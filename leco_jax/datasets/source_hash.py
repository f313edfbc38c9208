"""Hashes of contents: of the files that a data set is made from, and of problems."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path

from leco_jax.datasets.problem import Problem


def source_hash(files: Mapping[str, Path]) -> str:
    """Returns a short hash of named files' contents, in which their order has no part."""
    total = hashlib.sha256()
    for name in sorted(files):
        content = hashlib.sha256(files[name].read_bytes()).hexdigest()
        total.update(f"{name} {content}\n".encode())
    return total.hexdigest()[:16]


def problems_hash(problems: Iterable[Problem]) -> str:
    """Returns a short hash of problems in their order, wherever they came from."""
    total = hashlib.sha256()
    for p in problems:
        total.update(json.dumps([p.id, p.question, p.gold, p.solution, p.kind]).encode() + b"\n")
    return total.hexdigest()[:16]
