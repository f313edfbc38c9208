"""Gold answers: read whole or not at all, and all bad ones of a file named at once."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from typing import Any

from leco_jax.text.answers import answer_kind

_log = logging.getLogger(__name__)
_SHOWN = 20  # lines that a message lists


class BadGoldError(ValueError):
    """A gold answer is not an answer of its kind and nothing else."""


def read_gold(text: str, *, kind: str = "number") -> Any:
    """Returns a data set's answer as a value of its kind.

    Raises:
      BadGoldError: the text is not wholly one answer: "(1, 5)" is refused here, not read as 5.
    """
    value = answer_kind(kind).read_gold(text)
    if value is None:
        shown = repr(text if len(text) <= 60 else text[:60] + "...")
        reason = f"is not one {kind} and nothing else" if text.strip() else "is empty"
        raise BadGoldError(f"the gold answer {shown} {reason}")
    return value


class BadGolds:
    """Gathers the gold answers of one file that cannot be read.

    bad = BadGolds(path, skip=False)
    for place, row in read_rows(path):
        with bad.noted(place):
            rows.append(make(row))  # raises BadGoldError
    bad.finish()
    """

    def __init__(self, path: Any, *, skip: bool):
        """Begins a file; `skip` leaves the rows with a bad gold answer out instead of refusing."""
        self._path = path
        self._skip = skip
        self._lines: list[str] = []
        self._rows = 0

    @contextlib.contextmanager
    def noted(self, place: str) -> Iterator[None]:
        """Catches a `BadGoldError`; every other ValueError gets the place before its message."""
        self._rows += 1
        try:
            yield
        except BadGoldError as error:
            self._lines.append(f"{place.removeprefix(f'{self._path}, ')}: {error}")
        except ValueError as error:
            raise ValueError(f"{place}: {error}") from None

    def finish(self) -> None:
        """Ends the file: logs how many rows were left out, if any.

        Raises:
          ValueError: there are bad gold answers, and they are not to be skipped; the message gives
            their number and the first 20.
        """
        if not self._lines:
            return
        count = f"{self._path}: {len(self._lines)} of {self._rows} rows"
        if self._skip:
            _log.warning("%s left out, whose gold answers cannot be read", count)
            return
        shown = "\n  ".join(self._lines[:_SHOWN])
        more = len(self._lines) - _SHOWN
        raise ValueError(
            f"{count} have a gold answer that cannot be read:\n  {shown}\n"
            + (f"  and {more} more\n" if more > 0 else "")
            + "correct them, remove the gold where answers cannot be compared, or leave these rows "
            "out (skip_bad_gold)"
        )
