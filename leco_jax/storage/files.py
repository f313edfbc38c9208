"""Files and directories that appear whole or not at all; every result is written through here.

A draft is locked (flock) while its writer lives and has the host's name in its own. So the next
writer of the same file can tell a draft in use from one that a killed process left, and removes
the latter.
"""

from __future__ import annotations

import contextlib
import fcntl
import glob
import json
import math
import os
import secrets
import shutil
import socket
import tempfile
import threading
import time
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from leco_jax.storage.paths import as_path, is_remote, object_store

_MAX_DEPTH = 100  # levels of nested JSON; Python's own limit depends on the caller's stack


@contextlib.contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Yields the path of an empty draft that replaces `path` when the block ends without an error.

    The draft is in the same directory (made if missing), under a name that no other writer has and
    with the suffix of `path`. The target of a symbolic link is replaced, not the link. ValueError
    if `path` is a directory or a device. Below gs:// the draft is local, and is uploaded then.
    """
    if is_remote(path):
        with tempfile.TemporaryDirectory() as directory:
            local = Path(directory) / as_path(path).name
            local.touch()
            yield local
            object_store(path).upload(local, as_path(path))
        return
    target = Path(os.path.realpath(path))
    if target.exists() and not target.is_file():
        raise ValueError(f"{path} is not a regular file: name another one to write")
    target.parent.mkdir(parents=True, exist_ok=True)
    with _draft(target, directory=False) as draft:
        yield draft
        if target.exists():
            draft.chmod(target.stat().st_mode)
        os.replace(draft, target)


@contextlib.contextmanager
def new_directory(path: str | Path) -> Iterator[Path]:
    """Yields an empty draft directory that becomes `path` when the block ends without an error.

    If another process has made `path` meanwhile, that one stays and the draft is removed.
    """
    target = Path(path)
    with scratch_directory(target) as draft:
        yield draft
        try:
            draft.rename(target)
        except OSError:
            if not target.is_dir():
                raise


def replace_directory(path: Path, made: Path, *, last: str) -> None:
    """Moves a finished directory to `path`, in the place of one that may be there.

    `last` is the file that tells whole directories from others: below gs://, where files move one
    by one, it comes last.
    """
    if is_remote(path):
        object_store(path).move_tree(made, path, last=last)
        return
    with scratch_directory(path) as old:
        if path.exists():
            path.rename(old / "old")
        made.rename(path)


def remove_directory(path: Path) -> None:
    """Removes a directory with all that it holds."""
    if is_remote(path):
        object_store(path).remove_tree(path)
    else:
        shutil.rmtree(path)


@contextlib.contextmanager
def scratch_directory(path: str | Path) -> Iterator[Path]:
    """Yields an empty directory on the file system of `path`, removed when the block ends."""
    target = as_path(path)
    if is_remote(target):
        with _remote_scratch(target) as draft:
            yield draft
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    with _draft(target, directory=True) as draft:
        yield draft


@contextlib.contextmanager
def local_directory(path: Path) -> Iterator[Path]:
    """Yields a local directory for programs that know no other; its files are at `path` then."""
    if not is_remote(path):
        yield path
        return
    with tempfile.TemporaryDirectory() as directory:
        yield Path(directory)
        object_store(path).upload(Path(directory), path)


@contextlib.contextmanager
def local_copy(path: Path) -> Iterator[Path]:
    """Yields a local file that holds what `path` does, for programs that know no other."""
    if not is_remote(path):
        yield path
        return
    with tempfile.TemporaryDirectory() as directory:
        object_store(path).download(path, Path(directory) / path.name)
        yield Path(directory) / path.name


def remove_drafts(directory: str | Path) -> None:
    """Removes what killed writers of this host left anywhere below a directory."""
    if is_remote(directory):
        return  # drafts are local there
    for left in Path(directory).rglob(f".*-{glob.escape(socket.gethostname())}-*.tmp*"):
        _remove_unless_locked(left)


def process_start(pid: int) -> str:
    """What tells a process of this host from others that had its number; "none" without one."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        # Behind the name, which may hold anything: the state, and as 20th the start in clock ticks.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return "none"
    return "none" if fields[0] == "Z" else f"{boot}-{fields[19]}"


