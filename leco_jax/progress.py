"""Progress bars; where standard error is not a terminal, a line every ten seconds instead."""

import io
import logging
import sys
import time
from collections.abc import Iterable
from typing import Any

import tqdm

_log = logging.getLogger(__name__)
_SECONDS = 10.0


def progress_bar(
    items: Iterable[Any] | None = None,
    *,
    total: int | None,
    unit: str,
    initial: int = 0,
    label: str = "",
) -> tqdm.tqdm:
    """Makes a bar for the terminal, or one that writes messages, at most one in ten seconds.

    Without `items` the caller counts by `update`; `initial` units were there before; without
    `total` nobody knows how many there will be.
    """
    kind: Any
    kind, options = (tqdm.tqdm, {}) if sys.stderr.isatty() else (_Lines, {"file": io.StringIO()})
    return kind(
        items, total=total, initial=initial, unit=unit, desc=label, dynamic_ncols=True, **options
    )


class _Lines(tqdm.tqdm):
    """A bar whose displays are log messages."""

    _next = 0.0

    def display(self, msg: str | None = None, pos: int | None = None) -> bool:
        """Writes the bar's text, unless it was written within the last ten seconds."""
        del pos
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + _SECONDS
            values: dict[str, Any] = self.format_dict | {"ncols": None}
            _log.info("%s", msg or self.format_meter(**values))
        return True
