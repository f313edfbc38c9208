"""Model answers as rows of a JSONL file, and how many of them are right; gold decides nothing.

Here and in the neighbours `kind` is the kind of answers, a name of `leco_jax.text.answers`.
"""

import collections
import dataclasses
import functools
import random
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from leco_jax.storage.jsonl import check_texts
from leco_jax.storage.paths import as_path
from leco_jax.text.answers import answer_kind, answers_equal, extract_answer, format_answer
from leco_jax.text.gold import make_all, read_gold

_TEXTS = ("id", "question", "response", "model")
_SHOWN = 3  # ids that a message lists


@dataclasses.dataclass(frozen=True, kw_only=True)
class Answer:
    """One response of one model to one question."""

    id: str  # of the question
    question: str  # its text
    response: str  # what the model wrote
    model: str  # the name of the model that wrote it
    sample: int = 0  # tells several responses of one model to one question apart
    gold: str | None = None  # the right answer as the source writes it, None where it is not known
    # a number drawn from the model's logits for the whole response, larger is surer
    confidence: float | None = None
    value: Any = None  # the answer as a value of its kind, None where none could be read


@dataclasses.dataclass(frozen=True)
class Share:
    """How many of the answers whose gold is known are right."""

    correct: int  # right ones
    known: int  # those whose gold answer is known

    @property
    def value(self) -> float | None:
        """The share in 0..1, None where no gold is known."""
        return self.correct / self.known if self.known else None

    def __str__(self) -> str:
        return f"{self.correct / self.known:.2%} of {self.known}" if self.known else "gold unknown"


def answer_from_row(row: Mapping[str, Any], *, kind: str = "number") -> Answer:
    """Makes an answer of a row's fields.

    It needs the texts "id", "question", "response" and "model"; optional are "sample" (int), "gold"
    (the answer and nothing else), "confidence" (float) and "answer" (already taken out of the
    response; else it is read from the response).

    Raises:
      BadGoldError: the gold answer is not wholly of its kind.
      ValueError: a field is missing or no such value.
    """
    check_texts(row, _TEXTS)
    for name in ("id", "question", "model"):
        if not row[name].strip():
            raise ValueError(f"{name!r} is empty")
    for name in ("gold", "answer"):
        if not isinstance(row.get(name), str | None):
            raise ValueError(f"{name!r} must be a text, not {row[name]!r}")
    sample, confidence, gold = row.get("sample", 0), row.get("confidence"), row.get("gold")
    if isinstance(sample, bool) or not isinstance(sample, int) or sample < 0:
        raise ValueError(f"'sample' must be a whole number from 0 on, not {sample!r}")
    if confidence is not None and (
        isinstance(confidence, bool)
        or not isinstance(confidence, int | float)
        or not abs(confidence) <= sys.float_info.max  # not NaN, nor an integer beyond the floats
    ):
        raise ValueError(f"'confidence' must be a finite number, not {confidence!r}")
    if gold is not None:
        _read_gold(gold, kind)
    given = row.get("answer")
    return Answer(
        **{name: row[name] for name in _TEXTS},
        sample=sample,
        gold=gold,
        confidence=None if confidence is None else float(confidence),
        value=extract_answer(row["response"] if given is None else given, kind=kind),
    )


def read_answers(
    path: str | Path, *, kind: str = "number", skip_bad_gold: bool = False
) -> list[Answer]:
    """Reads a JSONL file of answers; `answer_from_row` says what a line holds.

    With `skip_bad_gold` rows whose gold answer cannot be read are left out, and counted in the log.

    Raises:
      ValueError: a line is no such row, an id and sample number stand there twice, an id has two
        questions, or the file has no rows; the message names the file and the line.
    """
    path = as_path(path)
    answer_kind(kind)  # an unknown kind is no fault of a line
    places: dict[tuple[str, int], str] = {}
    questions: dict[str, tuple[str, str]] = {}

    def make(place: str, row: dict[str, Any]) -> Answer:
        answer = answer_from_row(row, kind=kind)
        key = (answer.id, answer.sample)
        if key in places:
            raise ValueError(
                f"id {answer.id!r}, sample {answer.sample}, stands there already "
                f"({places[key]}); give several answers to a question different 'sample' numbers"
            )
        places[key] = place
        text, first = questions.setdefault(answer.id, (answer.question, place))
        if text != answer.question and question_key(text) != question_key(answer.question):
            raise ValueError(f"id {answer.id!r} has another question at {first}")
        return answer

    answers = make_all(path, make, fields=_TEXTS, skip_bad_gold=skip_bad_gold)
    if not answers:
        raise ValueError(f"{path} has no answers")
    return answers


def question_key(text: str) -> str:
    """A text that questions share when they differ in letter case and white space only."""
    return " ".join(text.split()).casefold()


