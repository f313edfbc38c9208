"""Where prepared data sets are kept, and under which name."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path


def cache_dir() -> Path:
    """Returns $LECO_CACHE, else $XDG_CACHE_HOME/leco-jax, else ~/.cache/leco-jax."""
    if os.environ.get("LECO_CACHE"):
        return Path(os.environ["LECO_CACHE"]).expanduser()
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "leco-jax"


def source_hash(files: Mapping[str, Path]) -> str:
    """Returns a short hash of named files' contents, in which their order has no part."""
    total = hashlib.sha256()
    for name in sorted(files):
        content = hashlib.sha256(files[name].read_bytes()).hexdigest()
        total.update(f"{name} {content}\n".encode())
    return total.hexdigest()[:16]
