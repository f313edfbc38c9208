"""A JSONL file of results that survives being killed: whole lines only, nothing twice."""

import json
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from leco_jax.storage.files import replacing


class ResultsFile:
    """Appends results as they come, and knows after a restart which ones are there.

    Every line is on disk before the next one is begun. A line that a kill cut short is removed
    when the file is opened again.
    """

    def __init__(self, path: Path, *, key: Callable[[dict], Any]):
        """Opens a file, new or left by an earlier run.

        Args:
            path: the file; its directory is made if missing.
            key: what identifies a result; a second one with the same key is an error.

        Raises:
            ValueError: a whole line is no JSON object, so the file is not ours to add to.
        """
        self.path = path
        self._key = key
        path.parent.mkdir(parents=True, exist_ok=True)
        self.rows: dict[Any, dict] = {}
        whole = _whole_lines(path)
        for number, line in enumerate(whole.splitlines(), start=1):
            try:
                row = json.loads(line)
                self.rows[key(row)] = row
            except (ValueError, KeyError, TypeError) as error:
                raise ValueError(
                    f"{path}, line {number}, is no result of this program ({error}): choose "
                    "another --workdir, or move the file away."
                ) from None
        self._file = path.open("ab")
        self._file.truncate(len(whole))

    def __contains__(self, key: Any) -> bool:
        return key in self.rows

    def append(self, row: dict) -> None:
        """Adds one result and waits until it is on disk."""
        key = self._key(row)
        if key in self.rows:
            raise ValueError(f"{self.path} already has a result for {key!r}.")
        self.rows[key] = row
        self._file.write(_line(row))
        self._file.flush()
        os.fsync(self._file.fileno())

    def close(self, *, order: Iterable[Any] = ()) -> None:
        """Closes the file, its lines put in the given order of keys first (atomically)."""
        self._file.close()
        wanted = {key: self.rows[key] for key in order if key in self.rows}
        ordered = wanted | self.rows  # a dict keeps the place of a key's first appearance
        if list(ordered) != list(self.rows):
            with replacing(self.path) as draft:
                draft.write_bytes(b"".join(_line(row) for row in ordered.values()))
            self.rows = ordered


def _line(row: dict) -> bytes:
    return json.dumps(row, ensure_ascii=False, allow_nan=False).encode() + b"\n"


def _whole_lines(path: Path) -> bytes:
    data = path.read_bytes() if path.exists() else b""
    return data[: data.rfind(b"\n") + 1]
