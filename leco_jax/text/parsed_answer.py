"""What reading an answer gives: a value, or why there is none."""

from __future__ import annotations

import dataclasses
from typing import Any


@dataclasses.dataclass(frozen=True, kw_only=True)
class ParsedAnswer:
    """An answer that was looked for in a text; either `value` or `problem` is None."""

    value: Any = None  # of the answer's kind
    text: str = ""  # the part of the source that was read as the answer; "" where none was found
    problem: str | None = None  # why there is no value


def parsed(value: Any, text: str, problem: str) -> ParsedAnswer:
    """Makes a `ParsedAnswer`; `problem` is kept only where `value` is None."""
    return ParsedAnswer(value=value, text=text, problem=problem if value is None else None)
