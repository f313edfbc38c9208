"""GSM8K (Cobbe et al. 2021): grade-school word problems, MIT licence, as array_record files."""

from __future__ import annotations

import urllib.request
from pathlib import Path
from typing import Any

from leco_jax.datasets.problem import Problem, gsm8k_gold
from leco_jax.datasets.problem_rows import prepared_problems
from leco_jax.storage.files import write_bytes
from leco_jax.storage.jsonl import read_rows
from leco_jax.storage.paths import as_path, cache_dir

SPLITS = ("train", "test")
URL = (
    "https://raw.githubusercontent.com/openai/grade-school-math/master/grade_school_math/data/"
    "{split}.jsonl"
)
OFFICIAL_ROWS = {"train": 7473, "test": 1319}


def load_gsm8k(split: str, data_dir: str | Path | None = None) -> list[Problem]:
    """Returns the problems of "train" or "test", in the order of the file.

    They are in `data_dir` (`train.jsonl`, `test.jsonl`); None downloads the official files.

    Raises:
      FileNotFoundError: no such file, or no network.
      ValueError: a malformed row, or gold answers that cannot be read; the message names the lines.
    """
    file = _download(split) if data_dir is None else _given_file(split, data_dir)
    return prepared_problems(
        "gsm8k",
        split,
        [file],
        lambda: read_rows(file, fields=("question", "answer")),
        _row,
        kind="number",
        description="Grade-school word problems with worked solutions.",
    )


def _row(row: dict[str, Any]) -> dict[str, str]:
    solution = row["answer"]
    return {"question": row["question"], "gold": gsm8k_gold(solution), "solution": solution}


def _given_file(split: str, directory: str | Path) -> Path:
    file = as_path(directory).expanduser() / f"{split}.jsonl"
    if not file.is_file():
        raise FileNotFoundError(
            f"GSM8K's split {split!r} needs {file}, which does not exist; data_dir is a "
            "directory with train.jsonl and test.jsonl as the official repository has them"
        )
    return file


def _download(split: str) -> Path:
    target = cache_dir() / "downloads" / "gsm8k" / f"{split}.jsonl"
    if target.is_file():
        return target
    url = URL.format(split=split)
    try:
        with urllib.request.urlopen(url, timeout=60) as reply:
            content = reply.read()
    except OSError as error:  # URLError is one
        raise FileNotFoundError(
            f"GSM8K could not be fetched from {url} ({error}); without a network, give data_dir: a "
            "directory with the official train.jsonl and test.jsonl"
        ) from None
    rows = len(content.splitlines())
    if rows != OFFICIAL_ROWS[split]:
        raise ValueError(f"{url} gave {rows} rows, not the {OFFICIAL_ROWS[split]} of GSM8K")
    write_bytes(target, content)
    return target
