"""From the rows of a source file to problems, through array_record files: what data sets share."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from leco_jax.datasets.prepared import prepared_builder, records
from leco_jax.datasets.problem import Problem
from leco_jax.storage.files import read_json
from leco_jax.storage.paths import as_path
from leco_jax.text.gold import make_each, read_gold

Rows = Iterable[tuple[str, dict[str, Any]]]  # each with its place: "FILE, line 3"
_FIELDS = {"key": str, "question": str, "gold": str, "solution": str}


def prepared_problems(
    name: str,
    split: str,
    files: Sequence[Path],
    rows: Callable[[], Rows],
    make: Callable[[dict[str, Any]], dict[str, str]],
    *,
    kind: str,
    description: str,
) -> list[Problem]:
    """Returns the problems of a split, prepared once for each content of its files.

    Args:
      name: of the data set.
      split: of it, as files have it.
      files: what is read; their content names the prepared files.
      rows: gives the rows of the files.
      make: makes "question" and "gold" of a row, and where there are such "solution" and "key",
        which names the problem in place of its number.
      kind: of the answers.
      description: one sentence.

    Raises:
      ValueError: a malformed row, or gold answers that cannot be read; the message names them.
    """

    def checked(_: str, row: dict[str, Any]) -> dict[str, str]:
        try:
            made = dict.fromkeys(_FIELDS, "") | make(row)
        except (KeyError, TypeError, AttributeError, IndexError) as error:
            raise ValueError(f"is not a row of {name}: {error!r}") from None
        read_gold(made["gold"], kind=kind)
        return made

    builder = prepared_builder(
        name,
        split,
        lambda: make_each(files[0], rows(), checked),
        fields=_FIELDS,
        source=content_hash(files),
        description=description,
    )
    return [
        Problem(
            id=f"{name}/{split}/{row['key'] or row['row']}",
            question=row["question"],
            answer=read_gold(row["gold"], kind=kind),
            gold=row["gold"],
            kind=kind,
            solution=row["solution"] or None,
        )
        for row in records(builder, split)
    ]


def content_hash(files: Iterable[Path]) -> str:
    """A hash of files' contents in their order."""
    total = hashlib.sha256()
    for file in files:
        total.update(hashlib.sha256(file.read_bytes()).digest())
    return total.hexdigest()


def source_file(
    data_dir: str | Path | None, names: Sequence[str], *, data_set: str, origin: str
) -> Path:
    """Returns the first of `names` that is in the directory.

    Raises:
      FileNotFoundError: no directory was given, or none of the files is there; the message says
        which they are and where they come from.
    """
    wanted = " or ".join(names)
    if data_dir is None:
        raise FileNotFoundError(
            f"{data_set} is not downloaded: give data_dir, a directory with {wanted} ({origin})"
        )
    directory = as_path(data_dir).expanduser()
    for name in names:
        if (directory / name).is_file():
            return directory / name
    raise FileNotFoundError(f"{data_set} needs {wanted} in {directory} ({origin})")


def json_rows(path: Path, *, field: str | None = None) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yields (place, row) of a JSON file: a list of objects, or an object with one in `field`."""
    content = read_json(path)
    rows = content.get(field) if field is not None and isinstance(content, dict) else content
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        named = f' in "{field}"' if field else ""
        raise ValueError(f"{path} does not hold a list of JSON objects{named}")
    for number, row in enumerate(rows):
        yield f"{path}, example {number}", row


def with_options(question: str, options: Iterable[tuple[str, str]]) -> str:
    """A question and its options, a line each, as BIG-Bench Hard writes them: "(A) bank"."""
    lines = [f"({label.upper()}) {text.strip()}" for label, text in options]
    return "\n".join([question.strip(), "Options:", *lines])
