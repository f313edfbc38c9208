"""Rows of JSONL files and data sets, and the texts to train on that a template makes of them."""

import dataclasses
import itertools
import re
import string
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from leco_jax.datasets.problem import Problem
from leco_jax.storage.jsonl import field_names, read_rows
from leco_jax.storage.paths import as_path

_MOST_LISTED = 20  # bad rows


class DataError(ValueError):
    """Rows that cannot be used; the message names where each stands and why."""


class Row(NamedTuple):
    """One row and where it stands, for messages ("pairs.jsonl, line 12")."""

    where: str
    fields: Mapping[str, Any]


class Example(NamedTuple):
    """A prompt and the completion to learn."""

    where: str
    prompt: str
    completion: str


class Pair(NamedTuple):
    """A prompt with a better and a worse completion."""

    where: str
    prompt: str
    chosen: str
    rejected: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Template:
    r"""How a row's fields become texts; {name} stands for a field."""

    prompt: str = "{prompt}"  # what is given
    completion: str = "{completion}"  # what is learnt (examples)
    chosen: str = "{chosen}"  # the better completion (pairs)
    rejected: str = "{rejected}"  # the worse completion (pairs)
    # a regular expression; what it matches is taken out of every field. GSM8K's calculator marks
    # are `<<.*?>>`
    remove: str | None = None


def fill_template(pattern: str, fields: Mapping[str, Any], *, remove: str | None = None) -> str:
    """Puts a row's fields into a template; {{ and }} become braces, those in fields stay.

    Fields are texts and numbers; what the regular expression `remove` matches is taken out of them.

    Raises:
      DataError: a field is missing or no text; "where" is for the caller to add.
      ValueError: see `template_parts`.
    """
    texts = []
    for literal, name in template_parts(pattern):
        texts.append(literal)
        if name is None:
            continue
        if name not in fields:
            raise DataError(f"no field {name!r}; there are: {field_names(fields)}")
        value = fields[name]
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            raise DataError(f"field {name!r} is a {type(value).__name__}, not a text")
        texts.append(re.sub(remove, "", str(value)) if remove else str(value))
    return "".join(texts)


def template_parts(pattern: str) -> list[tuple[str, str | None]]:
    """The texts of a template, each with the name of the field that follows it, None at its end.

    Raises:
      ValueError: braces that do not pair, or that hold anything but a name.
    """
    hint = "a field is {name}, a brace of the text itself is doubled"
    try:
        parts = list(string.Formatter().parse(pattern))
    except ValueError as error:
        raise ValueError(f"template {pattern!r}: {error}; {hint}") from None
    for _, name, form, conversion in parts:
        if name is not None and (not name.isidentifier() or form or conversion):
            raise ValueError(f"template {pattern!r}: {{{name}}} names no field; {hint}")
    return [(literal, name) for literal, name, _, _ in parts]


def jsonl_rows(path: str | Path) -> Iterator[Row]:
    """The rows of a JSONL file; errors as `leco_jax.storage.jsonl.read_rows`."""
    return itertools.starmap(Row, read_rows(as_path(path), fields=()))


def problem_rows(problems: Iterable[Problem]) -> Iterator[Row]:
    """The rows "id", "question", "solution", "gold" of a registered data set's problems."""
    for problem in problems:
        fields = {name: getattr(problem, name) for name in ("id", "question", "solution", "gold")}
        yield Row(problem.id, {name: value for name, value in fields.items() if value is not None})


def examples(rows: Iterable[Row], template: Template | None = None) -> list[Example]:
    """Prompts and completions of all rows.

    Raises:
      DataError: rows without the template's fields, or with an empty completion, are all listed; so
        is a source without rows.
    """
    return _fill_all(rows, template or Template(), Example)


def pairs(rows: Iterable[Row], template: Template | None = None) -> list[Pair]:
    """Prompts with both completions of all rows.

    Raises:
      DataError: as `examples`; also rows whose two completions are the same.
    """
    return _fill_all(rows, template or Template(), Pair)


def _fill_all(rows: Iterable[Row], template: Template, kind: Any) -> list[Any]:
    """An `Example` or a `Pair` of each row."""
    filled, bad = [], []
    for row in rows:
        try:
            filled.append(_fill(row, template, kind))
        except DataError as error:
            bad.append(f"{row.where}: {error}")
    refuse(bad)
    if not filled:
        raise DataError("the data has no rows")
    return filled


def _fill(row: Row, template: Template, kind: Any) -> Any:
    _, *parts = kind._fields
    texts = {part: fill_template(getattr(template, part), row.fields, remove=template.remove)
             for part in parts}  # fmt: skip
    for part in parts[1:]:
        if not texts[part].strip():
            name = part if kind is Example else f"{part} completion"
            raise DataError(f"the {name} is empty")
    if kind is Pair and texts["chosen"] == texts["rejected"]:
        raise DataError("chosen and rejected are the same text")
    return kind(row.where, **texts)


def refuse(problems: list[str]) -> None:
    """Raises one DataError for the problems of many rows, if there are any."""
    if problems:
        shown = "\n".join(f"  {line}" for line in problems[:_MOST_LISTED])
        more = len(problems) - _MOST_LISTED
        more_line = f"\n  and {more} more" if more > 0 else ""
        raise DataError(f"{len(problems)} bad rows:\n{shown}{more_line}")
