"""Word problems of our own in the package: one to three steps of easy arithmetic, no download."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from leco_jax.datasets.problem import Problem
from leco_jax.storage.jsonl import read_rows
from leco_jax.text.number_answers import parse_number

SPLITS = ("test",)


def load_word_problems(split: str, data_dir: str | Path | None = None) -> list[Problem]:
    """Returns the problems; there is one split, "test"."""
    if data_dir is not None:
        raise ValueError("word_problems come with the package and take no data_dir.")
    path = resources.files("leco_jax.datasets") / "data" / "word_problems.jsonl"
    problems: list[Problem] = []
    for place, row in read_rows(path, fields=("question", "answer", "solution")):
        answer = parse_number(row["answer"])
        if answer is None:
            raise ValueError(f"{place}: {row['answer']!r} is no number.")
        problems.append(
            Problem(
                id=f"word_problems/{split}/{len(problems)}",
                question=row["question"],
                answer=answer,
                gold=row["answer"],
                solution=row["solution"],
            )
        )
    return problems
