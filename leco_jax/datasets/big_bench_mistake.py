"""BIG-Bench-Mistake (Tyen et al. 2023): two of its tasks, with labelled chains of another model."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

from leco_jax.datasets.labelled_chains import labelled_chain
from leco_jax.datasets.prepared import prepared_builder, records
from leco_jax.datasets.problem import Problem
from leco_jax.datasets.problem_rows import content_hash, source_file
from leco_jax.storage.jsonl import read_rows
from leco_jax.text.gold import read_gold

SPLITS = ("multistep_arithmetic", "word_sorting")
_FIELDS = {"question": str, "gold": str, "chain": str, "mistake": int}


def load_big_bench_mistake(split: str, data_dir: str | Path | None = None) -> list[Problem]:
    """Returns a task's questions; "word_sorting" has no kind of answers, so it is not graded.

    Raises:
      FileNotFoundError: no `multistep_arithmetic.jsonl` or `word_sorting.jsonl` in `data_dir`.
      ValueError: a malformed row.
    """
    graded = split == "multistep_arithmetic"

    def answer(gold: str) -> Fraction | None:
        return read_gold(gold) if graded else None

    return [
        Problem(
            id=f"big_bench_mistake/{split}/{row['row']}",
            question=row["question"],
            answer=answer(row["gold"]),
            gold=row["gold"],
        )
        for row in records(big_bench_mistake(split, data_dir), split)
    ]


def big_bench_mistake(split: str, data_dir: str | Path | None = None) -> Any:
    """Returns the tfds builder of a task: `.as_data_source(split)` gives random access.

    A record has "row" (its number), "question", "gold", "chain" (a step a line) and "mistake" (the
    first wrong step from 0 on, -1: none).
    """
    names = [f"{split}.jsonl"]
    origin = "github.com/WHGTyen/BIG-Bench-Mistake"
    file = source_file(data_dir, names, data_set="big_bench_mistake", origin=origin)

    def rows() -> list[dict[str, str | int]]:
        return [_record(place, row) for place, row in read_rows(file, fields=("input", "target"))]

    return prepared_builder(
        "big_bench_mistake",
        split,
        rows,
        fields=_FIELDS,
        source=content_hash([file]),
        description="Chains of a language model with the first mistake of each.",
    )


def _record(place: str, row: dict[str, Any]) -> dict[str, str | int]:
    try:
        chain = labelled_chain(row, place)
    except ValueError as error:
        raise ValueError(f"{place}: {error}") from None
    assert chain is not None  # only PRM800K's rows may be unfinished
    return {
        "question": chain.question,
        "gold": row["target"],
        "chain": "\n".join(chain.steps),
        "mistake": -1 if chain.first_wrong is None else chain.first_wrong,
    }
