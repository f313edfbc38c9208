r"""Where a response states its answer: `\boxed{}`, `####`, "the answer is", its last lines.

Every function takes time linear in the length of the text.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator

LONGEST = 300  # characters of an answer; a longer text is not one
READ = 200_000  # characters at the end of a response that are looked at
_LAST = 4000  # characters at the end of a text without a marked answer
_RUN_ON = re.compile(r"^[ \t]*+(?:Question|Q)[ \t]*+(?P<number>[0-9]*+)[ \t]*+:", re.MULTILINE)
_BRACES = re.compile(r"\\.|[{}]", re.DOTALL)
_SPACES = re.compile(r"\s*+")
_LETTER_OR_DIGIT = re.compile(r"[^\W_]")
# "Step 2: ...", "2. Add ...", "A total of": a heading of Markdown, not an answer.
_HEADING = re.compile(r"[^\w\\$]*(?:[^\W\d_]{2}|[0-9]+[.)]\s+[^\W\d_]|A\s)")
_ANSWER_IS = re.compile(r"\banswer(?:\s++(?:is|was)\b|\**+\s*+:)[\s:*]*+", re.IGNORECASE)
_ANSWER = re.compile(r"boxed\s*+\{|####|" + _ANSWER_IS.pattern, re.IGNORECASE)
_SENTENCE_END = re.compile(r"(?<!\\)[.!?](?=\s|$)|\n")
_LIST_LABEL = re.compile(r"[0-9]+[.)][ \t]+\S")


def cut_run_on(text: str) -> str:
    """Returns the text before a line that begins a further question ("Question:" or "Q:").

    A first line of that kind is kept, and numbered ones ("Question 2:") where no answer stands
    before.
    """
    first_word = len(text) - len(text.lstrip())
    answer = _ANSWER.search(text)
    for match in _RUN_ON.finditer(text):
        if match.start() > first_word and (
            not match["number"] or (answer and answer.start() < match.start())
        ):
            return text[: match.start()]
    return text


def last_boxed(text: str) -> str | None:
    r"""Returns the content of the last `\boxed{...}` with a letter or digit in it, or None.

    An unclosed brace reaches to the end of its line; `\boxed 5` gives "5". Longer contents are cut
    to `LONGEST` + 1 characters.
    """
    end = len(text)
    while (start := text.rfind("boxed", 0, end)) >= 0:
        content = _box_content(text, start, end)
        if _LETTER_OR_DIGIT.search(content):
            return content
        end = start
    return None


def hash_lines(text: str) -> Iterator[str]:
    """Yields what follows "####" in each line, at most `LONGEST` + 1 characters, the last first.

    Headings and empty lines are left out.
    """
    for part in reversed(text.split("####")[1:]):
        line = part[: LONGEST + 1].split("\n", 1)[0].lstrip(" \t#:")
        if _LETTER_OR_DIGIT.search(line) and not _HEADING.match(line):
            yield line


def answer_sentences(text: str) -> tuple[list[tuple[str, bool]], str]:
    """Returns each sentence after "answer is" or "answer:", and the text after the last of them.

    A sentence's flag is true after "answer is" (or "was"), a claim in words, which may hold more
    than the answer. Without any sentence the second result is the whole text.
    """
    matches = list(_ANSWER_IS.finditer(text))
    sentences = []
    for match, following in itertools.zip_longest(matches, matches[1:]):
        last = following.start() if following else len(text)
        rest = text[match.end() : min(last, match.end() + LONGEST)]
        if "\n" in match[0] and _LIST_LABEL.match(rest):
            rest = ""  # "Answer:" and a list of steps
        sentence = _SENTENCE_END.split(rest, maxsplit=1)[0]
        sentences.append((sentence, match[0].rstrip(" \t\n:*")[-1:] in "sS"))
    if not matches:
        return sentences, text
    end = _SENTENCE_END.search(text, matches[-1].end())
    return sentences, text[end.end() :] if end else ""


def marked(text: str) -> Iterator[tuple[str, str]]:
    """Yields (place, content) of what a response marks as its answer, the first to be believed.

    Places are "the box", 'the line "####"' and "the answer's sentence", of each the last. A text
    with a box or "####" has no other place, as for numbers. Text from a further "Question:" on and
    before the last `READ` characters is not read.
    """
    text = cut_run_on(text)[-READ:]
    box = last_boxed(text)
    if box is not None:
        yield "the box", box
        return
    line = next(hash_lines(text), None)
    if line is not None:
        yield 'the line "####"', line
        return
    sentences, _ = answer_sentences(text)
    for sentence, _ in reversed(sentences):
        if _LETTER_OR_DIGIT.search(sentence):
            yield "the answer's sentence", sentence


def last_lines(text: str) -> list[str]:
    """Returns the lines of the last 4,000 characters, the last first."""
    if len(text) > _LAST:
        text = text[-_LAST:].partition(" ")[2]  # not from inside a number
    return text.splitlines()[::-1]


def _box_content(text: str, start: int, end: int) -> str:
    """Returns what the box at `start` holds, at most up to `end`; "" where it is not a box."""
    at = _SPACES.match(text, start + len("boxed")).end()  # type: ignore[union-attr]
    if text[at : at + 1] == "{":
        window = text[at + 1 : min(at + LONGEST + 2, end)]
        depth = 1
        for match in _BRACES.finditer(window):
            depth += {"{": 1, "}": -1}.get(match[0], 0)
            if not depth:
                return window[: match.start()]
        return window.split("\n", 1)[0]
    if at > start + len("boxed") and text[start - 1 : start] == "\\":
        return text[at : min(at + LONGEST + 1, end)].split("\n", 1)[0].split(" ", 1)[0]
    return ""
