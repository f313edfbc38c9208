"""JSONL rows, each with the place that it came from, so that errors can name it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

from leco_jax.storage.files import replacing


def numbered_lines(path: Path | Traversable) -> Iterator[tuple[int, bytes]]:
    """Yields the lines that are not blank with their numbers, from 1 on."""
    # Only \n ends a line: str.splitlines would also cut at U+2028 inside a JSON text.
    for number, line in enumerate(path.read_bytes().split(b"\n"), 1):
        if line.strip():
            yield number, line


def parse_row(line: bytes, *, fields: Iterable[str]) -> dict[str, Any]:
    """Returns the row of a line.

    Raises:
      ValueError: it is no JSON object or lacks one of the texts.
    """
    try:
        row = json.loads(line)
    except ValueError as error:
        raise ValueError(f"this is no JSON ({error}).") from None
    if not isinstance(row, dict):
        raise ValueError(f"a JSON object is needed, not a {type(row).__name__}.")
    bad = [name for name in fields if not isinstance(row.get(name), str)]
    if bad:
        raise ValueError(f"the row needs the texts {bad}; it has {sorted(row)}.")
    return row


def read_rows(
    path: Path | Traversable, *, fields: Iterable[str]
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yields (place, row) for each line; the place is "FILE, line N".

    Args:
      path: a UTF-8 file with one JSON object per line; blank lines are skipped.
      fields: names of the texts that every row must have.

    Raises:
      ValueError: a line is no JSON object or lacks a field; the message names the line.
    """
    wanted = list(fields)
    for number, line in numbered_lines(path):
        place = f"{path}, line {number}"
        try:
            row = parse_row(line, fields=wanted)
        except ValueError as error:
            raise ValueError(f"{place}: {error}") from None
        yield place, row


def write_rows(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Writes a JSONL file whole or not at all."""
    with replacing(path) as draft, draft.open("w", encoding="utf-8") as file:
        for row in rows:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
