"""The one form in which every data set gives its problems, and problems from a JSONL file."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json
from collections.abc import Iterable, Mapping
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

from leco_jax.text.answers import answer_kind
from leco_jax.text.gold import make_all, read_gold

_GSM8K_KEY = "####"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Problem:
    """A question with its gold answer."""

    id: str  # unique over data sets and splits, the same in every run: "gsm8k/test/12"
    question: str  # the text of the question
    answer: Any  # the gold answer as a value of its kind (numbers: an exact `Fraction`)
    gold: str  # the gold answer as the data set writes it
    kind: str = "number"  # the kind of answer, a name in `leco_jax.text.answers.ANSWER_KINDS`
    solution: str | None = None  # the data set's worked solution, None where it has none


def problems_hash(problems: Iterable[Problem]) -> str:
    """Returns a short hash of problems in their order, wherever they came from."""
    total = hashlib.sha256()
    for p in problems:
        total.update(json.dumps([p.id, p.question, p.gold, p.solution, p.kind]).encode() + b"\n")
    return total.hexdigest()[:16]


def graded_by(problems: list[Problem], grader: str) -> list[Problem]:
    """Returns problems with the kind and the gold values by which a grader compares answers."""
    if grader == "ours":
        return problems
    return [
        dataclasses.replace(
            p,
            kind=answer_kind(p.kind, grader=grader).name,
            answer=None if p.answer is None else read_gold(p.gold, kind=p.kind, grader=grader),
        )
        for p in problems
    ]


def gsm8k_gold(solution: str) -> str:
    """Returns what stands after the last "####" of a solution; "" without one."""
    return solution.rpartition(_GSM8K_KEY)[2].strip() if _GSM8K_KEY in solution else ""


def load_problem_file(
    path: Path | Traversable, *, name: str = "", skip_bad_gold: bool = False
) -> list[Problem]:
    """Returns the problems of a JSONL file, in its order.

    A line has "question", and if they are known "id" (else `name`, by default the file's without
    its suffix, and the line's number), "gold" (the answer), "solution" (a worked one) and "kind" (a
    name in `leco_jax.text.answers.ANSWER_KINDS`; "number" if it is left out). A line without "gold"
    may have GSM8K's "answer" instead: a solution that ends in "#### 18", or the answer itself.
    `skip_bad_gold` leaves problems out whose gold answer cannot be read, and logs how many.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: a malformed line, an id that occurs twice, no problems, or gold answers that are
        not wholly of their kind; the message names the lines, of bad gold answers the first 20.
    """
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    name = name or Path(path.name).stem
    numbers = itertools.count()
    ids: set[str] = set()

    def make(place: str, row: dict[str, Any]) -> Problem:
        problem = _problem(row, default_id=f"{name}/{next(numbers)}")
        if problem.id in ids:
            raise ValueError(f"id {problem.id!r} occurs twice")
        ids.add(problem.id)
        return problem

    problems = make_all(path, make, fields=("question",), skip_bad_gold=skip_bad_gold)
    if not problems:
        raise ValueError(f"{path} has no problems")
    return problems


def _problem(row: Mapping[str, Any], *, default_id: str) -> Problem:
    row = {name: value for name, value in row.items() if value is not None}
    names = ("id", "gold", "answer", "solution", "kind")
    wrong = [name for name in names if not isinstance(row.get(name, ""), str)]
    if wrong:
        raise ValueError(f"{', '.join(wrong)} must be text")
    gold, solution = row.get("gold", row.get("answer")), row.get("solution")
    if "gold" not in row and gold is not None and _GSM8K_KEY in gold:
        gold, solution = gsm8k_gold(gold), solution or gold
    kind = row.get("kind", "number")
    return Problem(
        id=row.get("id", default_id),
        question=row["question"],
        answer=None if gold is None else read_gold(gold, kind=kind),
        gold=gold or "",
        kind=kind,
        solution=solution,
    )
