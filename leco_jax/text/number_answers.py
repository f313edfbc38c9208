r"""Numbers as models and data sets write them: 1,000, 1{,}000, -\$5.50, 50\%, \frac{1}{2}, 1 1/2.

Values are exact rationals. A percent sign and units are dropped (50% is 50), as the data sets do;
"thousand" to "trillion" multiply. What is no single number (a sum, a range, a time, a list, a root)
is None, not one of its parts.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from fractions import Fraction

from leco_jax.text import answer_regions

_LONGEST = 400  # digits; Python itself refuses to read more than 4300
_INT = r"(?:[0-9]{1,3}(?:,[0-9]{3})+(?![0-9])|[0-9]+)"
_DECIMAL = rf"(?:{_INT}(?:\.[0-9]+)?|\.[0-9]+)"
_NUMBER = re.compile(
    rf"""
    (?<![A-Za-z0-9_])(?<![0-9][.,])       # not inside a word or another number
    (?P<sign>(?:(?<![A-Za-z0-9_)%])[-+])?)
    (?:
      (?P<whole>[0-9]+)\s+(?:and\s+)?(?P<top>[0-9]+)\s?/\s?(?P<bottom>[0-9]+)
    | (?P<over>{_DECIMAL})\s*/\s*(?P<under>{_DECIMAL})
    | (?P<plain>{_DECIMAL})
      (?:[eE](?P<e>[-+]?[0-9]+)(?![A-Za-z0-9])|\s*\*\s*10\s*\^\s*(?P<ten>[-+]?[0-9]+))?
    )
    (?![0-9])
    """,
    re.VERBOSE,
)
_SCALE = re.compile(r"\s*(thousand|million|billion|trillion)\b", re.IGNORECASE)
_SCALES = {"thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}

# After a number: something that makes it part of a larger expression.
_GOES_ON = re.compile(
    r"\s*(?:[*/^×÷·+]|-|–|:(?=[0-9])|\.{2,})\s*[-+(]*\s*\.?[0-9]|,[0-9]|\(\s*[0-9]|[xyznπ√]\b|\s*[x]\s*[0-9]"
    r"|\s*\*?\s*\\(?:sqrt|pi|frac|log|ln|binom|infty|pm)|\s*[π√]"
)
_ONE_OF_MANY = re.compile(r"\s*(?:,|;|\s|\bor\b|\band\b|\bto\b)\s*[-+]?\s*\.?[0-9]")
# Before a number: an operator whose other side is no number (x + 5, 2^ 3, √3).
_COMES_FROM = re.compile(
    r"(?:[*/^×÷√]|[A-Za-z0-9)]\s*\+|[0-9)]\s*[-–])\s*\(?\s*$|\\(?:sqrt|[dtc]?frac|log|ln)\W*$"
)

_FRACTION = re.compile(
    rf"\\[dtc]?frac\s*(?:\{{\s*(-?)\s*({_DECIMAL})\s*\}}|([0-9]))\s*(?:\{{\s*({_DECIMAL})\s*\}}|([0-9]))"
)
_LATEX = [
    (re.compile(r"\{,\}|,\\!"), ","),
    (re.compile(r"(?<=[0-9])(?:\\[,!;: ]|[ \u00a0\u202f\u2009])(?=[0-9]{3}(?![0-9]))"), ","),
    (re.compile(r"\^\s*(?:\{\s*)?\\circ(?:\s*\})?|°"), " "),
    (re.compile(r"\^\s*\{\s*([-+]?[0-9]+)\s*\}"), r"^\1"),
    (re.compile(r"\\(?:times|cdot)(?![A-Za-z])|×"), "*"),
    (re.compile(r"\\div(?![A-Za-z])"), "÷"),
    (re.compile(r"(?<=[-+])\s*\\?[$£€¥]\s*|\\?[$£€¥](?=[-+][0-9.])"), ""),
    (re.compile(r"\\(?:text\w*|math\w+|mbox|left|right|quad|qquad)(?![A-Za-z])"), " "),
    (re.compile(r"\\[,!;: ()\[\]]|\\?[$£€¥%]|[{}~]"), " "),
    (re.compile(r"(?<![0-9])\*\*|\*\*(?![0-9])|(?<!\w)__|__(?!\w)"), " "),  # bold
]
_LINE_LABEL = re.compile(r"^(?:\W*Step\s*[0-9]+\s*[:.)]?|\s*[0-9]+[.)](?=\s+\S))", re.IGNORECASE)


def extract_number(text: str) -> Fraction | None:
    r"""Returns the number that a response gives as its answer, or None.

    The first of these that gives a single number decides, and within each the last place in the
    text: `\boxed{}`; a line "#### x"; the sentence after "answer is" or "answer:". Only a text with
    none of them is read for the last line with a number: what follows its last "=", else its last
    number. Text from a further "Question:" on is not looked at. Any text is safe to give.
    """
    text = answer_regions.cut_run_on(text)
    has_box = False
    for content in answer_regions.boxed_contents(text):
        has_box = has_box or any(map(str.isalnum, content))  # `\boxed{...}` names none
        if (value := parse_number(content)) is not None:
            return value
    for line in answer_regions.hash_lines(text):
        if (value := _number_at_start(line)) is not None:
            return value
    for sentence, in_words in answer_regions.answer_sentences(text):
        value = _number_of_claim(sentence) if in_words else _number_at_start(sentence)
        if value is not None:
            return value
    if has_box:
        return None
    return _number_of_last_line(answer_regions.after_last_answer_sentence(text))


def parse_number(text: str) -> Fraction | None:
    """Returns the value of a text that is one number with units, or None."""
    plain = re.sub(r"^([-+])\s+", r"\1", _plain(text).strip())
    plain = plain.rsplit("=", 1)[-1]
    found = next(_numbers(plain), None)
    if found is None:
        return None
    value, end = found
    return None if value is None or _ONE_OF_MANY.match(plain, end) else value


def format_number(value: Fraction) -> str:
    """Returns a value as a whole number, an exact decimal, or else a fraction: 18, 0.5, 1/3."""
    bottom = value.denominator
    places = 0
    while bottom % 10 == 0 or bottom % 5 == 0 or bottom % 2 == 0:
        bottom //= 10 if bottom % 10 == 0 else 5 if bottom % 5 == 0 else 2
        places += 1
    if bottom != 1:
        return str(value)
    if places == 0:
        return str(value.numerator)
    digits = str(abs(value.numerator) * 10**places // value.denominator).rjust(places + 1, "0")
    return f"{'-' if value < 0 else ''}{digits[:-places]}.{digits[-places:]}"


def _number_at_start(text: str) -> Fraction | None:
    plain = _plain(text)
    match = _NUMBER.search(plain)
    return parse_number(text) if match and not re.search(r"\w", plain[: match.start()]) else None


def _number_of_claim(sentence: str) -> Fraction | None:
    # "9 * 2 = 18 dollars" claims 18; "4 hours in 3 days" claims 4.
    return next(_numbers(_plain(sentence).rsplit("=", 1)[-1]), (None, 0))[0]


def _number_of_last_line(text: str) -> Fraction | None:
    for line in reversed(text.splitlines()):
        plain = _plain(_LINE_LABEL.sub("", line))
        before, equals, after = plain.rpartition("=")
        found = list(_numbers(after))
        if found:
            return found[0][0] if equals else found[-1][0]
        if equals and _NUMBER.search(before):
            return None
    return None


def _numbers(plain: str) -> Iterator[tuple[Fraction | None, int]]:
    """Yields each number's value and end; None for one that is part of an expression."""
    for match in _NUMBER.finditer(plain):
        value = _value(match)
        end = match.end()
        if scale := _SCALE.match(plain, end):
            value = None if value is None else value * _SCALES[scale[1].lower()]
            end = scale.end()
        before = plain[max(0, match.start() - 20) : match.start()]
        if _GOES_ON.match(plain, end) or _COMES_FROM.search(before):
            value = None
        yield value, end


