r"""Kinds of answers: how one is read from a response, when two are equal, how one is written.

| kind | value | example |
|---|---|---|
| `number` | an exact `Fraction` | `18`, `1,000`, `\frac{1}{2}` |
| `latex` | an expression's normal form, compared by math-verify (extra `latex`) | `3\sqrt{2}` |
| `choice` | an option's capital letter | `(B)` |
| `yes_no` | a bool | `yes` |
| `date` | a `datetime.date` | `12/25/1937` |

The grader "ours" reads them so; "official_w2s" reads `number` and `latex` as the published programs
of weak-to-strong reasoning do.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from leco_jax.text import choice_answers, date_answers, latex_answers, official_w2s
from leco_jax.text.number_answers import format_number, read_gold_number, read_number
from leco_jax.text.parsed_answer import ParsedAnswer, parsed


def _nothing() -> None:
    """A kind that needs nothing more."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class AnswerKind:
    """One kind of answer."""

    name: str  # what data sets and configs call it
    read: Callable[[str], ParsedAnswer]  # the answer of a response; never raises
    read_gold: Callable[[str], ParsedAnswer]  # a data set's answer: the whole text, or none
    equal: Callable[[Any, Any], bool]  # whether two answers (neither None) are the same
    format: Callable[[Any], str]  # the answer as text for result files
    require: Callable[[], None] = _nothing  # raises where a package that it needs is missing

    def extract(self, text: str) -> Any:
        """The answer of a response as a value, None where there is none."""
        return self.read(text).value


ANSWER_KINDS: dict[str, AnswerKind] = {}
# For each grader, the kind that grades a kind; one that is not named is graded as it is.
GRADERS = {
    "ours": {},
    "official_w2s": {"number": "official_w2s_number", "latex": "official_w2s_latex"},
}


def register_answer_kind(kind: AnswerKind) -> AnswerKind:
    """Adds a kind of answers under its name; a name is given once."""
    if kind.name in ANSWER_KINDS:
        raise ValueError(f"there is an answer kind {kind.name!r} already")
    ANSWER_KINDS[kind.name] = kind
    return kind


def answer_kind(name: str, *, grader: str = "ours") -> AnswerKind:
    """Returns a kind of answers by name.

    Raises:
      ValueError: no such kind or grader, or the grader does not know the kind.
      ModuleNotFoundError: the kind needs an extra that is not installed; the message names it.
    """
    if name not in ANSWER_KINDS:
        raise ValueError(f"no answer kind {name!r}; known are {sorted(ANSWER_KINDS)}")
    if grader not in GRADERS:
        raise ValueError(f"no grader {grader!r}; known are {sorted(GRADERS)}")
    graded = GRADERS[grader]
    if graded and name not in (*graded, *graded.values()):
        raise ValueError(f"the grader {grader!r} grades {' and '.join(graded)}, not {name!r}")
    kind = ANSWER_KINDS[graded.get(name, name)]
    kind.require()
    return kind


def read_answer(text: str, *, kind: str = "number", grader: str = "ours") -> ParsedAnswer:
    """Reads the answer of a response: its value, the part of the text, and why there is none."""
    return answer_kind(kind, grader=grader).read(text)


def extract_answer(text: str, *, kind: str = "number", grader: str = "ours") -> Any:
    """Returns the answer of a response as a value of its kind, or None where there is none."""
    return answer_kind(kind, grader=grader).extract(text)


def answers_equal(a: Any, b: Any, *, kind: str = "number", grader: str = "ours") -> bool:
    """Says whether two answers are the same; None (no answer) equals nothing, not even None."""
    if a is None or b is None:
        return False
    return bool(answer_kind(kind, grader=grader).equal(a, b))


def format_answer(answer: Any, *, kind: str = "number") -> str | None:
    """Returns an answer as text, None for None."""
    return None if answer is None else answer_kind(kind).format(answer)


def _read_gold_number(text: str) -> ParsedAnswer:
    return parsed(read_gold_number(text), text, "is not one number and nothing else")


def _same(a: Any, b: Any) -> bool:
    return bool(a == b)


register_answer_kind(
    AnswerKind(
        name="number",
        read=read_number,
        read_gold=_read_gold_number,
        equal=_same,
        format=format_number,
    )
)
register_answer_kind(
    AnswerKind(
        name="latex",
        read=latex_answers.read_latex,
        read_gold=latex_answers.read_gold_latex,
        equal=latex_answers.latex_equal,
        format=str,
        require=latex_answers.require_math_verify,
    )
)
register_answer_kind(
    AnswerKind(
        name="choice",
        read=choice_answers.read_choice,
        read_gold=choice_answers.read_gold_choice,
        equal=_same,
        format=str,
    )
)
register_answer_kind(
    AnswerKind(
        name="yes_no",
        read=choice_answers.read_yes_no,
        read_gold=choice_answers.read_gold_yes_no,
        equal=_same,
        format=lambda value: "yes" if value else "no",
    )
)
register_answer_kind(
    AnswerKind(
        name="date",
        read=date_answers.read_date,
        read_gold=date_answers.read_gold_date,
        equal=_same,
        format=date_answers.format_date,
    )
)
for _kind, _key in (("number", "####"), ("latex", "The answer is:")):
    register_answer_kind(
        AnswerKind(
            name=f"official_w2s_{_kind}",
            read=official_w2s.reader(_key),
            read_gold=official_w2s.read_gold,
            equal=_same,
            format=str,
        )
    )
