"""Gold answers: read whole or not at all, and all bad ones of a file named at once."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any, TypeVar

from leco_jax.storage.jsonl import read_rows
from leco_jax.text.answers import answer_kind

T = TypeVar("T")

_log = logging.getLogger(__name__)
_SHOWN = 20  # lines that a message lists


class BadGoldError(ValueError):
    """A gold answer is not an answer of its kind and nothing else."""


def read_gold(text: str, *, kind: str = "number", grader: str = "ours") -> Any:
    """Returns a data set's answer as a value of its kind, or of the kind by which it is graded.

    Raises:
      BadGoldError: the text is not wholly one answer: "(1, 5)" is refused here, not read as 5.
    """
    answer = answer_kind(kind, grader=grader).read_gold(text)
    if answer.value is None:
        shown = repr(text if len(text) <= 60 else text[:60] + "...")
        raise BadGoldError(
            f"the gold answer {shown} {answer.problem if text.strip() else 'is empty'}"
        )
    return answer.value


def make_all(
    path: Path | Traversable,
    make: Callable[[str, dict[str, Any]], T],
    *,
    fields: Iterable[str],
    skip_bad_gold: bool = False,
) -> list[T]:
    """Makes something of every row of a JSONL file that has the text fields `fields`.

    See `make_each`.
    """
    rows = read_rows(path, fields=fields)
    return make_each(path, rows, make, skip_bad_gold=skip_bad_gold)


def make_each(
    source: Path | Traversable,
    rows: Iterable[tuple[str, dict[str, Any]]],
    make: Callable[[str, dict[str, Any]], T],
    *,
    skip_bad_gold: bool = False,
) -> list[T]:
    """Makes something of every row of a source.

    `make` is given the row's place, "FILE, line N", and the row. `skip_bad_gold` leaves rows with a
    `BadGoldError` out, and logs how many.

    Raises:
      ValueError: a malformed row or another error of `make`, with its place; or bad gold answers,
        with their number and the first 20.
    """
    made: list[T] = []
    bad: list[str] = []
    for place, row in rows:
        try:
            made.append(make(place, row))
        except BadGoldError as error:
            bad.append(f"{place.removeprefix(f'{source}, ')}: {error}")
        except ValueError as error:
            raise ValueError(f"{place}: {error}") from None
    count = f"{source}: {len(bad)} of {len(bad) + len(made)} rows"
    if bad and not skip_bad_gold:
        shown = "\n  ".join(bad[:_SHOWN])
        more = len(bad) - _SHOWN
        raise ValueError(
            f"{count} have a gold answer that cannot be read:\n  {shown}\n"
            + (f"  and {more} more\n" if more > 0 else "")
            + "correct them, remove the gold where answers cannot be compared, or leave these rows "
            "out (skip_bad_gold)"
        )
    if bad:
        _log.warning("%s left out, whose gold answers cannot be read", count)
    return made