def question_random(seed: int, question_id: str) -> random.Random:
    """Random numbers for one question, whichever others there are, the same on every machine."""
    return random.Random(f"{seed} {question_id}")


def by_question(answers: Iterable[Answer]) -> dict[str, list[Answer]]:
    """All answers of each id, ids in the order in which they first appear."""
    groups: dict[str, list[Answer]] = {}
    for answer in answers:
        groups.setdefault(answer.id, []).append(answer)
    return groups


def one_each(answers: Iterable[Answer], *, name: str = "answers") -> dict[str, Answer]:
    """The only answer of each id, in order.

    Args:
      answers: of one set.
      name: what a message calls the set.

    Raises:
      ValueError: an id has several answers.
    """
    groups = by_question(answers)
    several = [id_ for id_, group in groups.items() if len(group) > 1]
    if several:
        raise ValueError(
            f"each question must have one answer among the {name}; {len(several)} of "
            f"{len(groups)} have more: {_list(several)}; keep one sample of each"
        )
    return {id_: group[0] for id_, group in groups.items()}


def check_same_model(answers: Iterable[Answer], *, name: str = "answers") -> str:
    """Returns the one model that wrote all answers.

    Answers of another model in a set go unnoticed otherwise: a published set of pairs that is
    said to hold one weak model's responses holds another one's.

    Raises:
      ValueError: several models, each named with the number of its answers; or no answers. The
        message calls the set `name`.
    """
    counts = collections.Counter(answer.model for answer in answers)
    if not counts:
        raise ValueError(f"There are no {name}")
    if len(counts) > 1:
        listed = ", ".join(f"{model!r} ({count})" for model, count in counts.most_common())
        raise ValueError(
            f"The {name} come from {len(counts)} models: {listed}. Results would be ascribed to "
            "the wrong one; give each model's answers a file of their own"
        )
    return next(iter(counts))


def match_ids(a: Iterable[Answer], b: Iterable[Answer]) -> None:
    """Checks that two sets answer the same questions.

    Raises:
      ValueError: an id is in one set only, or stands for two questions (letter case and white
        space apart).
    """
    first, second = by_question(a), by_question(b)
    only_first = [id_ for id_ in first if id_ not in second]
    only_second = [id_ for id_ in second if id_ not in first]
    if only_first or only_second:
        raise ValueError(
            f"The two sets answer different questions: {len(first)} ids and {len(second)}, "
            f"{len(first) - len(only_first)} of them in both. Only in the first "
            f"({len(only_first)}): {_list(only_first)}. Only in the second ({len(only_second)}): "
            f"{_list(only_second)}. Give the same questions the same 'id' in both files, and take "
            "out those that one model was not asked"
        )
    check_questions(first, second)


def check_questions(
    first: Mapping[str, Sequence[Answer]], second: Mapping[str, Sequence[Answer]]
) -> None:
    """Checks that the ids that two sets share stand for the same questions; see `match_ids`."""
    different = [
        id_
        for id_, group in first.items()
        if id_ in second
        and question_key(group[0].question) != question_key(second[id_][0].question)
    ]
    if different:
        id_ = different[0]
        raise ValueError(
            f"{len(different)} ids stand for different questions in the two sets: "
            f"{_list(different)}. {id_!r} is {first[id_][0].question[:80]!r} in the first and "
            f"{second[id_][0].question[:80]!r} in the second: number both files alike"
        )


def gold_value(answers: Iterable[Answer], *, kind: str = "number") -> Any:
    """The gold answer that answers to one question carry, None where none does.

    Raises:
      ValueError: they carry different ones.
    """
    gold: Any = None
    for answer in answers:
        if answer.gold is None:
            continue
        value = _read_gold(answer.gold, kind)
        if gold is None:
            gold = value
        elif not answers_equal(gold, value, kind=kind):
            raise ValueError(
                f"id {answer.id!r} has two gold answers, {format_answer(gold, kind=kind)} and "
                f"{answer.gold}: one of the files is wrong"
            )
    return gold


def share_correct(pairs: Iterable[tuple[Any, Any]], *, kind: str = "number") -> Share:
    """Counts right answers among (value, gold value); those without gold are left out."""
    graded = [answers_equal(value, gold, kind=kind) for value, gold in pairs if gold is not None]
    return Share(sum(graded), len(graded))


@functools.lru_cache(maxsize=1 << 16)
def _read_gold(gold: str, kind: str) -> Any:
    # The samples of a question all carry the same text.
    return read_gold(gold, kind=kind)


def _list(ids: Sequence[str]) -> str:
    if not ids:
        return "none"
    return ", ".join(map(repr, ids[:_SHOWN])) + (", ..." if len(ids) > _SHOWN else "")
