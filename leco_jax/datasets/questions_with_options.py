"""CommonsenseQA, StrategyQA and Date Understanding: questions with options, or yes and no."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from leco_jax.datasets.problem import Problem
from leco_jax.datasets.problem_rows import json_rows, prepared_problems, source_file, with_options
from leco_jax.storage.jsonl import read_rows

COMMONSENSE_QA_SPLITS = ("dev",)
STRATEGY_QA_SPLITS = ("test", "leco")
DATE_UNDERSTANDING_SPLITS = ("test",)
_STRATEGY_QA = "BIG-bench's task strategyqa"
_INDICES = "leco_subset_indices.txt"


def load_commonsense_qa(split: str, data_dir: str | Path | None = None) -> list[Problem]:
    """Returns CommonsenseQA's dev questions (Talmor et al. 2019), options lettered.

    Raises:
      FileNotFoundError: no `dev_rand_split.jsonl` or `dev.jsonl` in `data_dir`.
      ValueError: a malformed row.
    """
    names = ("dev_rand_split.jsonl", "dev.jsonl")
    file = source_file(data_dir, names, data_set="commonsense_qa", origin="CommonsenseQA 1.11")
    return prepared_problems(
        "commonsense_qa",
        split,
        [file],
        lambda: read_rows(file, fields=("answerKey",)),
        _commonsense_row,
        kind="choice",
        description="Questions of common sense with five options.",
    )


def load_strategy_qa(split: str, data_dir: str | Path | None = None) -> list[Problem]:
    """Returns StrategyQA's questions (Geva et al. 2021) as BIG-bench has them.

    "leco" are the 800 that LeCo's authors used, in their order: `leco_subset_indices.txt` has an
    index of the task's examples in each line.

    Raises:
      FileNotFoundError: no `task.json`, or for "leco" no indices, in `data_dir`.
      ValueError: a malformed row, or an index that names no example.
    """
    file = source_file(data_dir, ["task.json"], data_set="strategy_qa", origin=_STRATEGY_QA)
    problems = prepared_problems(
        "strategy_qa",
        "test",
        [file],
        lambda: json_rows(file, field="examples"),
        _strategy_row,
        kind="yes_no",
        description="Questions whose steps are implicit, answered by yes or no.",
    )
    if split == "test":
        return problems
    indices = source_file(data_dir, [_INDICES], data_set=split, origin="LeCo's published data")
    chosen = indices.read_text().split()
    wrong = [text for text in chosen if not text.isdecimal() or int(text) >= len(problems)]
    if wrong:
        raise ValueError(f"{indices}: {wrong[0]!r} is no index of {len(problems)} examples")
    return [problems[int(text)] for text in chosen]


def load_date_understanding(split: str, data_dir: str | Path | None = None) -> list[Problem]:
    """Returns Date Understanding as BIG-Bench Hard has it, options lettered.

    Raises:
      FileNotFoundError: no `date_understanding.json` or `task.json` in `data_dir`.
      ValueError: a malformed row.
    """
    names = ("date_understanding.json", "task.json")
    file = source_file(data_dir, names, data_set="date_understanding", origin="BIG-Bench Hard")
    return prepared_problems(
        "date_understanding",
        split,
        [file],
        lambda: json_rows(file, field="examples"),
        lambda row: {"question": row["input"].strip(), "gold": row["target"].strip()},
        kind="choice",
        description="Questions about dates with up to six options.",
    )


def _commonsense_row(row: dict[str, Any]) -> dict[str, str]:
    question = row["question"]
    options = [(choice["label"], choice["text"]) for choice in question["choices"]]
    if row["answerKey"] not in {label for label, _ in options}:
        raise ValueError(f"answerKey {row['answerKey']!r} is none of the options")
    return {"question": with_options(question["stem"], options), "gold": row["answerKey"]}


def _strategy_row(row: dict[str, Any]) -> dict[str, str]:
    right = [name for name, score in row["target_scores"].items() if score]
    if len(right) != 1:
        raise ValueError(f"target_scores names {len(right)} right answers")
    # The facts that the answer rests on: a worked solution of a kind.
    solution = re.sub(r"^(?:Yes|No)\.\s*", "", row.get("target", ""))
    return {"question": row["input"].strip(), "gold": right[0].lower(), "solution": solution}
