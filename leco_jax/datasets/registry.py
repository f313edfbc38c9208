"""Data sets by name; `load_problems` is the only door to them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Literal

from leco_jax.datasets import arithmetic_chains as chains
from leco_jax.datasets import arithmetic_documents as documents
from leco_jax.datasets import big_bench_mistake as mistakes
from leco_jax.datasets import gsm8k, math_problems, svamp
from leco_jax.datasets import questions_with_options as options
from leco_jax.datasets.problem import Problem, graded_by, load_problem_file
from leco_jax.storage.paths import as_path, is_remote


@dataclasses.dataclass(frozen=True, kw_only=True)
class Dataset:
    """A data set: its splits, and `load(split, data_dir)`, which gives the problems of one."""

    name: str
    splits: tuple[str, ...]
    load: Callable[[str, str | Path | None], list[Problem]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReadingOptions:
    """How a program's config says where problems lie and how their answers are read.

    Attributes:
      dir: where a data set's source files lie; None: in the cache, or made here.
      skip_bad_gold: leave out a file's problems whose gold answer cannot be read.
      grader: who reads and compares answers: "ours", or "official_w2s", the published programs of
        weak-to-strong reasoning.
    """

    dir: str | None = None
    skip_bad_gold: bool = False
    grader: Literal["ours", "official_w2s"] = "ours"

    def load(self, name: str, *, split: str, limit: int | None = None) -> list[Problem]:
        """Returns problems as `load_problems` does."""
        return load_problems(
            name,
            split=split,
            data_dir=self.dir,
            limit=limit,
            skip_bad_gold=self.skip_bad_gold,
            grader=self.grader,
        )


DATASETS: dict[str, Dataset] = {}


def register_dataset(dataset: Dataset) -> Dataset:
    """Adds a data set under its name; a name is given once."""
    if dataset.name in DATASETS:
        raise ValueError(f"there is a data set {dataset.name!r} already")
    DATASETS[dataset.name] = dataset
    return dataset


def load_problems(
    name: str,
    *,
    split: str = "test",
    data_dir: str | Path | None = None,
    limit: int | None = None,
    skip_bad_gold: bool = False,
    grader: str = "ours",
) -> list[Problem]:
    """Returns problems of a data set, always in the same order.

    Args:
      name: a name in `DATASETS`, or a .jsonl file of your own (see `load_problem_file`), in which
        {split} stands for the split.
      split: one of the data set's splits.
      data_dir: where its source files lie; None downloads them, where they are not in the package.
      limit: at most so many problems, from the front.
      skip_bad_gold: leave out a file's problems whose gold answer cannot be read.
      grader: who reads and compares answers, a name in `leco_jax.text.answers.GRADERS`.

    Raises:
      ValueError: an unknown name or split, a bad limit, a malformed row, or a grader that does not
        know the kind of answers.
      FileNotFoundError: the source files are neither given nor to be had.
    """
    if limit is not None and limit < 0:
        raise ValueError(f"limit={limit} is negative; leave it out for all problems")
    if name.endswith(".jsonl"):
        named = name.replace("{split}", split)
        path = as_path(named) if is_remote(named) else as_path(data_dir or "") / named
        problems = load_problem_file(path.expanduser(), skip_bad_gold=skip_bad_gold)
        return graded_by(problems[:limit], grader)
    if name not in DATASETS:
        raise ValueError(
            f"no data set {name!r}; known are {sorted(DATASETS)}, and any file NAME.jsonl"
        )
    dataset = DATASETS[name]
    if split not in dataset.splits:
        raise ValueError(f"{name} has no split {split!r}; it has {list(dataset.splits)}")
    return graded_by(dataset.load(split, data_dir)[:limit], grader)


def _word_problems(split: str) -> list[Problem]:
    """Word problems of our own: one to three steps of easy arithmetic."""
    file = resources.files("leco_jax.datasets") / "data" / "word_problems.jsonl"
    return load_problem_file(file, name=f"word_problems/{split}")


def _register_own(name: str, splits: tuple[str, ...], load: Callable[[str], list[Problem]]) -> None:
    """Adds a data set that needs no source files."""

    def load_own(split: str, data_dir: str | Path | None) -> list[Problem]:
        if data_dir is not None:
            raise ValueError(f"{name} is made here, not read: it takes no data_dir")
        return load(split)

    register_dataset(Dataset(name=name, splits=splits, load=load_own))


for _name, _splits, _load in (
    ("gsm8k", gsm8k.SPLITS, gsm8k.load_gsm8k),
    ("math", math_problems.SPLITS, math_problems.load_math),
    ("svamp", svamp.SPLITS, svamp.load_svamp),
    ("commonsense_qa", options.COMMONSENSE_QA_SPLITS, options.load_commonsense_qa),
    ("strategy_qa", options.STRATEGY_QA_SPLITS, options.load_strategy_qa),
    ("date_understanding", options.DATE_UNDERSTANDING_SPLITS, options.load_date_understanding),
    ("big_bench_mistake", mistakes.SPLITS, mistakes.load_big_bench_mistake),
):
    register_dataset(Dataset(name=_name, splits=_splits, load=_load))
_register_own("word_problems", ("test",), _word_problems)
_register_own("arithmetic_chains", chains.SPLITS, chains.load_arithmetic_chains)
_register_own("arithmetic_documents", documents.SPLITS, documents.load_arithmetic_documents)
