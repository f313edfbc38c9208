"""Data sets by name; `load_problems` is the only door to them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

from leco_jax.datasets import arithmetic_chains, arithmetic_documents, gsm8k, word_problems
from leco_jax.datasets.problem import Problem
from leco_jax.datasets.problem_file import load_problem_file


@dataclasses.dataclass(frozen=True, kw_only=True)
class Dataset:
    """A data set: its splits, and `load(split, data_dir)`, which gives the problems of one."""

    name: str
    splits: tuple[str, ...]
    load: Callable[[str, str | Path | None], list[Problem]]


DATASETS: dict[str, Dataset] = {}


def register_dataset(dataset: Dataset) -> Dataset:
    """Adds a data set under its name; a name is given once."""
    if dataset.name in DATASETS:
        raise ValueError(f"There is a data set {dataset.name!r} already.")
    DATASETS[dataset.name] = dataset
    return dataset


def load_problems(
    name: str,
    *,
    split: str = "test",
    data_dir: str | Path | None = None,
    limit: int | None = None,
) -> list[Problem]:
    """Returns problems of a data set, always in the same order.

    Args:
      name: a name in `DATASETS`, or a .jsonl file of your own (see `problem_file`), in which
        {split} stands for the split.
      split: one of the data set's splits.
      data_dir: where its source files lie; None downloads them, where they are not in the package.
      limit: at most so many problems, from the front.

    Raises:
      ValueError: an unknown name or split, a bad limit, or a malformed row.
      FileNotFoundError: the source files are neither given nor to be had.
    """
    if limit is not None and limit < 0:
        raise ValueError(f"limit={limit} is negative; leave it out for all problems.")
    if name.endswith(".jsonl"):
        path = Path(data_dir or "") / name.replace("{split}", split)
        return load_problem_file(path.expanduser())[:limit]
    if name not in DATASETS:
        raise ValueError(
            f"No data set {name!r}; known are {sorted(DATASETS)}, and any file NAME.jsonl."
        )
    dataset = DATASETS[name]
    if split not in dataset.splits:
        raise ValueError(f"{name} has no split {split!r}; it has {list(dataset.splits)}.")
    return dataset.load(split, data_dir)[:limit]


register_dataset(Dataset(name="gsm8k", splits=gsm8k.SPLITS, load=gsm8k.load_gsm8k))
register_dataset(
    Dataset(
        name="word_problems",
        splits=word_problems.SPLITS,
        load=word_problems.load_word_problems,
    )
)
register_dataset(
    Dataset(
        name="arithmetic_chains",
        splits=arithmetic_chains.SPLITS,
        load=arithmetic_chains.load_arithmetic_chains,
    )
)
register_dataset(
    Dataset(
        name="arithmetic_documents",
        splits=arithmetic_documents.SPLITS,
        load=arithmetic_documents.load_arithmetic_documents,
    )
)
