r"""Where a response states its answer: `\boxed{}`, `####`, "the answer is", its last line."""

from __future__ import annotations

import re
from collections.abc import Iterator

# No answer is longer; the bound keeps hostile text from costing quadratic time.
_LONGEST = 300
_RUN_ON = re.compile(r"^[ \t]*(?:Question|Q)[ \t]*[0-9]*[ \t]*:", re.MULTILINE)
_BOXED = re.compile(r"boxed\s*")
_HASHES = re.compile(r"####[ \t]*")
_ANSWER_IS = re.compile(r"\banswer(?:\s+is\b|\s+was\b|\**\s*:)[\s:*]*", re.IGNORECASE)
_SENTENCE_END = re.compile(r"[.!?](?=\s|$)|\n")


def cut_run_on(text: str) -> str:
    """Returns the text before a line that begins a further question ("Question:" or "Q:").

    A model that goes on inventing questions would otherwise have its last one graded. A first line
    of that kind is kept.
    """
    for match in _RUN_ON.finditer(text):
        if text[: match.start()].strip():
            return text[: match.start()]
    return text


def boxed_contents(text: str) -> Iterator[str]:
    r"""Yields what stands in each `\boxed{...}`, the last first, matching braces.

    An unclosed brace reaches to the end of its line; `\boxed 5` gives "5".
    """
    matches = list(_BOXED.finditer(text))
    closing = _closing_braces(text) if matches else {}
    for match in reversed(matches):
        start = match.end()
        if text[start : start + 1] == "{":
            end = closing.get(start, -1)
            if end < 0:
                end = text.find("\n", start)
            content = text[start + 1 : end if end >= 0 else len(text)]
            if len(content) <= _LONGEST:
                yield content
        elif match.end() > match.start() + len("boxed"):
            yield text[start : start + _LONGEST].split("\n")[0].split(" ")[0]


def hash_lines(text: str) -> Iterator[str]:
    """Yields the rest of each line after "####", the last first."""
    for match in reversed(list(_HASHES.finditer(text))):
        yield text[match.end() : match.end() + _LONGEST].split("\n")[0]


def answer_sentences(text: str) -> Iterator[tuple[str, bool]]:
    """Yields each sentence after "answer is" or "answer:", the last first.

    The flag says that it was "answer is" (or "was"): a claim in words, which may hold more than
    the answer itself.
    """
    for match in reversed(list(_ANSWER_IS.finditer(text))):
        rest = text[match.end() : match.end() + _LONGEST]
        end = _SENTENCE_END.search(rest)
        in_words = match[0].rstrip(" \t\n:*")[-1:] in "sS"
        yield (rest[: end.start()] if end else rest), in_words


def after_last_answer_sentence(text: str) -> str:
    """Returns what follows the last sentence of `answer_sentences`; the whole text without one."""
    matches = list(_ANSWER_IS.finditer(text))
    if not matches:
        return text
    rest = text[matches[-1].end() :]
    end = _SENTENCE_END.search(rest)
    return rest[end.end() :] if end else ""


def _closing_braces(text: str) -> dict[int, int]:
    # The position of the closing brace for each opening one, in one pass; \{ and \} do not count.
    closing: dict[int, int] = {}
    opened: list[int] = []
    for match in re.finditer(r"\\.|[{}]", text, re.DOTALL):
        if match[0] == "{":
            opened.append(match.start())
        elif match[0] == "}" and opened:
            closing[opened.pop()] = match.start()
    return closing