class Ranges:
    """The bytes of a file, of which parts are read."""

    def __init__(self, path: Path):
        """Opens a file."""
        self._path = path
        self._file = os.open(path, os.O_RDONLY)
        weakref.finalize(self, os.close, self._file)
        self.size = os.fstat(self._file).st_size
        # Each part is read whole: what the kernel would read beyond it belongs to other hosts.
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(self._file, 0, 0, os.POSIX_FADV_RANDOM)

    def read(self, start: int, length: int) -> bytes | bytearray:
        """`length` bytes from `start` on; ValueError if the file ends before."""
        data = bytearray(length)
        view, done = memoryview(data), 0
        while done < length:
            count = os.preadv(self._file, [view[done:]], start + done)
            if not count:
                raise ValueError(f"{self._path}: ends at {start + done}")
            done += count
        return data


class RemoteRanges(Ranges):
    """The bytes of an object below gs://."""

    def __init__(self, path: Path):
        """Asks for its size."""
        self._path, self.size = path, path.stat().st_size

    def read(self, start: int, length: int) -> bytes | bytearray:
        """As of a file."""
        if not length:
            return b""
        data = object_store(self._path).read_range(self._path, start, length)
        if len(data) != length:
            raise ValueError(f"{self._path}: ends at {start + len(data)}")
        return data


def open_ranges(path: Path) -> Ranges:
    """What reads parts of a file."""
    return RemoteRanges(path) if is_remote(path) else Ranges(path)


class Lines:
    """A file to which lines are added; a `durable` one outlives the host."""

    def __init__(self, path: Path, *, length: int, durable: bool):
        """Opens a file, made if missing, to go on behind its first `length` bytes."""
        self._durable = durable
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("ab")
        self._file.truncate(length)

    def add(self, lines: bytes) -> None:
        """Adds whole lines, which outlive this process."""
        self._file.write(lines)
        self._file.flush()
        if self._durable:
            os.fsync(self._file.fileno())

    def flush(self) -> None:
        """Waits until all is written: it is."""

    def close(self) -> None:
        """Ends."""
        self._file.close()


class RemoteLines:
    """Lines added to an object below gs://: in objects of their own, whose names begin with its.

    A new one is written at most every few seconds; a kill loses the lines since then.
    """

    _SECONDS = 5.0

    def __init__(self, path: Path):
        """Makes the object if it is missing."""
        self._path, self._remote = path, object_store(path)
        self._waiting: list[bytes] = []
        self._changing = threading.Lock()
        self._timer: threading.Timer | None = None
        self._written = -math.inf
        if not path.is_file():
            self._remote.write(path, b"")

    def add(self, lines: bytes) -> None:
        """Adds whole lines."""
        with self._changing:
            self._waiting.append(lines)
            left = self._written + self._SECONDS - time.monotonic()
            if left <= 0:
                self._write()
            elif self._timer is None:
                self._timer = threading.Timer(left, self._write_later)
                self._timer.daemon = True
                self._timer.start()

    def flush(self) -> None:
        """Writes what waits."""
        with self._changing:
            self._write()

    def close(self) -> None:
        """Ends, all written."""
        self.flush()
        if self._timer is not None:
            self._timer.cancel()

    def _write_later(self) -> None:
        with self._changing:
            self._timer = None
            # What fails here waits for the next call, which says so.
            with contextlib.suppress(OSError):
                self._write()

    def _write(self) -> None:
        if any(self._waiting):
            name = f"{self._path.name}.{time.time_ns():020}"
            self._remote.write(self._path.with_name(name), b"".join(self._waiting))
            self._waiting.clear()
            self._written = time.monotonic()


def added(path: Path) -> list[Path]:
    """The objects below gs:// that `RemoteLines` wrote behind `path`, in order; else none."""
    return sorted(path.parent.glob(f"{path.name}.[0-9]*")) if is_remote(path) else []


def settle(path: Path, data: bytes) -> None:
    """Writes a file anew, with what `RemoteLines` wrote behind it."""
    behind = added(path)
    write_bytes(path, data)
    for file in behind:
        file.unlink()


def open_lines(path: Path, *, length: int, durable: bool = True) -> Lines | RemoteLines:
    """What adds lines to a file behind its first `length` bytes; an object is not cut."""
    return RemoteLines(path) if is_remote(path) else Lines(path, length=length, durable=durable)


def write_text(path: str | Path, text: str) -> None:
    """Writes a UTF-8 text file whole or not at all."""
    write_bytes(path, text.encode())


def write_bytes(path: str | Path, data: bytes) -> None:
    """Writes a file whole or not at all."""
    with replacing(path) as draft:
        draft.write_bytes(data)


def write_json(path: str | Path, value: Any) -> None:
    """Writes a JSON file whole or not at all; ValueError for a NaN or infinity."""
    write_text(path, encode_json(value, indent=2) + "\n")


