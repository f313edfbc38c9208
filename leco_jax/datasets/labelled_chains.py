"""Chains whose first wrong step is known: BIG-Bench-Mistake, ProcessBench, PRM800K, as JSONL.

The shape of a row tells which it is:

* BIG-Bench-Mistake (Tyen et al. 2023): "input", "steps", "target", "answer", "mistake_index" (from
  0 on, null: none);
* ProcessBench (Zheng et al. 2024): "problem", "steps", "final_answer_correct", "label" (from 0 on,
  -1: none);
* PRM800K (Lightman et al. 2023): "question" with "problem", "label" with "steps", each with rated
  "completions" of which one was chosen.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from leco_jax.storage.jsonl import check_texts, field_names, read_rows
from leco_jax.storage.paths import as_path


@dataclasses.dataclass(frozen=True, kw_only=True)
class LabelledChain:
    """A chain of steps and the first that is wrong."""

    id: str
    question: str
    steps: tuple[str, ...]  # texts, without labels or line breaks at their ends
    first_wrong: int | None  # counted from 0; None: every step is right


def read_labelled_chains(path: str | Path) -> list[LabelledChain]:
    """Returns the chains of a file, in its order, named "FILE/0" and so on.

    Rows of PRM800K that labellers gave up on or found at fault are left out, and counted by no one.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: a row of none of the shapes, or without a chain; the message names its line.
    """
    path = as_path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    chains: list[LabelledChain] = []
    for number, (place, row) in enumerate(read_rows(path)):
        try:
            chain = labelled_chain(row, f"{path.stem}/{number}")
        except ValueError as error:
            raise ValueError(f"{place}: {error}") from None
        if chain is not None:
            chains.append(chain)
    if not chains:
        raise ValueError(f"{path} has no labelled chains")
    return chains


def labelled_chain(row: dict[str, Any], name: str) -> LabelledChain | None:
    """Makes a chain of a row; None where PRM800K's labellers did not finish it.

    Raises:
      ValueError: a row of none of the shapes, or without a chain.
    """
    if "mistake_index" in row:
        question, steps, wrong = _plain(row, "input"), row["steps"], row["mistake_index"]
    elif isinstance(row.get("label"), dict):
        return _prm800k(row, name)
    elif "label" in row and "steps" in row:
        question, steps, wrong = _plain(row, "problem"), row["steps"], row["label"]
        wrong = None if wrong == -1 else wrong
    else:
        raise ValueError(
            "is a row of neither BIG-Bench-Mistake, ProcessBench nor PRM800K; it has "
            + field_names(row)
        )
    return _chain(name, question, steps, wrong)


def _plain(row: dict[str, Any], field: str) -> str:
    check_texts(row, (field,))
    if not isinstance(row.get("steps"), list):
        raise ValueError('"steps" must be a list of texts')
    return row[field]


def _prm800k(row: dict[str, Any], name: str) -> LabelledChain | None:
    label = row["label"]
    try:
        steps = [_prm800k_step(step) for step in label["steps"]]
        question = row["question"]["problem"]
    except (KeyError, TypeError, IndexError) as error:
        raise ValueError(f"is not a row of PRM800K: {error!r}") from None
    ratings = [rating for _, rating in steps]
    wrong = ratings.index(-1) if -1 in ratings else None
    if wrong is None and label.get("finish_reason") != "solution":
        return None
    return _chain(name, question, [text for text, _ in steps], wrong)


def _prm800k_step(step: dict[str, Any]) -> tuple[str, int]:
    """The text of a step's chosen completion and its rating (-1: wrong)."""
    chosen = step.get("chosen_completion")
    if chosen is None and step.get("human_completion"):
        return step["human_completion"]["text"], 1  # what a labeller wrote is right
    completion = step["completions"][chosen or 0]
    return completion["text"], 0 if completion["rating"] is None else completion["rating"]


def _chain(name: str, question: Any, steps: Any, wrong: Any) -> LabelledChain:
    if not steps or not all(isinstance(step, str) and step.strip() for step in steps):
        raise ValueError("the steps must be texts, at least one, none of them blank")
    if wrong is not None and (
        isinstance(wrong, bool) or not isinstance(wrong, int) or not 0 <= wrong < len(steps)
    ):
        raise ValueError(f"the first wrong step {wrong!r} is none of {len(steps)}, from 0 on")
    texts = tuple(" ".join(step.split()) for step in steps)
    return LabelledChain(id=name, question=str(question).strip(), steps=texts, first_wrong=wrong)
