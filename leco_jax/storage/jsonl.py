"""JSONL rows, each with the place that it came from, so that errors can name it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

from leco_jax.storage.files import encode_json, parse_json, replacing

_SHOWN = 12  # fields that a message lists


def numbered_lines(path: Path | Traversable) -> Iterator[tuple[int, bytes]]:
    """Yields the lines that are not blank with their numbers, from 1 on."""
    # Only \n ends a line: str.splitlines would also cut at U+2028 inside a JSON text.
    for number, line in enumerate(path.read_bytes().split(b"\n"), 1):
        if line.strip():
            yield number, line


def parse_row(line: bytes, *, fields: Iterable[str] = ()) -> dict[str, Any]:
    """Returns the row of a line.

    Raises:
      ValueError: not a JSON object (see `files.parse_json`), or a field is missing or not a string.
    """
    row = parse_json(line)
    if not isinstance(row, dict):
        raise ValueError(f"a row must be a JSON object, not a {type(row).__name__}")
    check_texts(row, fields)
    return row


def check_texts(row: Mapping[str, Any], fields: Iterable[str]) -> None:
    """Raises ValueError if a field is missing or not a string."""
    bad = [name for name in fields if not isinstance(row.get(name), str)]
    if bad:
        raise ValueError(f"needs the text fields {', '.join(bad)}; it has {field_names(row)}")


def field_names(row: Mapping[str, Any]) -> str:
    """A row's fields for a message, which stays short whatever they are called."""
    names = [name[:40] for name in sorted(row)[:_SHOWN]]
    return ", ".join(names + ["..."] * (len(row) > _SHOWN)) or "none"


def read_rows(
    path: Path | Traversable, *, fields: Iterable[str] = ()
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yields (place, row) for each line that is not blank; the place is "FILE, line N".

    Raises:
      ValueError: as `parse_row` with the names of the needed text fields; it names the line.
    """
    names = list(fields)
    for number, line in numbered_lines(path):
        place = f"{path}, line {number}"
        try:
            row = parse_row(line, fields=names)
        except ValueError as error:
            raise ValueError(f"{place}: {error}") from None
        yield place, row


def write_rows(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Writes a JSONL file whole or not at all; ValueError for NaN and infinity, by place."""
    with replacing(path) as draft, draft.open("wb") as file:
        for number, row in enumerate(rows, 1):
            name = f" (id {row['id']!r})" if "id" in row else ""
            file.write(encode_row(row, place=f"{path}, row {number}{name}"))


def encode_row(row: Mapping[str, Any], *, place: str) -> bytes:
    """One line of a JSONL file with its line break; `place` is what an error names."""
    try:
        return encode_json(row).encode() + b"\n"
    except ValueError as error:
        raise ValueError(f"{place}: {error}") from None
