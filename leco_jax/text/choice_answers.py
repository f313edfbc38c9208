"""Letters of options and yes or no, as models and data sets write them: (B), b, B. mall; Yes."""

from __future__ import annotations

import re

from leco_jax.text import answer_regions
from leco_jax.text.parsed_answer import ParsedAnswer, parsed

_WRAPPING = re.compile(r"\\(?:text\w*|math\w+|mbox)\s*|[{}$*`\"'“”‘’]|\\[()\[\], ]")
_IN_BRACKETS = re.compile(r"[(\[]\s*([A-Za-z])\s*[)\]]")
# "b", "B.", "B) mall": a letter by itself, or with a sign after it.
_LETTER = re.compile(r"\s*([A-Za-z])\s*(?:[).:]|$)")
_LONE_CAPITAL = re.compile(r"[\W_]*([A-Z])[\W_]*")
_YES_NO = re.compile(r"\b(yes|true|no|false)\b", re.IGNORECASE)
_FIRST_YES_NO = re.compile(r"\W*(yes|true|no|false)\b", re.IGNORECASE)
_LABEL = re.compile(r"^\W*Step\s*[0-9]+\s*[:.)]?", re.IGNORECASE)


def read_choice(text: str) -> ParsedAnswer:
    r"""Reads the option that a response chooses, as a capital letter.

    What is marked decides (`\boxed{}`, "####", "the answer is"): it names one letter in brackets,
    or begins with one that stands alone. Without a mark the last line may do so, in capitals.
    """
    for place, content in answer_regions.marked(text):
        letter = _choice(content)
        return parsed(letter, content, f"{place} does not name one option")
    line = _last_line(text)
    found = _letters(line) or {m[1] for m in [_LONE_CAPITAL.fullmatch(line)] if m}
    return parsed(found.pop() if len(found) == 1 else None, line, "no option is named at the end")


def read_gold_choice(text: str) -> ParsedAnswer:
    """Reads a data set's letter: "B", "b" or "(B)"."""
    match = re.fullmatch(r"\s*\(?([A-Za-z])\)?\s*", text)
    return parsed(match[1].upper() if match else None, text, "is not one option's letter")


def read_yes_no(text: str) -> ParsedAnswer:
    """Reads whether a response says yes (or true); marks as for `read_choice`, else its last line.

    The word that the answer begins with decides; else all such words in it agree.
    """
    for place, content in answer_regions.marked(text):
        return parsed(_yes_no(content), content, f"{place} says neither yes nor no, or both")
    line = _last_line(text)
    first = _FIRST_YES_NO.match(line) or _FIRST_YES_NO.match(text)
    return parsed(_is_yes(first[1]) if first else None, line, "there is no yes or no at the end")


def read_gold_yes_no(text: str) -> ParsedAnswer:
    """Reads a data set's "yes", "no", "true" or "false"."""
    match = _YES_NO.fullmatch(text.strip())
    return parsed(_is_yes(match[1]) if match else None, text, "is neither yes nor no")


def _choice(content: str) -> str | None:
    found = _letters(content)
    if not found:
        match = _LETTER.match(_WRAPPING.sub(" ", content))
        found = {match[1].upper()} if match else set()
    return found.pop() if len(found) == 1 else None


def _letters(content: str) -> set[str]:
    return {letter.upper() for letter in _IN_BRACKETS.findall(_WRAPPING.sub("", content))}


def _yes_no(content: str) -> bool | None:
    content = _WRAPPING.sub(" ", content)
    first = _FIRST_YES_NO.match(content)
    if first:
        return _is_yes(first[1])
    found = {_is_yes(word) for word in _YES_NO.findall(content)}
    return found.pop() if len(found) == 1 else None


def _is_yes(word: str) -> bool:
    return word.lower() in ("yes", "true")


def _last_line(text: str) -> str:
    text = answer_regions.cut_run_on(text)[-answer_regions.READ :]
    lines = (line for line in answer_regions.last_lines(text) if line.strip())
    return _LABEL.sub("", next(lines, "")).strip()
