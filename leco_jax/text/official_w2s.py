r"""Answers as the published programs of weak-to-strong reasoning read them (arXiv 2407.13647).

Extraction and normal form are theirs, quirks included, so that their figures can be had again; the
lists of words and signs are those of Lewkowycz et al. 2022, appendix, with the programs' additions.
Equality is that of strings: the programs ask a LaTeX parser first, but without its runtime, which
they do not install, every parse fails, and their figures are those of plain strings.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from leco_jax.text.parsed_answer import ParsedAnswer, parsed

_REPLACED = (
    ("an ", ""), ("a ", ""), (".$", "$"), ("\\$", ""), ("\\ ", ""), ("\\%", "%"), (" ", ""),
    ("mbox", "text"), (",\\text{and}", ","), ("\\text{and}", ","), ("\\text{m}", "\\text{}"),
)  # fmt: skip
_REMOVED = (
    "square", "ways", "integers", "dollars", "mph", "inches", "ft", "hours", "km", "units",
    "\\ldots", "sue", "points", "feet", "minutes", "digits", "cents", "degrees", "cm", "gm",
    "pounds", "meters", "meals", "edges", "students", "childrentickets", "multiples", "\\text{s}",
    "\\text{.}", "\\text{\ns}", "\\text{}^2", "\\text{}^3", "\\text{\n}", "\\text{}",
    "\\mathrm{th}", "^\\circ", "^{\\circ}", "\\;", ",\\!", "{,}", '"', "\\dots",
)  # fmt: skip
_NUMBER = re.compile(r"-?\d+\.?\d*")
_FIRST_FORMULA = re.compile(r"[^\n$]*\$([^\n$]*)\$.*")
_WRAPPERS = (
    *(re.compile(rf"\\{name}\{{(.*?)\}}") for name in ("text", "textbf", "overline")),
    re.compile(r"\\boxed\{(.*)\}"),
)
_LETTERS = frozenset("abcdefg")


def reader(key: str) -> Callable[[str], ParsedAnswer]:
    """Returns the reader of responses whose last line has `key`, a space, and the answer."""
    after_key = re.compile(re.escape(key) + " (.*)$")

    def read(text: str) -> ParsedAnswer:
        text = text.partition("Question")[0].strip()
        match = after_key.search(text)
        answer = match[1] if match else ""
        if not answer:
            answer = _number_of_sentence(text)
        if "</s>" in answer:
            answer = answer[:-4]  # wherever it stands
        return parsed(normal_form(answer) or None, answer, f"no {key!r} in the last line")

    return read


def read_gold(text: str) -> ParsedAnswer:
    """Reads a data set's answer."""
    return parsed(normal_form(text) or None, text, "is empty in the programs' normal form")


def normal_form(text: str) -> str:
    """Returns the form in which two answers are compared."""
    text = text.rpartition("=")[2]
    for old, new in _REPLACED:
        text = text.replace(old, new)
    for old in _REMOVED:
        text = text.replace(old, "")
    text = _FIRST_FORMULA.sub(r"$\1$", text)
    for wrapper in _WRAPPERS:
        text = wrapper.sub(r"\1", text)
    text = re.sub(r"frac([^{])(.)", r"frac{\1}{\2}", text)
    text = re.sub(r"sqrt([^{])", r"sqrt{\1}", text)
    text = text.replace("$", "")
    if text.replace(",", "").isdigit():
        text = text.replace(",", "")
    for ending in (".0", ".00", "%"):
        if text.endswith(ending) and text[: -len(ending)].isdigit():
            text = text[: -len(ending)]
    return text.lower() if text.lower() in _LETTERS else text


def _number_of_sentence(text: str) -> str:
    match = re.search("The answer is (.*)$", text)
    number = _NUMBER.search(match[1].replace(",", "")) if match else None
    return number[0].removesuffix(".") if number else ""
