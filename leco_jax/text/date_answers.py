"""Dates as models and data sets write them: 12/25/1937, 1937-12-25, December 25, 1937, 25 Dec 1937.

Digits with slashes are month, day, year, as the data sets have them; years have four digits.
"""

from __future__ import annotations

import datetime
import re

from leco_jax.text import answer_regions
from leco_jax.text.parsed_answer import ParsedAnswer, parsed

_MONTHS = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"]
_NAME = r"(jan|feb|mar|apr|may|june?|july?|aug|sept?|oct|nov|dec)[a-z]*\.?"
_DAY = r"([0-9]{1,2})(?:st|nd|rd|th)?"
_YEAR = r"([0-9]{4})(?![0-9])"
_DATE = re.compile(
    rf"(?<![0-9/-])(?:([0-9]{{1,2}})/([0-9]{{1,2}})/{_YEAR}|{_YEAR}-([0-9]{{2}})-([0-9]{{2}})"
    rf"|{_NAME} {_DAY},? {_YEAR}|{_DAY} (?:of )?{_NAME},? {_YEAR})(?![/0-9-])",
    re.IGNORECASE,
)
_TYPESETTING = re.compile(r"\\(?:text\w*|math\w+|mbox)\s*|[{}$*]|\\(?=[/, ])")


def read_date(text: str) -> ParsedAnswer:
    r"""Reads the date that a response gives: the one of its mark, else the last of its last lines.

    Marks are those of numbers (`\boxed{}`, "####", "the answer is"); a mark holds one date or none.
    """
    for place, content in answer_regions.marked(text):
        found = _dates(content)
        value = found[0] if found and len(set(found)) == 1 else None
        return parsed(value, content, f"{place} does not hold one date")
    text = answer_regions.cut_run_on(text)[-answer_regions.READ :]
    for line in answer_regions.last_lines(text):
        if _DATE.search(line):
            return parsed(_dates(line)[-1], line, "the last date is not in the calendar")
    return ParsedAnswer(problem="there is no date")


def read_gold_date(text: str) -> ParsedAnswer:
    """Reads a data set's date."""
    match = _DATE.fullmatch(text.strip())
    return parsed(_value(match) if match else None, text, "is not one date and nothing else")


def format_date(value: datetime.date) -> str:
    """Returns a date as month/day/year with leading zeros: 01/05/2020."""
    return f"{value.month:02}/{value.day:02}/{value.year:04}"


def _dates(text: str) -> list[datetime.date | None]:
    return [_value(match) for match in _DATE.finditer(_TYPESETTING.sub("", text))]


def _value(match: re.Match[str]) -> datetime.date | None:
    first, *rest = (part for part in match.groups() if part is not None)
    if match[4]:
        year, month, day = first, *rest
    elif match[10]:
        day, month, year = first, *rest
    else:
        month, day, year = first, *rest
    number = int(month) if month.isdigit() else _MONTHS.index(month[:3].lower()) + 1
    try:
        return datetime.date(int(year), number, int(day))
    except ValueError:
        return None
