"""A JSONL file of results that survives being killed: whole lines only, nothing twice."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from leco_jax.storage.files import added, open_lines, settle
from leco_jax.storage.jsonl import encode_row, parse_row


def part_path(path: Path, process: int | str) -> Path:
    """Where a process writes its part of a results file, as one of several."""
    return path.with_name(f"{path.stem}.part{process}{path.suffix}")


class ResultsFile:
    """Appends results as they come, and knows after a restart which ones are there.

    Every line is on disk before the next one is written, below gs:// soon after (`RemoteLines`). A
    line that a kill cut short is removed when the file is opened again. One process at a time (see
    `workdir.lock`): of several, each appends to a part of its own (`part_path`), and one of them
    joins the parts.
    """

    def __init__(self, path: Path, *, key: Callable[[dict], Any]):
        """Opens a file, new or left by an earlier run; `key` gives what identifies a result.

        Raises:
          ValueError: a whole line is not a result, or two have one key; nothing is changed.
        """
        self.path = path
        self._key = key
        self.rows, length = self._read(path)
        self._lines = open_lines(path, length=length)

    def __contains__(self, key: Any) -> bool:
        return key in self.rows

    def append(self, row: dict) -> None:
        """Adds one result and waits until it is on disk; ValueError if its key is there already."""
        key = self._key(row)
        if key in self.rows:
            raise ValueError(f"{self.path} already has a result for {key!r}")
        self._lines.add(self._line(key, row))
        self.rows[key] = row

    def join(self) -> int:
        """Takes the rows of all parts over and removes the parts; returns how many were new.

        A row of a part that is there already is left out: a kill came before the part was removed.

        Raises:
          ValueError: a line is not a result, or two different ones have one key.
        """
        parts = sorted(self.path.parent.glob(part_path(self.path, "*").name))
        new: dict[Any, dict] = {}
        for part in parts:
            for key, row in self._read(part)[0].items():
                if self.rows.get(key, new.get(key, row)) != row:
                    raise ValueError(
                        f"{part} and {self.path} have different results for {key!r}: choose "
                        "another --workdir, or move one of the files away"
                    )
                if key not in self.rows:
                    new[key] = row
        self._lines.add(b"".join(self._line(key, row) for key, row in new.items()))
        self._lines.flush()
        self.rows |= new
        for part in parts:
            for file in [*added(part), part]:
                file.unlink()
        return len(new)

    def close(self, *, order: Iterable[Any] = ()) -> None:
        """Closes the file, its lines put in the given order of keys first (atomically)."""
        self._lines.close()
        first = {key: self.rows[key] for key in order if key in self.rows}
        ordered = first | self.rows  # a dict keeps the place of a key's first appearance
        if list(ordered) != list(self.rows) or added(self.path):
            settle(self.path, b"".join(self._line(*item) for item in ordered.items()))
            self.rows = ordered

    def _read(self, path: Path) -> tuple[dict[Any, dict], int]:
        """The rows of a file's whole lines, and the bytes of these."""
        rows: dict[Any, dict] = {}
        data = path.read_bytes() if path.exists() else b""
        whole = data[: data.rfind(b"\n") + 1]
        self._add_lines(rows, path, whole, again=False)
        for file in added(path):
            # A kill may have come between their being taken over and their removal.
            self._add_lines(rows, file, file.read_bytes(), again=True)
        return rows, len(whole)

    def _add_lines(self, rows: dict[Any, dict], path: Path, lines: bytes, *, again: bool) -> None:
        """Adds the rows of whole lines; `again`: a row that is there already does no harm."""
        for number, line in enumerate(lines.splitlines(), start=1):
            try:
                row = parse_row(line)
                name = self._key(row)
                if name in rows and not (again and rows[name] == row):
                    raise ValueError(f"a second result for {name!r}")
            except (ValueError, KeyError, TypeError) as error:
                raise ValueError(
                    f"{path}, line {number}, is not a result of this program ({error}): choose "
                    "another --workdir, or move the file away"
                ) from None
            rows[name] = row

    def _line(self, key: Any, row: dict) -> bytes:
        return encode_row(row, place=f"{self.path}, result {key!r}")
