"""SVAMP (Patel et al. 2021): elementary word problems with variations."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

from leco_jax.datasets.problem import Problem
from leco_jax.datasets.problem_rows import json_rows, prepared_problems, source_file
from leco_jax.text.number_answers import format_number

SPLITS = ("test",)


def load_svamp(split: str, data_dir: str | Path | None = None) -> list[Problem]:
    """Returns the 1,000 problems, body and question joined by a space.

    Raises:
      FileNotFoundError: no `SVAMP.json` in `data_dir`.
      ValueError: a malformed row.
    """
    file = source_file(data_dir, ["SVAMP.json"], data_set="svamp", origin="arkilpatel/SVAMP")
    return prepared_problems(
        "svamp",
        split,
        [file],
        lambda: json_rows(file),
        _row,
        kind="number",
        description="Word problems with variations of wording and numbers.",
    )


def _row(row: dict[str, Any]) -> dict[str, str]:
    answer = row["Answer"]
    if isinstance(answer, bool) or not isinstance(answer, int | float):
        raise ValueError(f"Answer must be a number, not {answer!r}")
    return {
        "question": f"{row['Body'].strip()} {row['Question'].strip()}",
        "gold": format_number(Fraction(str(answer))),  # 51.0 is 51
    }