def read_json(path: str | Path) -> Any:
    """Reads a JSON file; ValueError as `parse_json`, with the file's name."""
    try:
        return parse_json(as_path(path).read_bytes())
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def parse_json(data: bytes) -> Any:
    """The value of a JSON text in UTF-8.

    Raises:
      ValueError: it is not JSON (NaN and infinities are not), nested more than 100 levels deep, or
        holds half of a surrogate pair, which cannot be written again.
    """
    try:
        text = data.decode("utf-8-sig")
        value = json.loads(text, parse_constant=_refuse_constant)
        if "\\u" in text:
            json.dumps(value, ensure_ascii=False).encode()
    except RecursionError:
        raise ValueError("JSON nested too deeply") from None
    except UnicodeEncodeError:
        raise ValueError("not valid text: half of a surrogate pair") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"not valid JSON ({error.msg} at character {error.pos + 1})") from None
    except ValueError as error:
        raise ValueError(f"not valid JSON ({error})") from None
    if text.count("[") + text.count("{") > _MAX_DEPTH and _deeper(value, _MAX_DEPTH):
        raise ValueError(f"JSON nested more than {_MAX_DEPTH} levels deep")
    return value


def encode_json(value: Any, *, indent: int | None = None) -> str:
    """The JSON text of a value; ValueError names the first NaN or infinity in it by its path."""
    try:
        return json.dumps(value, indent=indent, ensure_ascii=False, allow_nan=False)
    except ValueError:
        name, number = next(_not_finite(value, ""), ("", None))
        raise ValueError(
            f"{name or 'the value'} is {number}: JSON has no number that is not finite"
        ) from None


@contextlib.contextmanager
def _draft(target: Path, *, directory: bool) -> Iterator[Path]:
    """A locked draft beside `target`; removed at the end if it is still there."""
    # Drafts of other hosts stay: not every file system shows one host's locks to another.
    start = f".{target.stem[:40]}-{socket.gethostname()}-"
    end = f".tmp{target.suffix[:40]}"
    for left in target.parent.glob(f"{glob.escape(start)}*{glob.escape(end)}"):
        _remove_unless_locked(left)
    while True:
        draft = target.with_name(f"{start}{secrets.token_hex(4)}{end}")
        if directory:
            draft.mkdir()
        else:
            draft.touch(exist_ok=False)
        with contextlib.suppress(FileNotFoundError):  # removed before it was locked
            handle = os.open(draft, os.O_RDONLY if directory else os.O_RDWR)
            with contextlib.suppress(OSError):  # a file system without locks
                fcntl.flock(handle, fcntl.LOCK_EX)
            if draft.exists():
                break
            os.close(handle)
    try:
        yield draft
    finally:
        _remove(draft)
        os.close(handle)


@contextlib.contextmanager
def _remote_scratch(target: Path) -> Iterator[Path]:
    """A directory beside `target` that names its process, so that a later one can remove it."""
    remote, start = object_store(target), f".{target.name}-{socket.gethostname()}-"
    for left in target.parent.glob(f"{start}*.tmp"):
        pid, _, started = left.name.removeprefix(start).removesuffix(".tmp").partition("-")
        if process_start(int(pid)) != started:
            remote.remove_tree(left)
    draft = target.with_name(f"{start}{os.getpid()}-{process_start(os.getpid())}.tmp")
    remote.write(draft / "made", b"")  # else nobody sees the directory
    try:
        yield draft
    finally:
        remote.remove_tree(draft)


def _remove_unless_locked(draft: Path) -> None:
    with contextlib.suppress(OSError):  # in use, or gone meanwhile
        handle = os.open(draft, os.O_RDONLY if draft.is_dir() else os.O_RDWR)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _remove(draft)
        finally:
            os.close(handle)


def _remove(draft: Path) -> None:
    if draft.is_dir():
        shutil.rmtree(draft, ignore_errors=True)
    else:
        draft.unlink(missing_ok=True)


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not a JSON number")


def _deeper(value: Any, levels: int) -> bool:
    layer = [value]
    for _ in range(levels):
        layer = [
            child
            for item in layer
            if isinstance(item, dict | list)
            for child in (item.values() if isinstance(item, dict) else item)
        ]
    return any(isinstance(item, dict | list) for item in layer)


def _not_finite(value: Any, name: str) -> Iterator[tuple[str, float]]:
    if isinstance(value, float) and not math.isfinite(value):
        yield name, value
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _not_finite(item, f"{name}.{key}" if name else str(key))
    elif isinstance(value, list | tuple):
        for i, item in enumerate(value):
            yield from _not_finite(item, f"{name}[{i}]")
