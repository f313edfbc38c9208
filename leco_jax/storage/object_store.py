"""Object storage (gs://) behind the methods of `pathlib.Path`; `paths.as_path` makes such paths.

An object appears whole or not at all, is replaced whole, and cannot be appended to or renamed. A
directory is what names begin with: it needs no making and is there while an object lies below it.
The client is the one of Orbax's checkpoints: etils' epath over gcsfs.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

# One client for all, whether TensorFlow is installed or not. Before epath looks.
os.environ.setdefault("EPATH_USE_TF", "false")

import fsspec
import gcsfs.retry
from etils.epath.gpath import PosixGPath

# Several processes write in one directory: a remembered listing would hide their objects.
fsspec.config.conf.setdefault("gcs", {}).setdefault("use_listings_cache", False)


class ObjectPath(PosixGPath):
    """A path below gs://BUCKET."""

    def absolute(self) -> ObjectPath:
        """Itself: there is no working directory."""
        return self

    def resolve(self, strict: bool = False) -> ObjectPath:
        """Itself: there are no links."""
        return self

    def expanduser(self) -> ObjectPath:
        """Itself."""
        return self

    def is_file(self) -> bool:
        """Whether there is such an object."""
        return store().isfile(str(self))

    def read_bytes(self) -> bytes:
        """The whole object."""
        with explained(self):
            return store().cat_file(str(self))

    def stat(self) -> Any:
        """`st_size`, and as times in nanoseconds what each writing of an object changes."""
        about = store().info(str(self))
        changed = 1000 * int(about.get("generation") or 0)
        return SimpleNamespace(st_size=about["size"], st_mtime_ns=changed, st_ctime_ns=changed)

    def glob(self, pattern: str) -> Iterator[ObjectPath]:
        """The objects and directories of a pattern, ** too."""
        return (ObjectPath(f"gs://{name}") for name in store().glob(f"{self}/{pattern}"))

    def mkdir(self, mode: int | None = None, parents: bool = False, exist_ok: bool = False) -> None:
        """Does nothing."""

    def rmdir(self) -> None:
        """Does nothing."""


def store() -> Any:
    """The client, as epath makes it, so that there is one."""
    return fsspec.filesystem("gcs", finalize_on_close=True)


@contextlib.contextmanager
def explained(path: Any) -> Iterator[None]:
    """Turns what the client raises (no such bucket, no credentials) into an OSError with a name."""
    try:
        yield
    except FileNotFoundError:
        raise FileNotFoundError(f"{path}: there is no such object or bucket") from None
    except OSError as error:
        if str(path) in str(error):
            raise
        raise type(error)(f"{path}: {error}") from None
    except (gcsfs.retry.HttpError, gcsfs.retry.GoogleAuthError) as error:
        raise OSError(f"{path}: {' '.join(str(error).split())}") from None


def upload(local: Path, path: Any) -> None:
    """Writes a local file as an object, or the files of a local directory below a path."""
    with explained(path):
        if local.is_dir():
            for file in sorted(local.rglob("*")):
                if file.is_file():
                    store().put_file(str(file), str(path / file.relative_to(local).as_posix()))
        else:
            store().put_file(str(local), str(path))


def download(path: Any, local: Path) -> None:
    """Copies an object to a local file."""
    with explained(path):
        store().get_file(str(path), str(local))


def read_range(path: Any, start: int, length: int) -> bytes:
    """A part of an object."""
    with explained(path):
        return store().cat_file(str(path), start=start, end=start + length)


def write(path: Any, data: bytes) -> None:
    """Writes an object."""
    with explained(path):
        store().pipe_file(str(path), data)


def create(path: Any, data: bytes) -> bool:
    """Writes an object unless there is one; whether it did."""
    with explained(path):
        try:
            store().pipe_file(str(path), data, mode="create")
        except FileExistsError:
            return False
    return True


def remove_generation(path: Any, generation: int) -> None:
    """Removes an object unless another one has taken its place."""
    bucket, _, name = str(path).removeprefix("gs://").partition("/")
    with contextlib.suppress(FileNotFoundError, FileExistsError):
        store().call("DELETE", "b/{}/o/{}", bucket, name, ifGenerationMatch=generation)


def below(path: Any) -> list[ObjectPath]:
    """All objects below a directory, by name."""
    return [ObjectPath(f"gs://{name}") for name in sorted(store().find(str(path)))]


def remove_tree(path: Any) -> None:
    """Removes what lies below a directory."""
    for file in below(path):
        file.unlink(missing_ok=True)


def move_tree(made: Any, path: Any, *, last: str) -> None:
    """Moves what lies below `made` in the place of what lies below `path`.

    The file `last` tells whole directories: it is the first to go and the last to come, so that a
    move that was cut short can be made again.
    """
    (path / last).unlink(missing_ok=True)
    remove_tree(path)
    files = below(made)
    for file in sorted(files, key=lambda file: file == made / last):
        store().cp_file(str(file), str(path / file.relative_to(made)))
    for file in sorted(files, key=lambda file: file != made / last):
        file.unlink(missing_ok=True)