def _value(match: re.Match[str]) -> Fraction | None:
    if match.end() - match.start() > _LONGEST:
        return None
    parts = {name: _fraction(text) for name, text in match.groupdict(None).items() if text}
    if "whole" in parts:
        value = parts["whole"] + parts["top"] / parts["bottom"] if parts["bottom"] else None
    elif "over" in parts:
        value = parts["over"] / parts["under"] if parts["under"] else None
    else:
        power = parts.get("e", parts.get("ten", Fraction(0)))
        value = parts["plain"] * Fraction(10) ** int(power) if abs(power) <= _LONGEST else None
    return -value if value is not None and match["sign"] == "-" else value


def _fraction(text: str) -> Fraction:
    return Fraction(text.replace(",", "")) if text not in "+-" else Fraction(0)


def _plain(text: str) -> str:
    """Takes LaTeX, currency, bold and typographic signs off a text and keeps its numbers."""
    text = text.translate(_TYPOGRAPHY)
    text = _FRACTION.sub(_plain_fraction, text)
    for pattern, replacement in _LATEX:
        text = pattern.sub(replacement, text)
    return text


def _plain_fraction(match: re.Match[str]) -> str:
    top, bottom = match[2] or match[3], match[4] or match[5]
    whole = match.string[: match.start()].rstrip()[-1:].isdigit()
    return f"{' ' if whole else ''}{match[1] or ''}{top}/{bottom} "


def _typography() -> dict[int, str]:
    table = {ord("−"): "-", ord("﹣"): "-", ord("－"): "-", ord("\u2044"): "/", ord("％"): "%"}
    for code in [*range(0xBC, 0xBF), *range(0x2150, 0x215F)]:  # ½ and its kin
        top, _, bottom = unicodedata.normalize("NFKC", chr(code)).partition("\u2044")
        if bottom:
            table[code] = f" {top}/{bottom} "
    return table


_TYPOGRAPHY = _typography()
