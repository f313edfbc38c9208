"""Paths that a user gives, and where downloads and prepared data sets are kept."""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, cast

_REMOTE = "gs://"


def as_path(name: str | os.PathLike[str]) -> Path:
    """The path that a flag, a config or a caller names: of a file system, or below gs://.

    The latter has the methods of `Path` that this library uses (see `object_store`).

    Raises:
        ValueError: a URL of another kind, or what gs:// needs is not installed.
    """
    text = os.fspath(name)
    if text.startswith(_REMOTE):
        return cast(Path, object_store(text).ObjectPath(text))
    if "://" in text:
        raise ValueError(
            f"{text}: paths are local or begin with gs://; mount other storage, and give the path "
            "there"
        )
    return Path(text)


def is_remote(path: Any) -> bool:
    """Whether a path is below gs://."""
    return str(path).startswith(_REMOTE)


def object_store(name: Any) -> Any:
    """The module for gs://; ValueError names the extra that installs its packages."""
    try:
        from leco_jax.storage import object_store as found
    except ModuleNotFoundError as error:
        raise ValueError(
            f"{name}: gs:// needs the extra `gcs` (missing: {error.name}): "
            "pip install 'leco-jax[gcs]'"
        ) from None
    return found


def cache_dir() -> Path:
    """$LECO_CACHE, else $XDG_CACHE_HOME/leco-jax, else ~/.cache/leco-jax; a local directory."""
    if own := os.environ.get("LECO_CACHE"):
        if "://" in own:
            raise ValueError(f"LECO_CACHE={own}: it is a local directory, one for each host")
        return Path(own).expanduser()
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "leco-jax"


def check_output(
    output: str | Path, *, inputs: Iterable[str | Path] = (), directory: bool = False
) -> Path:
    """The path of a file to write, refused before any work if it cannot or must not be written.

    Args:
        output: as a flag gives it; a file there is replaced, missing parents are made.
        inputs: what the program reads; names that are not paths do no harm.
        directory: a directory is written, not a file.

    Raises:
        ValueError: it is one of `inputs` (by real path), of another kind than asked for, or its
            parents are not a directory that can be written to.
    """
    path = as_path(output)
    for name in inputs:
        if _real(path) == _real(name):
            raise ValueError(f"output {path} is the input {name}: choose another output")
    if is_remote(path):
        _check_remote(path, directory)
    else:
        _check_local(path, directory)
    return path


def _real(name: str | Path) -> str:
    return str(name).rstrip("/") if is_remote(name) else os.path.realpath(name)


def _check_remote(path: Path, directory: bool) -> None:
    remote = object_store(path)
    probe = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        remote.write(probe, b"")
        probe.unlink()
    except OSError as error:
        raise ValueError(f"output {path} cannot be written: {error}") from None
    if directory and path.is_file():
        raise ValueError(f"output {path} is not a directory: choose another output")
    if not directory and path.is_dir():
        raise ValueError(f"output {path} is a directory: give the path of a file in it")


def _check_local(path: Path, directory: bool) -> None:
    real = Path(os.path.realpath(path))
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
