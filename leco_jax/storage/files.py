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
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_MAX_DEPTH = 100  # levels of nested JSON; Python's own limit depends on the caller's stack


@contextlib.contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Yields the path of an empty draft that replaces `path` when the block ends without an error.

    The draft is in the same directory (made if missing), under a name that no other writer has and
    with the suffix of `path`. The target of a symbolic link is replaced, not the link. ValueError
    if `path` is a directory or a device.
    """
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


def replace_directory(path: Path, made: Path) -> None:
    """Moves a finished directory to `path`, in the place of one that may be there."""
    with scratch_directory(path) as old:
        if path.exists():
            path.rename(old / "old")
        made.rename(path)


@contextlib.contextmanager
def scratch_directory(path: str | Path) -> Iterator[Path]:
    """Yields an empty directory on the file system of `path`, removed when the block ends."""
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    with _draft(target, directory=True) as draft:
        yield draft


def remove_drafts(directory: str | Path) -> None:
    """Removes what killed writers of this host left anywhere below a directory."""
    for left in Path(directory).rglob(f".*-{glob.escape(socket.gethostname())}-*.tmp*"):
        _remove_unless_locked(left)


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
        return parse_json(Path(path).read_bytes())
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
