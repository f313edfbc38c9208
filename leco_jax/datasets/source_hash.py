"""Under which name a prepared data set is kept: that of its sources' contents."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path


def source_hash(files: Mapping[str, Path]) -> str:
    """Returns a short hash of named files' contents, in which their order has no part."""
    total = hashlib.sha256()
    for name in sorted(files):
        content = hashlib.sha256(files[name].read_bytes()).hexdigest()
        total.update(f"{name} {content}\n".encode())
    return total.hexdigest()[:16]
