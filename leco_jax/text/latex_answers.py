r"""Answers written in LaTeX: numbers, roots, tuples, intervals, sets, matrices, polynomials, words.

A value is the text in a normal form (typesetting, units and "x =" taken off), and equality is, in
this order: the same normal form; as plain numbers the same exact value; else what math-verify says
in a process of its own (`latex_worker`), which is ended after `LIMIT_SECONDS` of processor time:
then, and where it cannot parse a side, the two are not equal. Nothing is evaluated as Python.
"""

from __future__ import annotations

import functools
import importlib.util
import re
from fractions import Fraction

from leco_jax.text import answer_regions
from leco_jax.text.latex_process import COMPARER
from leco_jax.text.number_answers import format_number, parse_number, read_number
from leco_jax.text.parsed_answer import ParsedAnswer, parsed

LIMIT_SECONDS = 5  # whole seconds of processor time for one comparison

_FORMULA = re.compile(r"(?<!\\)\$\$?((?:\\.|[^$\\])+)\$\$?|\\\((.+?)\\\)|\\\[(.+?)\\\]")
_TEXT = r"\\(?:text(?:bf|it|rm|normal)?|math(?:rm|bf|it|sf)|mbox|operatorname)"
_UNIT = r"(?![ap]\.? ?m\.?[ }])[A-Za-z][A-Za-z .]*"  # "square inches", "cm"; not "a.m."
_REPLACED: list[tuple[re.Pattern[str], str]] = [
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r",\\!|\{,\}(?=[0-9]{3})", ""),  # between thousands
        (r"(?<!\\)\\!", ""),
        (r"(?<!\\)\\[,;: ]|~|\\q?quad(?![A-Za-z])", " "),
        (r"\\(?:left|right|[bB]igg?[lr]?|displaystyle|limits)(?![A-Za-z])", ""),
        (r"\\[dtc]frac(?![A-Za-z])", r"\\frac"),
        (r"\^ ?(?:\{ ?)?\\(?:circ|degree)(?: ?\})?|\\degree(?![A-Za-z])|°", ""),
        (r"\\?[$%]", ""),
        (r"(?<!\\)\\[()\[\]]", ""),
        (rf",? ?(?:{_TEXT} ?\{{ ?(?:and|or) ?\}}|(?<![A-Za-z])(?:and|or)(?![A-Za-z])) ?", ","),
        (rf"(?<=[^\s,(\[]) ?(?:{_TEXT} ?\{{ ?{_UNIT} ?\}})(?: ?\^ ?\{{?[23]\}}?)?$", ""),
        (rf"{_TEXT} ?\{{([^{{}}]*)\}}", r"\1"),
        (r"\\frac ?([0-9])", r"\\frac{\1}"),
        (r"\\frac ?(\\[A-Za-z]+) ?([0-9])", r"\\frac{\1}{\2}"),
        (r"\\frac ?(\{[^{}]*\}) ?([0-9])", r"\\frac\1{\2}"),
        (r"\\sqrt ?([0-9])", r"\\sqrt{\1}"),
        (r"([_^]) ?\{ ?(\w) ?\}", r"\1\2"),
        (r"^ ?[A-Za-z](?:\([A-Za-z]\))? ?(?:=|\\in(?![A-Za-z]))(?=[^=]*$)", ""),
        (r"(?<![A-Za-z]) +| +(?![A-Za-z])", ""),
        (r",,+", ","),
        (r"[.,;]+$", ""),
        (r"^\(([A-Z])\)$", r"\1"),
    )
]
_WORDS = re.compile(r"[^\W\d_]+(?:[ ,'’]+[^\W\d_]+)*")
_TUPLE = re.compile(r"[(\[].*,.*[)\]]")  # or an interval; a list without brackets has no order
_RATIO_OR_BASE = re.compile(r"[0-9] ?:|[0-9A-Za-z]_\{?[0-9]")


def has_math_verify() -> bool:
    """Whether math-verify is installed."""
    return importlib.util.find_spec("math_verify") is not None


def require_math_verify() -> None:
    """Raises ModuleNotFoundError, which names the extra, where math-verify is not installed."""
    if not has_math_verify():
        raise ModuleNotFoundError(
            "answers of the kind 'latex' need the extra `latex` (missing: math_verify): "
            "pip install 'leco-jax[latex]'",
            name="math_verify",
        )


def read_latex(text: str) -> ParsedAnswer:
    r"""Reads the expression that a response gives as its answer; any text is safe to give.

    The last `\boxed{}` decides, else the last "####", else the sentence after "answer is", of which
    a single formula is taken alone; else the last formula of the last line, else the number that
    `read_number` finds.
    """
    for place, content in answer_regions.marked(text):
        if place.endswith("sentence"):
            formulas = list(_FORMULA.finditer(content))
            content = _inside(formulas[0]) if len(formulas) == 1 else content
        return _parsed(content, place)
    last = next((s for s in answer_regions.last_lines(text) if s.strip()), "")
    if formulas := list(_FORMULA.finditer(last)):
        return _parsed(_inside(formulas[-1]), "the last formula")
    number = read_number(text)
    value = None if number.value is None else format_number(number.value)
    return parsed(value, number.text, "there is neither a mark, a formula nor a number")


def read_gold_latex(text: str) -> ParsedAnswer:
    """Reads a data set's answer."""
    return _parsed(text, "the gold answer")


def latex_equal(a: str, b: str) -> bool:
    """Whether two normal forms are the same answer; the order does not matter."""
    return a == b or _equal(*sorted((a, b)))


def normal_form(text: str) -> str:
    """Returns an answer without typesetting, units and the name before "="."""
    text = " ".join(text.split())
    for pattern, replacement in _REPLACED:
        text = pattern.sub(replacement, text)
    return text.strip()


def _inside(formula: re.Match[str]) -> str:
    return next(part for part in formula.groups() if part is not None)


def _parsed(text: str, place: str) -> ParsedAnswer:
    if len(text) > answer_regions.LONGEST:
        return ParsedAnswer(text=text, problem=f"{place} has over 300 characters")
    if not _balanced(text):
        return ParsedAnswer(text=text, problem=f"{place} has braces that do not match")
    return parsed(normal_form(text) or None, text, f"{place} is empty")


def _balanced(text: str) -> bool:
    depth = 0
    for brace in re.findall(r"\\.|[{}]", text):
        depth += {"{": 1, "}": -1}.get(brace, 0)
        if depth < 0:
            return False
    return depth == 0


@functools.lru_cache(maxsize=1 << 14)
def _number(text: str) -> Fraction | None:
    return parse_number(text)


@functools.lru_cache(maxsize=1 << 16)
def _equal(a: str, b: str) -> bool:
    numbers = _number(a), _number(b)
    if None not in numbers:
        return numbers[0] == numbers[1]
    if any(_WORDS.fullmatch(text) or _RATIO_OR_BASE.search(text) for text in (a, b)):
        return a.replace(" ", "").casefold() == b.replace(" ", "").casefold() and not (
            len(a) == 1 or len(b) == 1
        )
    if bool(_TUPLE.fullmatch(a)) != bool(_TUPLE.fullmatch(b)) and any("," in t for t in (a, b)):
        return False  # an ordered pair is no list
    return COMPARER.equal(a, b, limit_seconds=LIMIT_SECONDS)
