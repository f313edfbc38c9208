r"""Numbers as models and data sets write them: 1,000, 1{,}000, -\$5.50, 50\%, \frac{1}{2}, 1 1/2.

Values are exact rationals. A percent sign and units are dropped (50% is 50), as the data sets do;
"hundred" to "trillion" multiply. What is not one number (a sum, a range, a time, a list, a root,
a number in another base, a repeating decimal) is None, not one of its parts.

`parse_number` reads a text that is a number and nothing else, `read_gold_number` a data set's
answer, `read_number` a response. All take time linear in the length of the text.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

from leco_jax.text import answer_regions
from leco_jax.text.parsed_answer import ParsedAnswer, parsed

_INT = r"(?:[0-9]{1,3}(?:,[0-9]{3})+(?![0-9])|[0-9]+)"
_DECIMAL = rf"(?:{_INT}(?:\.[0-9]+)?|\.[0-9]+)"
_NUMBER = re.compile(
    rf"""
    (?<![^\W_])(?<!_)(?<![0-9][.,])       # not inside a word or another number
    (?P<sign>(?:(?<![\w)%])[-+])?)
    (?:
      (?P<whole>[0-9]+)\ (?:and\ )?(?P<top>[0-9]+)\ ?/\ ?(?P<bottom>[0-9]+)
    | (?P<over>{_DECIMAL})\ ?/\ ?(?P<under>{_DECIMAL})
    | (?P<plain>{_DECIMAL})
      (?:[eE](?P<e>[-+]?[0-9]+)(?![A-Za-z0-9])|\ ?\*\ ?10\ ?\^\ ?(?P<ten>[-+]?[0-9]+))?
    )
    (?![0-9])
    """,
    re.VERBOSE,
)
_DIGIT = re.compile(r"[0-9\u00bc-\u00be\u2150-\u215e]")
_SCALES = {
    "hundred": 10**2, "thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12,
}  # fmt: skip
_SCALE = re.compile(rf" ?({'|'.join(_SCALES)})\b", re.IGNORECASE)

# What may follow a number: words, each perhaps with a power, apart or after a comma or slash.
_UNITS = re.compile(
    r"(?:(?:^|,? \(?| ?/ ?)[^\W\d_]++(?:[-'’.][^\W\d_]++)*+\.?(?: ?\^[23])?\)?)*+ ?[.,]?"
)
_WORD = re.compile(r"[^\W\d_]+")
_CLOCK = re.compile(r"[ap]\.? ?m\b", re.IGNORECASE)
# Of one or two letters: units, and words beside them. Others may be products of variables.
_SHORT = re.compile(
    r"an?|at|by|[cmk]?m|[km]?g|gm|m?l|lb|oz|ft|in|yd|mi|hr?|s|c|f|k?w|v|hz|st|nd|rd|th|of|on|if"
    r"|it|is|he|so|we|us|up|to"
)
_NO_UNITS = re.compile(
    r"and|or|plus|minus|times|over|than|half|halves|thirds?|squared|cubed|factorial|choose|mod|pi"
    r"|sqrt|root|sin|cos|tan|log|ln|exp|infinity|boxed"
)
_AFTER_DIGITS = re.compile(  # without a space between
    r"[cmk]m|[km]g|ml|lbs?|oz|ft|yd|mi|hrs?|mins?|secs?|[mk]ph|st|nd|rd|th|hours|minutes|seconds"
    r"|days|weeks|years|dollars|cents|feet|inches|miles|degrees|percent"
)

# What may stand before "=": a name, or a calculation in numbers and words; no variables in it.
_NO_LEFT_SIDE = re.compile(r"[<>;|_≈⌑]|,(?![0-9]{3})|\b(?:and|or)\b")
_CALCULATION = re.compile(r"[-+*/÷^0-9]")
_VARIABLE = re.compile(r"(?<![^\W\d_])[^\W\d_](?![^\W\d_])|[0-9][^\W\d_]")

# For numbers inside a text: what shows that one is part of a larger expression. ⌑ stands for a
# LaTeX command such as \sqrt.
_MIXED = (
    r" ?(?:hours?|hrs?|minutes?|mins?|seconds?|secs?|days?|weeks?|months?|years?|feet|foot|ft"
    r"|inch(?:es)?|yards?|miles?|pounds?|lbs?|ounces?|oz|dollars?|cents?|kg|km)\b"
)
_GOES_ON = re.compile(
    r" ?(?:[-–+*/^×÷·]|:(?=[0-9])|\.{2,}) ?[-+(]* ?(?:\.?[0-9]|[π√⌑])"
    r"|[-+*/]?[A-Za-zΑ-ω](?!\w)|[,.] ?⌑|[,.][0-9]|\( ?[0-9]|[_^]| ?[π√⌑]| ?x ?[0-9]"
    rf"|{_MIXED} (?:and )?[0-9.]+{_MIXED}"
)
_COMES_FROM = re.compile(
    r"(?:[*/^×÷√π_]|⌑ ?,?|[A-Za-z0-9)] ?\+|[0-9)] ?[-–]|(?<!\w)[b-zB-Z] ?-|[0-9] ?:) ?\(? ?$"
)
_FIRST_OF_MIXED = re.compile(rf"[0-9]{_MIXED} (?:and )?$")
_SECOND_OF_MIXED = re.compile(_MIXED)

_CURRENCY = "$£€¥₹₩₽¢"
_FRACTION = re.compile(
    rf"\\[dtc]?frac ?(?:\{{ ?(-?) ?({_DECIMAL}) ?\}}|([0-9])) ?(?:\{{ ?({_DECIMAL}) ?\}}|([0-9]))"
)


def _plain_fraction(match: re.Match[str]) -> str:
    top, bottom = match[2] or match[3], match[4] or match[5]
    whole = match.string[: match.start()].rstrip()[-1:].isdigit()
    return f"{' ' if whole else ''}{match[1] or ''}{top}/{bottom} "


_LATEX: list[tuple[re.Pattern[str], Any]] = [
    (re.compile(r"\s+"), " "),
    (re.compile(r"\{,\}|, ?\\! ?"), ","),
    (re.compile(r"(?<=[0-9])(?:\\[,!;: ]| )(?=[0-9]{3}(?![0-9]))"), ","),
    (_FRACTION, _plain_fraction),
    (re.compile(r"\^ ?(?:\{ ?)?\\circ(?: ?\})?|°"), " "),
    (re.compile(r"\^ ?\{ ?([-+]?[0-9]+) ?\}"), r"^\1"),
    (re.compile(r"\\(?:times|cdot)(?![A-Za-z])|×"), "*"),
    (re.compile(r"\\div(?![A-Za-z])"), "÷"),
    (re.compile(rf"(?<=[-+]) ?\\?[{_CURRENCY}] ?|\\?[{_CURRENCY}](?=[-+][0-9.])"), ""),
    (re.compile(r"\\(?:text\w*|math\w+|mbox|left|right|quad|qquad)(?![A-Za-z])"), " "),
    (re.compile(r"\\(?:alpha|beta|gamma|theta|lambda|mu|phi|omega)(?![A-Za-z])"), "θ"),
    (
        re.compile(
            r"\\(?:approx|l?dots|cdots|implies|[rR]ightarrow|to|therefore|[lg]eq?|neq?|in)"
            r"(?![A-Za-z])"
        ),
        " ; ",
    ),
    (re.compile(r"\\(?:begin|end) ?\{\w*\*?\}|\\[A-Za-z]+|\} ?\{"), "⌑"),
    (re.compile(rf"\\[,!;: ()\[\]]|\\?[{_CURRENCY}%]|[{{}}~]"), " "),
    (re.compile(r"(?<![0-9])\*\*|\*\*(?![0-9])|(?<!\w)__|__(?!\w)"), " "),  # bold
    (re.compile(r"  +"), " "),
]
_QUOTES = " \"'`“”‘’"
_LINE_LABEL = re.compile(r"^(?:\W*Step\s*[0-9]+\s*[:.)]?|\s*[0-9]+[.)](?=\s+\S))", re.IGNORECASE)


def extract_number(text: str) -> Fraction | None:
    """Returns the number that a response gives as its answer, or None; see `read_number`."""
    return read_number(text).value


def read_number(text: str) -> ParsedAnswer:
    r"""Reads the number that a response gives as its answer; any text is safe to give.

    The first of these that the text has decides, and of several the last: a `\boxed{}`; a line
    "#### x"; a sentence with a digit after "answer is" or "answer:". A box or "####" line that is
    not one number means no answer. Only a text with none of them is read for the last line with a
    number: what follows its last "=", else its last number. Text from a further "Question:" on and
    before the last 200,000 characters is not read.
    """
    text = answer_regions.cut_run_on(text)[-answer_regions.READ :]
    box = answer_regions.last_boxed(text)
    if box is not None:
        return parsed(parse_number(box), box, "the box does not hold one number")
    line = next(answer_regions.hash_lines(text), None)
    if line is not None:
        return parsed(parse_number(line), line, 'the line "####" does not hold one number')
    sentences, tail = answer_regions.answer_sentences(text)
    for sentence, in_words in reversed(sentences):
        digit = _DIGIT.search(sentence)
        if digit and (in_words or not re.search(r"[^\W_]", sentence[: digit.start()])):
            return parsed(_first_number(sentence), sentence, "the answer is an expression")
    return _number_of_last_line(tail)


def parse_number(text: str) -> Fraction | None:
    r"""Returns the value of a text that is one number, or None.

    Allowed are a currency, units ("18 dollars per hour", "5 cm^2") and, before a "=", a name or a
    calculation (`9 \times 2 = 18`), but no sentence and no second number.
    """
    if len(text) > answer_regions.LONGEST:
        return None
    *left_sides, plain = _plain(text).strip(_QUOTES).split("=")
    if not all(map(_is_left_side, left_sides)):
        return None
    plain = re.sub(r"^\((.*)\)$", r"\1", plain.strip()).strip()
    plain = re.sub(r"^([-+]?) ?(?:(?:Rs\.?|USD|US|EUR|INR) ?)?", r"\1", plain)
    match = _NUMBER.match(plain)
    if match is None:
        return None
    value, end = _scaled_value(match)
    return value if _is_unit(plain[end:]) else None


def read_gold_number(text: str) -> Fraction | None:
    r"""Returns the value of a data set's answer, or None.

    The text must be one number as for `parse_number`, with at most a name before it (`x = 4`), and
    read as the same number inside `\boxed{}`.
    """
    value = None if _CALCULATION.search(text.rpartition("=")[0]) else parse_number(text)
    return value if value is None or extract_number(f"\\boxed{{{text}}}") == value else None


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


def _first_number(sentence: str) -> Fraction | None:
    # "9 * 2 = 18 dollars" claims 18; "4 hours in 3 days" claims 4.
    return next(_numbers(_plain(sentence).rsplit("=", 1)[-1]), None)


def _number_of_last_line(text: str) -> ParsedAnswer:
    expression = "the last line with a number ends in an expression"
    for line in answer_regions.last_lines(text):
        if not _DIGIT.search(line):
            continue
        before, equals, after = _plain(_LINE_LABEL.sub("", line)).rpartition("=")
        numbers = list(_numbers(after))
        if numbers:
            return parsed(numbers[0 if equals else -1], line, expression)
        if equals and _NUMBER.search(before):
            return ParsedAnswer(text=line, problem=expression)
    return ParsedAnswer(problem="there is no number")


def _numbers(plain: str) -> Iterator[Fraction | None]:
    """Yields the value of each number in a text; None for one that is part of an expression."""
    for match in _NUMBER.finditer(plain):
        value, end = _scaled_value(match)
        before = plain[max(0, match.start() - 30) : match.start()]
        is_part = (
            _GOES_ON.match(plain, end)
            or _COMES_FROM.search(before)
            or (_FIRST_OF_MIXED.search(before) and _SECOND_OF_MIXED.match(plain, end))
        )
        yield None if is_part else value


def _scaled_value(match: re.Match[str]) -> tuple[Fraction | None, int]:
    """Returns the value of a number with its "thousand", if any, and where they end."""
    value = _value(match)
    scale = _SCALE.match(match.string, match.end())
    if scale is None:
        return value, match.end()
    return None if value is None else value * _SCALES[scale[1].lower()], scale.end()


def _value(match: re.Match[str]) -> Fraction | None:
    if match.end() - match.start() > answer_regions.LONGEST:
        return None
    parts = {
        name: Fraction(text.replace(",", ""))
        for name, text in match.groupdict("").items()
        if text and name != "sign"
    }
    if "whole" in parts:
        value = parts["whole"] + parts["top"] / parts["bottom"] if parts["bottom"] else None
    elif "over" in parts:
        value = parts["over"] / parts["under"] if parts["under"] else None
    else:
        power = parts.get("e", parts.get("ten", Fraction(0)))
        small = abs(power) <= answer_regions.LONGEST
        value = parts["plain"] * Fraction(10) ** int(power) if small else None
    return -value if value is not None and match["sign"] == "-" else value


def _is_unit(text: str) -> bool:
    """Whether the text after a number leaves its value as it is."""
    if not _UNITS.fullmatch(text) or _CLOCK.match(text.strip()):
        return False
    words = [word.lower() for word in _WORD.findall(text)]
    if re.match("[A-Za-z]", text) and not _AFTER_DIGITS.fullmatch(words[0]):
        return False
    return not any(
        _NO_UNITS.fullmatch(word)
        or (len(word) < 3 and word.isascii() and not _SHORT.fullmatch(word))
        or any("Ͱ" <= letter <= "Ͽ" or letter.isnumeric() for letter in word)
        for word in words
    )


def _is_left_side(text: str) -> bool:
    if _NO_LEFT_SIDE.search(text):
        return False
    return not (_CALCULATION.search(text) and _VARIABLE.search(text))


def _plain(text: str) -> str:
    """Takes LaTeX, currency, bold and typographic signs off a text and keeps its numbers."""
    text = text.translate(_TYPOGRAPHY)
    for pattern, replacement in _LATEX:
        text = pattern.sub(replacement, text)
    return text


def _typography() -> dict[int, str]:
    table = {ord(minus): "-" for minus in "−﹣－"}
    table |= {ord("\u2044"): "/", ord("％"): "%", ord("²"): "^2", ord("³"): "^3", ord("⌑"): " ; "}
    for code in [*range(0xBC, 0xBF), *range(0x2150, 0x215F)]:  # ½ and its kin
        top, _, bottom = unicodedata.normalize("NFKC", chr(code)).partition("\u2044")
        if bottom:
            table[code] = f" {top}/{bottom} "
    return table


_TYPOGRAPHY = _typography()
