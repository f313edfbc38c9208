"""Paths that a user gives, and where downloads and prepared data sets are kept."""

import os
from pathlib import Path


def cache_dir() -> Path:
    """$LECO_CACHE, else $XDG_CACHE_HOME/leco-jax, else ~/.cache/leco-jax."""
    if os.environ.get("LECO_CACHE"):
        return Path(os.environ["LECO_CACHE"]).expanduser()
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "leco-jax"


def local_path(text: str | Path) -> Path:
    """The path of a directory or file to write, as a flag gives it.

    Raises:
        ValueError: it is a URL, of which Path would make a directory "gs:" in the current one.
    """
    if "://" in str(text):
        raise ValueError(
            f"{text} is a URL; only paths of mounted file systems can be written. Mount the bucket "
            "(gcsfuse for gs://) or use a shared disk, and give the path there"
        )
    return Path(text)
