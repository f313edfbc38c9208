"""Paths that a user gives, and where downloads and prepared data sets are kept."""

import os
from collections.abc import Iterable
from pathlib import Path


def cache_dir() -> Path:
    """$LECO_CACHE, else $XDG_CACHE_HOME/leco-jax, else ~/.cache/leco-jax."""
    if os.environ.get("LECO_CACHE"):
        return Path(os.environ["LECO_CACHE"]).expanduser()
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "leco-jax"


def local_path(text: str | Path) -> Path:
    """The path of a directory or file to write, as a flag gives it; ValueError if it is a URL."""
    if "://" in str(text):
        raise ValueError(
            f"{text} is a URL; only paths of mounted file systems can be written. Mount the bucket "
            "(gcsfuse for gs://) or use a shared disk, and give the path there"
        )
    return Path(text)


def check_output(
    output: str | Path, *, inputs: Iterable[str | Path] = (), directory: bool = False
) -> Path:
    """The path of a file to write, refused before any work if it cannot or must not be written.

    Args:
        output: as a flag gives it; a file there is replaced, missing parents are made.
        inputs: what the program reads; names that are not paths do no harm.
        directory: a directory is written, not a file.

    Raises:
        ValueError: it is a URL, one of `inputs` (by real path), of another kind than asked for, or
            its parents are not a directory that can be written to.
    """
    path = local_path(output)
    real = Path(os.path.realpath(path))
    for name in inputs:
        if real == Path(os.path.realpath(name)):
            raise ValueError(f"output {path} is the input {name}: choose another output")
    if directory and real.exists() and not real.is_dir():
        raise ValueError(f"output {path} is not a directory: choose another output")
    if not directory and real.is_dir():
        raise ValueError(f"output {path} is a directory: give the path of a file in it")
    if not directory and real.exists() and not real.is_file():
        raise ValueError(f"output {path} is a device or pipe, which cannot be replaced by a file")
    parent = real if directory and real.exists() else real.parent
    while not parent.exists():
        parent = parent.parent
    if not parent.is_dir():
        raise ValueError(f"output {path}: {parent} is not a directory")
    if not os.access(parent, os.W_OK | os.X_OK):
        raise ValueError(f"output {path}: {parent} cannot be written to")
    return path
