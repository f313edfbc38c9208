"""Where downloaded models and prepared data sets are kept."""

import os
from pathlib import Path


def cache_dir() -> Path:
    """$LECO_CACHE, else $XDG_CACHE_HOME/leco-jax, else ~/.cache/leco-jax."""
    if os.environ.get("LECO_CACHE"):
        return Path(os.environ["LECO_CACHE"]).expanduser()
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "leco-jax"
