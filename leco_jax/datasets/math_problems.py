"""MATH (Hendrycks et al. 2021): competition problems in seven subjects, answers in LaTeX.

Splits: "test" and "train", each also by subject ("test/algebra"), and "math500", the 500 test
problems of "Let's Verify Step by Step" (Lightman et al. 2023), named by a file of their ids.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from leco_jax.datasets.problem import Problem
from leco_jax.datasets.problem_rows import Rows, prepared_problems, source_file
from leco_jax.storage.files import read_json
from leco_jax.storage.jsonl import check_texts, read_rows
from leco_jax.storage.paths import as_path
from leco_jax.text.answer_regions import last_boxed

SUBJECTS = (
    "algebra", "counting_and_probability", "geometry", "intermediate_algebra", "number_theory",
    "prealgebra", "precalculus",
)  # fmt: skip
_HALVES = ("test", "train")
SPLITS = (*_HALVES, "math500", *(f"{half}/{subject}" for half in _HALVES for subject in SUBJECTS))
_IDS = "math500.jsonl"
_ORIGIN = "the directory MATH as published, or its problems as rows with subject and index"


def load_math(split: str, data_dir: str | Path | None = None) -> list[Problem]:
    """Returns the problems of a split, by subject and number.

    `data_dir` has `test/SUBJECT/NUMBER.json` as published, or all of them as rows of `test.jsonl`,
    with "subject" and "index" added; "math500" also needs `math500.jsonl`, rows with a "unique_id"
    ("test/precalculus/807.json") as MATH-500 is published.

    Raises:
      FileNotFoundError: no such file.
      ValueError: a malformed row, an id that names no problem, or gold answers that cannot be read.
    """
    half, _, subject = ("test", "", "") if split == "math500" else split.partition("/")
    files, rows = _source(half, data_dir)
    problems = prepared_problems(
        "math",
        half,
        files,
        rows,
        _row,
        kind="latex",
        description="Competition problems with worked solutions.",
    )
    if split == "math500":
        return _named(problems, source_file(data_dir, [_IDS], data_set=split, origin="MATH-500"))
    return [p for p in problems if not subject or p.id.split("/")[2] == subject]


def _source(half: str, data_dir: str | Path | None) -> tuple[list[Path], Any]:
    tree = as_path(data_dir or "").expanduser() / half
    if data_dir is not None and tree.is_dir():
        found = [(s, f) for s in SUBJECTS for f in sorted((tree / s).glob("*.json"), key=_number)]
        if not found:
            raise FileNotFoundError(f"{tree} has no SUBJECT/NUMBER.json; subjects: {SUBJECTS}")
        return [file for _, file in found], lambda: _tree_rows(found)
    file = source_file(data_dir, [f"{half}.jsonl"], data_set="math", origin=_ORIGIN)
    return [file], lambda: read_rows(file, fields=("subject", "problem", "solution"))


def _tree_rows(found: list[tuple[str, Path]]) -> Rows:
    for subject, file in found:
        row = read_json(file)
        try:
            check_texts(row, ("problem", "solution"))
        except (ValueError, AttributeError, TypeError) as error:
            raise ValueError(f"{file}: {error}") from None
        yield str(file), row | {"subject": subject, "index": _number(file)}


def _number(file: Path) -> int:
    if not file.stem.isdecimal():
        raise ValueError(f"{file}: MATH's files are called NUMBER.json")
    return int(file.stem)


def _row(row: dict[str, Any]) -> dict[str, str]:
    if row["subject"] not in SUBJECTS or not isinstance(row["index"], int):
        raise ValueError(f"subject {row['subject']!r}, index {row['index']!r} name no problem")
    return {
        "key": f"{row['subject']}/{row['index']}",
        "question": row["problem"],
        "gold": last_boxed(row["solution"]) or "",
        "solution": row["solution"],
    }


def _named(problems: list[Problem], ids: Path) -> list[Problem]:
    by_id = {p.id.removeprefix("math/"): p for p in problems}
    return list(_look_up(by_id, ids))


def _look_up(by_id: dict[str, Problem], ids: Path) -> Iterator[Problem]:
    for place, row in read_rows(ids, fields=("unique_id",)):
        name = row["unique_id"].removesuffix(".json")
        if name not in by_id:
            raise ValueError(f"{place}: {row['unique_id']!r} is no problem of MATH's test split")
        yield by_id[name]
