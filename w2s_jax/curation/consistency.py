"""Stage I's filter: questions to which the weak and the strong model give the same answer."""

import dataclasses
from collections.abc import Iterable
from typing import Any

from leco_jax.text.answers import answers_equal
from w2s_jax.curation.answer_rows import (
    Answer,
    Share,
    check_same_model,
    gold_value,
    match_ids,
    one_each,
    question_random,
    share_correct,
)

TRAINING_SETS = ("weak", "icl", "hybrid")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ConsistencyFunnel:
    """How many questions were kept or why not, and how many kept answers are right."""

    questions: int  # all of them; each is counted once in the next four
    weak_unparsable: int  # the weak response has no answer
    strong_unparsable: int  # the weak one has, the strong one has not
    disagreeing: int  # both have one, and they differ
    kept: int  # both have one, and they are equal
    padded: int  # disagreeing ones that were added at random
    precision: Share  # right answers of the kept questions, without the added ones
    padded_weak: Share  # right weak answers of the added ones
    padded_icl: Share  # right strong answers of the added ones
    weak_accuracy: Share  # right weak answers of all questions
    icl_accuracy: Share  # right strong answers of all questions


@dataclasses.dataclass(frozen=True, kw_only=True)
class Selected:
    """A selected question: both responses, and whether they agree (added ones do not)."""

    weak: Answer
    icl: Answer
    consistent: bool


@dataclasses.dataclass(frozen=True, kw_only=True)
class Selection:
    """What is trained on."""

    questions: tuple[Selected, ...]  # selected ones, in the order of the weak answers
    funnel: ConsistencyFunnel
    weak_model: str  # wrote all weak responses
    icl_model: str  # wrote all strong ones


def select_consistent(
    weak: Iterable[Answer],
    icl: Iterable[Answer],
    *,
    kind: str = "number",
    pad_to: int = 0,
    seed: int = 42,
) -> Selection:
    """Keeps the questions whose two answers can be read and are equal; gold is never used.

    Source: the final-answer consistency of arXiv 2407.13647. Answers are compared as values (1/2
    is 0.5, 1,000 is 1000); the published program compares normalised texts, to which those pairs
    are different ones, so it keeps a little less.

    Args:
      weak: the weak model's answers, one to a question.
      icl: the strong model's, to the same questions.
      kind: of answers.
      pad_to: add randomly drawn questions whose answers can be read and differ, up to this many
        in all or as many as there are; the published MATH sets were filled up so. 0 adds none.
      seed: of that draw.

    Raises:
      ValueError: several answers to a question, several models in one set, or the two sets'
        questions are not the same.
    """
    if pad_to < 0:
        raise ValueError(f"pad_to={pad_to} is negative; 0 adds no questions")
    weak_by_id = one_each(weak, name="weak answers")
    icl_by_id = one_each(icl, name="strong answers")
    models = {
        "weak_model": check_same_model(weak_by_id.values(), name="weak answers"),
        "icl_model": check_same_model(icl_by_id.values(), name="strong answers"),
    }
    match_ids(weak_by_id.values(), icl_by_id.values())

    no_weak, no_strong, agree, differ = [], [], [], []
    for id_, a in weak_by_id.items():
        b = icl_by_id[id_]
        if a.value is None:
            no_weak.append(id_)
        elif b.value is None:
            no_strong.append(id_)
        elif answers_equal(a.value, b.value, kind=kind):
            agree.append(id_)
        else:
            differ.append(id_)
    # Each question draws its own number, so that one question more or less hardly moves the rest.
    drawn = sorted(differ, key=lambda id_: question_random(seed, id_).random())
    added = set(drawn[: max(pad_to - len(agree), 0)])
    kept = set(agree)

    gold = {id_: gold_value((a, icl_by_id[id_]), kind=kind) for id_, a in weak_by_id.items()}

    def right(side: dict[str, Answer], ids: Iterable[str]) -> Share:
        return share_correct(((side[i].value, gold[i]) for i in ids), kind=kind)

    return Selection(
        questions=tuple(
            Selected(weak=a, icl=icl_by_id[id_], consistent=id_ in kept)
            for id_, a in weak_by_id.items()
            if id_ in kept or id_ in added
        ),
        funnel=ConsistencyFunnel(
            questions=len(weak_by_id),
            weak_unparsable=len(no_weak),
            strong_unparsable=len(no_strong),
            disagreeing=len(differ),
            kept=len(agree),
            padded=len(added),
            precision=right(weak_by_id, agree),
            padded_weak=right(weak_by_id, added),
            padded_icl=right(icl_by_id, added),
            weak_accuracy=right(weak_by_id, weak_by_id),
            icl_accuracy=right(icl_by_id, weak_by_id),
        ),
        **models,
    )


def training_rows(selection: Selection, which: str) -> list[dict[str, Any]]:
    """Rows to fine-tune on: the "weak" or "icl" responses, or "hybrid", both, the weak one first.

    Rows have "id", "question", "solution" (the response), "model" (who wrote it), "source" ("weak"
    or "icl") and "consistent" (False for questions added at random).
    """
    if which not in TRAINING_SETS:
        raise ValueError(f"No training set {which!r}; there are {list(TRAINING_SETS)}")
    sources = ("weak", "icl") if which == "hybrid" else (which,)
    return [
        solution_row(getattr(question, source))
        | {"source": source, "consistent": question.consistent}
        for question in selection.questions
        for source in sources
    ]


def solution_row(answer: Answer) -> dict[str, Any]:
    """An answer as a row to fine-tune on."""
    row = {"id": answer.id, "question": answer.question, "solution": answer.response}
    return row | {"model": answer.model}
