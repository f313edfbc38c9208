"""Hashes of files by what they hold; large files are read once and remembered."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import time
from pathlib import Path

from leco_jax.storage.files import read_json, write_json
from leco_jax.storage.paths import as_path, cache_dir

_LARGE = 1 << 20  # bytes; smaller files are hashed each time
_SETTLED = 10**8  # ns; a younger file may change again without a change of its time


def content_hash(path: str | Path) -> str:
    """A hash of a file's bytes: BLAKE2b, 16 bytes in hex.

    A large file's hash is kept in the cache directory while its size and times stay the same.
    """
    path = as_path(path).resolve()
    stat = path.stat()
    if stat.st_size < _LARGE:
        return hashlib.blake2b(path.read_bytes(), digest_size=16).hexdigest()
    name = hashlib.blake2b(str(path).encode(), digest_size=16).hexdigest()
    memory = cache_dir() / "hashes" / f"{name}.json"
    state = [str(path), stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns]
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        remembered = read_json(memory)
        if remembered["file"] == state:
            return str(remembered["hash"])
    with path.open("rb") as file:
        new = functools.partial(hashlib.blake2b, digest_size=16)
        digest = hashlib.file_digest(file, new).hexdigest()
    if time.time_ns() - max(stat.st_mtime_ns, stat.st_ctime_ns) > _SETTLED:
        with contextlib.suppress(OSError):  # a cache that cannot be written costs time alone
            write_json(memory, {"file": state, "hash": digest})
    return digest
