"""Files and directories that appear whole or not at all; every result is written through here."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any


@contextlib.contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Gives a draft to write; it takes the place of `path` when the block ends without an error.

    The draft is in the same directory (made if missing) under a name of its own, so that two
    writers never share one; it keeps the suffix of `path`. What `path` links to is replaced, not
    the link. After an error the draft is removed and `path` is as it was.
    """
    target = Path(os.path.realpath(path))
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(
        prefix=f".{target.stem}-", suffix=f".tmp{target.suffix}", dir=target.parent
    )
    os.close(handle)
    draft = Path(name)
    try:
        yield draft
        draft.chmod(target.stat().st_mode if target.exists() else 0o666 & ~_umask())
        os.replace(draft, target)
    finally:
        draft.unlink(missing_ok=True)


@contextlib.contextmanager
def new_directory(path: str | Path) -> Iterator[Path]:
    """Gives an empty draft directory; it becomes `path` when the block ends without an error.

    If another process has made `path` meanwhile, that one stays and the draft is removed.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=f".{target.name}-", suffix=".tmp", dir=target.parent))
    try:
        yield draft
        draft.chmod(0o777 & ~_umask())
        try:
            draft.rename(target)
        except OSError:
            if not target.is_dir():
                raise
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def write_text(path: str | Path, text: str) -> None:
    """Writes a UTF-8 text file whole or not at all."""
    with replacing(path) as draft:
        draft.write_text(text, encoding="utf-8")


def write_json(path: str | Path, value: Any) -> None:
    """Writes a JSON file whole or not at all.

    Raises:
      ValueError: `value` holds NaN or an infinity, which JSON does not have.
    """
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
