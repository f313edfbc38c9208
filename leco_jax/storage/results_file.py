"""A JSONL file of results that survives being killed: whole lines only, nothing twice."""

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from leco_jax.storage.files import write_bytes
from leco_jax.storage.jsonl import encode_row, parse_row


class ResultsFile:
    """Appends results as they come, and knows after a restart which ones are there.

    Every line is on disk before the next one is written. A line that a kill cut short is removed
    when the file is opened again. One process at a time: see `workdir.lock`.
    """

    def __init__(self, path: Path, *, key: Callable[[dict], Any]):
        """Opens a file, new or left by an earlier run; `key` gives what identifies a result.

        Raises:
          ValueError: a whole line is not a result, or two have one key; nothing is changed.
        """
        self.path = path
        self._key = key
        path.parent.mkdir(parents=True, exist_ok=True)
        self.rows: dict[Any, dict] = {}
        data = path.read_bytes() if path.exists() else b""
        whole = data[: data.rfind(b"\n") + 1]
        for number, line in enumerate(whole.splitlines(), start=1):
            try:
                row = parse_row(line)
                name = key(row)
                if name in self.rows:
                    raise ValueError(f"a second result for {name!r}")
            except (ValueError, KeyError, TypeError) as error:
                raise ValueError(
                    f"{path}, line {number}, is not a result of this program ({error}): choose "
                    "another --workdir, or move the file away"
                ) from None
            self.rows[name] = row
        self._file = path.open("ab")
        self._file.truncate(len(whole))

    def __contains__(self, key: Any) -> bool:
        return key in self.rows

    def append(self, row: dict) -> None:
        """Adds one result and waits until it is on disk; ValueError if its key is there already."""
        key = self._key(row)
        if key in self.rows:
            raise ValueError(f"{self.path} already has a result for {key!r}")
        self._file.write(self._line(key, row))
        self.rows[key] = row
        self._file.flush()
        os.fsync(self._file.fileno())

    def close(self, *, order: Iterable[Any] = ()) -> None:
        """Closes the file, its lines put in the given order of keys first (atomically)."""
        self._file.close()
        first = {key: self.rows[key] for key in order if key in self.rows}
        ordered = first | self.rows  # a dict keeps the place of a key's first appearance
        if list(ordered) != list(self.rows):
            write_bytes(self.path, b"".join(self._line(*item) for item in ordered.items()))
            self.rows = ordered

    def _line(self, key: Any, row: dict) -> bytes:
        return encode_row(row, place=f"{self.path}, result {key!r}")
