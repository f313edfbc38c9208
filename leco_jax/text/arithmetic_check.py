r"""Finds the first false equation in a chain: "5 * 7 apples = 36 apples", "80,000+50,000=$130,001".

Every "=" between numbers is read with exact rationals. Units, currencies, thousands separators and
GSM8K's `<<5*7=35>>` are passed over; a quotient may be rounded to the digits that are written. What
cannot be read for sure (a variable, a conversion of units, an unmatched bracket) is no equation, so
that a flag means something. Linear in the length of the text; nothing is evaluated as code.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import NamedTuple

from leco_jax.text.number_answers import format_number

_MARKUP = re.compile(r"<<[^<>\n]*>>")
_INTEGER = r"(?:[0-9]{1,3}(?:[, ][0-9]{3})+|[0-9]+)(?![0-9]|[,:](?:\\!)?[0-9])"
_TOKEN = re.compile(
    rf"""
    (?P<number>(?:
        (?:[0-9]+[ ]|(?<=[/÷][ ]))[0-9]+/[0-9]+(?![0-9/.,])  # 1 1/2, and the 1/6 of 2 / 1/6
      | {_INTEGER}(?:\.[0-9]+)? | \.[0-9]+ )(?:[ ]?\\?%)?)
  | (?P<operator>\*\*|[-+*/^×÷·−–]|\\(?:times|cdot|div)(?![A-Za-z]))
  | (?P<open>[(\[]) | (?P<close>[)\]])
  | (?P<equals>=)
  | (?P<word>[^\W\d_]+(?:['’-][^\W\d_]+)*|[0-9]+(?:[,:](?:\\!)?[0-9]+)+)  # 6:30 is no number
  | (?P<nothing>[\s\0$£€¥₹¢°"“”%]|\\[,!;: $%()\[\]])
  | (?P<unknown>\\[A-Za-z]*|[{{}}_|√!&@<>~])
  | (?P<other>.)
    """,
    re.VERBOSE,
)
_PERCENT = " \\%"  # after a number
_SEPARATOR = re.compile(r"(?<=[0-9])[, ](?=[0-9]{3}(?![0-9/]))")
_OPERATORS = {"×": "*", "·": "*", "÷": "/", "−": "-", "–": "-", "**": "^"} | {
    "\\times": "*", "\\cdot": "*", "\\div": "/",
}  # fmt: skip
_OPERATOR_WORDS = {"x": "*", "X": "*", "of": "*", "times": "*", "plus": "+", "minus": "-"}
# Words that give a number another value, and units of which one may stand for another.
_NOT_PLAIN, *_CONVERTED = (
    frozenset(words.split())
    for words in (
        "hundred thousand million billion dozen half halves third quarter twice double triple "
        "rounded approximately about and or cents cent pennies dimes nickels remainder remaining",
        "second seconds sec secs minute minutes min mins hour hours hr hrs day days week weeks "
        "month months year years decade decades century centuries",
        "inch inches foot feet ft yard yards mile miles cm m km mm meter meters kilometer "
        "kilometers centimeter centimeters",
        "ounce ounces oz pound pounds lb lbs ton tons gram grams kg kilogram kilograms",
        "cup cups pint pints quart quarts gallon gallons liter liters ml",
    )
)
_REMAINDER = {"remainder", "remaining"}  # anywhere after the result
_LONGEST = 64  # symbols of one side; more is no equation of a chain
_DIGITS = 30  # of one number
_POWER = 64  # largest exponent
_PRECEDENCE = {"(": 0, "~": 3, "+": 1, "-": 1, "*": 2, "/": 2, "^": 4}


class Failure(NamedTuple):
    """Where a chain fails a check.

    Attributes:
      start, end: the failing characters of the text.
      value: the characters that should read `truth`, where the check knows it.
      truth: what should stand there.
    """

    start: int
    end: int
    value: tuple[int, int] | None = None
    truth: str | None = None


class _Symbol(NamedTuple):
    kind: str
    text: str
    start: int
    end: int


def arithmetic(text: str) -> Failure | None:
    """Returns the first equation of a text that is false, with its true value; None: there is none.

    Args:
      text: a chain.
    """
    plain = _MARKUP.sub(lambda match: "\0" * len(match[0]), text)
    start = 0
    for line in plain.split("\n"):
        if "=" in line:
            symbols = _symbols(line, start)
            places = [i for i, symbol in enumerate(symbols) if symbol.kind == "equals"]
            ends = [-1, *places, len(symbols)]
            for before, at, after in zip(ends, places, ends[2:], strict=False):
                failure = _failure(symbols[before + 1 : at], symbols[at + 1 : after])
                if failure is not None:
                    return failure
        start += len(line) + 1
    return None


def _symbols(line: str, start: int) -> list[_Symbol]:
    """The numbers, operators, brackets and words of a line; `other` is what ends a calculation."""
    symbols = []
    for match in _TOKEN.finditer(line):
        kind = str(match.lastgroup)
        if kind != "nothing":
            symbols.append(_Symbol(kind, match[0], start + match.start(), start + match.end()))
    for i, symbol in enumerate(symbols):
        before = symbols[i - 1].kind if i else "other"
        after = symbols[i + 1].kind if i + 1 < len(symbols) else "other"
        if symbol.kind == "word" and symbol.text in _OPERATOR_WORDS:
            operands = ("number", "close") if symbol.text == "of" else ("number", "close", "word")
            if before in operands and after in ("number", "open"):
                symbols[i] = symbol._replace(kind="operator", text=_OPERATOR_WORDS[symbol.text])
        elif symbol.kind == "operator":
            text = _OPERATORS.get(symbol.text, symbol.text)
            # "7 days/week * 3": a unit of its own.
            kind = "word" if text == "/" and after == "word" else "operator"
            symbols[i] = symbol._replace(kind=kind, text=text)
    return symbols


class _Calculation(NamedTuple):
    """Numbers, operators and brackets in a row, and the words among and after them."""

    symbols: list[_Symbol]
    words: list[str]


def _calculations(symbols: Sequence[_Symbol]) -> list[_Calculation]:
    """Splits the symbols of one side into calculations; an operand in words is `unknown`."""
    calculations = [_Calculation([], [])]
    words, last = False, -1  # since the last symbol of the calculation; where they end
    for symbol in symbols:
        own = calculations[-1].symbols
        before = own[-1].kind if own else "start"
        if symbol.kind == "other":
            calculations.append(_Calculation([], []))
            words = False
            continue
        if symbol.kind == "word":
            if own and symbol.text != "/":
                calculations[-1].words.append(symbol.text.lower())
                if symbol.start == own[-1].end and len(symbol.text) < 3:  # 24 - 2xy
                    own.append(symbol._replace(kind="unknown", text="?"))
            words, last = True, symbol.end
            continue
        if symbol.kind in ("number", "open", "unknown"):
            if before in ("number", "close") and (words or before == symbol.kind == "number"):
                calculations.append(_Calculation([], []))
                own, before = calculations[-1].symbols, "start"
            if before in ("number", "close"):  # 2(3 + 4)
                own.append(symbol._replace(kind="operator", text="*", end=symbol.start))
            elif words and (before == "operator" or symbol.start == last):  # f(0)
                own.append(symbol._replace(kind="unknown", text="?"))
        elif before in ("start", "open", "operator") and (words or symbol.kind == "close"):
            own.append(symbol._replace(kind="unknown", text="?"))
        own.append(symbol)
        words = False
    if words and calculations[-1].symbols and calculations[-1].symbols[-1].kind == "operator":
        calculations[-1].symbols.append(symbols[-1]._replace(kind="unknown", text="?"))
    return calculations


def _failure(left: Sequence[_Symbol], right: Sequence[_Symbol]) -> Failure | None:
    """The failure of one equation, None where it is true or cannot be read."""
    claim, result = _calculations(left)[-1], _calculations(right)[0]
    claimed, given = _unwrapped(claim.symbols), _unwrapped(result.symbols)
    # Of one number there is nothing to check: "5 friends = 250/5".
    if len(claimed) < 2 or not given or right[0].kind == "word":
        return None
    words = {*claim.words, *result.words[:1], *(_REMAINDER & set(result.words))}
    if words & _NOT_PLAIN or any(len(word) == 1 for word in words) or _converts(claim, result):
        return None
    truth = None
    for percent in (1, 100):  # the last reading, with 50% as 1/2, gives the truth
        truth, value = _value(claimed, percent), _value(given, percent)
        if truth is None or value is None:
            return None
        if truth in (value, _value(_first(given), percent)) or _rounds_to(truth, value, given):
            return None
    digits = given[-1].text.rstrip(_PERCENT)
    scale = 1 if digits == given[-1].text else 100
    return Failure(
        start=claimed[0].start,
        end=given[-1].end,
        value=(given[0].start, given[-1].start + len(digits)),
        truth=None if truth is None else _written(scale * truth),
    )


def _unwrapped(symbols: Sequence[_Symbol]) -> list[_Symbol]:
    """A calculation without brackets at its ends that were opened or are closed outside of it."""
    symbols = list(symbols) if len(symbols) <= _LONGEST else []
    depth = 0
    for i, symbol in enumerate(symbols):
        depth += {"open": 1, "close": -1}.get(symbol.kind, 0)
        if depth < 0:
            return symbols[:i]
    while depth and symbols and symbols[0].kind == "open":
        symbols = symbols[1:]
        depth -= 1
    return symbols if not depth else []


def _first(symbols: list[_Symbol]) -> list[_Symbol]:
    """The number that a result begins with: "8 + 2 = 10" may go on from "5 + 3 = 8"."""
    end = 2 if symbols[0].kind == "operator" else 1
    return symbols[:end]


def _converts(claim: _Calculation, result: _Calculation) -> bool:
    """Whether one unit stands for another: "3 hours = 180 minutes"."""
    for units in _CONVERTED:
        claimed, given = units & set(claim.words), units & set(result.words[:1])
        if claimed and given and claimed != given:
            return True
    return False


_OPERATIONS: dict[str, Callable[[Fraction, Fraction], Fraction]] = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
    "/": lambda a, b: a / b,
    "^": lambda a, b: a ** int(b),
}


def _value(symbols: Sequence[_Symbol], percent: int) -> Fraction | None:
    """The value of a calculation, None where it has none.

    Args:
      symbols: numbers, operators and brackets.
      percent: what a number with a percent sign is divided by: 50% is 50 or 1/2.
    """
    values: list[Fraction] = []
    waiting: list[str] = []  # operators and brackets; "~" is a sign

    def apply() -> None:
        operator = waiting.pop()
        if operator == "~":
            values.append(-values.pop())
            return
        b, a = values.pop(), values.pop()
        if operator == "^" and (b.denominator != 1 or abs(b) > _POWER or len(str(a)) > _DIGITS):
            raise ArithmeticError
        values.append(_OPERATIONS[operator](a, b))

    try:
        operand = False  # whether one has just ended
        for symbol in symbols:
            if symbol.kind == "number" and len(symbol.text) <= _DIGITS:
                values.append(_number(symbol.text, percent))
                operand = True
            elif symbol.kind == "open":
                waiting.append("(")
                operand = False
            elif symbol.kind == "close":
                while waiting[-1] != "(":
                    apply()
                waiting.pop()
            elif symbol.kind == "operator" and operand:
                rank = _PRECEDENCE[symbol.text]
                while waiting and _PRECEDENCE[waiting[-1]] >= rank:
                    apply()
                waiting.append(symbol.text)
                operand = False
            elif symbol.text == "-":
                waiting.append("~")
            elif symbol.text != "+":
                return None
        while waiting:
            apply()
        (value,) = values
    except (ArithmeticError, IndexError, ValueError):
        return None
    return value


def _number(text: str, percent: int) -> Fraction:
    parts = _SEPARATOR.sub("", text.rstrip(_PERCENT)).split(" ")  # of "1 1/2"
    return sum(map(Fraction, parts), Fraction(0)) / (percent if text.endswith("%") else 1)


def _written(value: Fraction) -> str:
    """A value as a chain would write it: exact where that is short, else rounded."""
    exact = format_number(value)
    return f"{float(value):.2f}" if "/" in exact else exact


def _rounds_to(truth: Fraction, value: Fraction, given: Sequence[_Symbol]) -> bool:
    """Whether a result is the true one, rounded or cut to the digits behind the point."""
    if len(given) > 1 or "." not in given[0].text:
        return False
    places = len(given[0].text.rstrip(_PERCENT).partition(".")[2])
    return abs(truth - value) < Fraction(1, 10**places)
