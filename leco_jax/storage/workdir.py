"""A directory that belongs to one configuration, and to one process at a time."""

from __future__ import annotations

import contextlib
import datetime
import errno
import fcntl
import json
import logging
import os
import secrets
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from leco_jax.storage.files import process_start, read_json, write_json
from leco_jax.storage.paths import is_remote, object_store

_log = logging.getLogger(__name__)
_LOCK = ".lock"


class BusyError(ValueError):
    """Another process writes in the directory; the message names it."""


@contextlib.contextmanager
def lock(workdir: Path) -> Iterator[None]:
    """Holds a work directory (of several processes, the first alone); BusyError if another does.

    It is made if missing, and removed if it is then still empty. The kernel frees the lock of a
    process that was killed; below gs:// the next process on the same host does, and elsewhere the
    message says how.
    """
    with _lock_object(workdir / _LOCK) if is_remote(workdir) else _lock_file(workdir / _LOCK):
        yield


def _holder() -> str:
    since = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    return f"{socket.gethostname()}, process {os.getpid()}, since {since}"


@contextlib.contextmanager
def _lock_object(path: Path) -> Iterator[None]:
    """Holds a lock that is there while an object is; the object names its process."""
    remote = object_store(path)
    own = [socket.gethostname(), str(os.getpid()), process_start(os.getpid()), secrets.token_hex(4)]
    text = f"{_holder()}\n{' '.join(own)}"
    while not remote.create(path, text.encode()):
        with contextlib.suppress(FileNotFoundError):  # removed meanwhile
            generation, held = path.stat().st_mtime_ns // 1000, path.read_bytes().decode()
            if held == text:
                break  # the answer to the first attempt was lost
            named, _, other = held.partition("\n")
            host, pid, started, *_ = [*other.split(), "", "", ""]
            if not pid or host != own[0] or process_start(int(pid)) == started:
                raise BusyError(
                    f"{path.parent} is in use by {named or 'another process'}: wait until it ends, "
                    "or choose another --workdir. If that process is gone, remove its lock: gcloud "
                    f"storage rm {path}"
                )
            remote.remove_generation(path, generation)
    generation = path.stat().st_mtime_ns // 1000
    try:
        yield
    finally:
        remote.remove_generation(path, generation)


@contextlib.contextmanager
def _lock_file(path: Path) -> Iterator[None]:
    new = not path.parent.exists()
    handle = _locked(path)
    try:
        os.ftruncate(handle, 0)
        os.write(handle, _holder().encode())
        yield
    finally:
        path.unlink(missing_ok=True)  # while it is locked: `_locked` sees that it is gone
        os.close(handle)
        if new:
            with contextlib.suppress(OSError):
                path.parent.rmdir()


def _locked(path: Path) -> int:
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
                holder = os.pread(handle, 1000, 0).decode(errors="replace")
                os.close(handle)
                raise BusyError(
                    f"{path.parent} is in use by {holder or 'another process'}: wait until it "
                    "ends, or choose another --workdir"
                ) from None
            _log.warning("%s: no locks here (%s); run one process at a time", path, error)
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(handle), path.stat()):
                return handle
        os.close(handle)  # its last holder removed the file before this process locked it


def claim(workdir: Path, config: dict) -> None:
    """Writes the config down, or compares it with what began the directory (`refuse_other`)."""
    refuse_other(workdir, config)
    path = workdir / "config.json"
    if not path.exists():
        write_json(path, config)


def refuse_other(workdir: Path, config: dict) -> None:
    """Compares the config with the one that began this directory, if any; writes nothing.

    Raises:
      ValueError: the directory was begun with another config, or its config.json is damaged.
    """
    path = workdir / "config.json"
    if not path.exists():
        return
    try:
        recorded = read_json(path)
    except ValueError as error:
        raise ValueError(
            f"{error}. Remove this file if the directory was begun with this very config, or "
            "choose another --workdir"
        ) from None
    if recorded != config:
        names = ", ".join(differing(recorded, config, "config"))
        raise ValueError(
            f"{workdir} was begun with another config (differing: {names}). Choose another "
            "--workdir, or give the same config to go on"
        )


def differing(one: Any, other: Any, name: str) -> list[str]:
    """The names of the leaves in which two JSON trees called `name` differ."""
    return sorted({leaf for leaf, _ in set(_flat(one, name)) ^ set(_flat(other, name))})


def _flat(tree: Any, name: str) -> Iterator[tuple[str, str]]:
    if isinstance(tree, dict):
        for key, value in tree.items():
            yield from _flat(value, f"{name}.{key}")
    else:
        yield name, json.dumps(tree)
