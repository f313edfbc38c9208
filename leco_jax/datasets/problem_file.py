"""Problems of the user's own, from a JSONL file."""

from __future__ import annotations

from pathlib import Path

from leco_jax.datasets.problem import Problem
from leco_jax.storage.jsonl import read_rows
from leco_jax.text.answers import extract_answer


def load_problem_file(path: Path) -> list[Problem]:
    """Returns the problems of a file, in its order.

    A line has "question", and if they are known "id" (else the line's number among the rows is
    taken), "gold" (the answer), "solution" (a worked one) and "kind" (a name in
    `leco_jax.text.answers.ANSWER_KINDS`; "number" if it is left out).

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: a malformed line, a gold answer that is none of its kind, an id that stands there
        twice, or no line; the message names the line.
    """
    if not path.is_file():
        raise FileNotFoundError(f"There is no file {path}.")
    found: dict[str, Problem] = {}
    for place, row in read_rows(path, fields=("question",)):
        name = row.get("id", f"{path.stem}/{len(found)}")
        texts = {key: row.get(key) for key in ("gold", "solution")}
        kind = row.get("kind", "number")
        bad = [k for k, v in {"id": name, "kind": kind}.items() if not isinstance(v, str)]
        bad += [k for k, v in texts.items() if not isinstance(v, str | None)]
        if bad:
            raise ValueError(f"{place}: {bad} must be texts.")
        if name in found:
            raise ValueError(f"{place}: id {name!r} stands there already.")
        gold = texts["gold"]
        answer = None if gold is None else extract_answer(gold, kind=kind)
        if gold is not None and answer is None:
            raise ValueError(
                f"{place}: the gold answer {gold!r} is none of kind {kind!r}; give another 'kind', "
                "or leave 'gold' out where it cannot be compared."
            )
        found[name] = Problem(
            id=name,
            question=row["question"],
            answer=answer,
            gold=gold or "",
            kind=kind,
            solution=texts["solution"],
        )
    if not found:
        raise ValueError(f"{path} has no problems.")
    return list(found.values())
