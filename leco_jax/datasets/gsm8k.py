"""GSM8K (Cobbe et al. 2021): grade-school word problems, MIT licence, as array_record files."""

from __future__ import annotations

import contextlib
import io
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from leco_jax.datasets.problem import Problem
from leco_jax.datasets.source_hash import source_hash
from leco_jax.storage.files import new_directory, replacing
from leco_jax.storage.jsonl import read_rows
from leco_jax.storage.paths import cache_dir
from leco_jax.text.number_answers import parse_number

SPLITS = ("train", "test")
URL = (
    "https://raw.githubusercontent.com/openai/grade-school-math/master/grade_school_math/data/"
    "{split}.jsonl"
)
OFFICIAL_ROWS = {"train": 7473, "test": 1319}
_KEY = "####"
_VERSION = "1.0.0"


def load_gsm8k(split: str, data_dir: str | Path | None = None) -> list[Problem]:
    """Returns the problems of a split, in the order of the file.

    Args:
      split: "train" or "test".
      data_dir: a directory with `train.jsonl` and `test.jsonl` (the one asked for is enough); None
        downloads the official files.

    Raises:
      FileNotFoundError: no such file, or no network.
      ValueError: a malformed row; the message names its line.
    """
    source = _source_files(split, data_dir)
    records = _prepare(source).as_data_source(split)
    rows = sorted((records[i] for i in range(len(records))), key=lambda row: int(row["row"]))
    return [_problem(row, split) for row in rows]


def gold_text(solution: str) -> str:
    """Returns what stands after the last "####" of a solution; "" without one."""
    return solution.rpartition(_KEY)[2].strip() if _KEY in solution else ""


def _problem(row: dict[str, Any], split: str) -> Problem:
    solution = row["answer"].decode("utf-8")
    return Problem(
        id=f"gsm8k/{split}/{int(row['row'])}",
        question=row["question"].decode("utf-8"),
        answer=parse_number(gold_text(solution)),
        gold=gold_text(solution),
        solution=solution,
    )


def _source_files(split: str, data_dir: str | Path | None) -> dict[str, Path]:
    if data_dir is None:
        return {split: _download(split)}
    directory = Path(data_dir).expanduser()
    files = {name: directory / f"{name}.jsonl" for name in SPLITS}
    if not files[split].is_file():
        raise FileNotFoundError(
            f"GSM8K's split {split!r} needs {files[split]}, which does not exist. data_dir is a "
            "directory with train.jsonl and test.jsonl as the official repository has them."
        )
    return {name: path for name, path in files.items() if path.is_file()}


def _download(split: str) -> Path:
    target = cache_dir() / "downloads" / "gsm8k" / f"{split}.jsonl"
    if target.is_file():
        return target
    url = URL.format(split=split)
    try:
        with urllib.request.urlopen(url, timeout=60) as reply:
            content = reply.read()
    except (urllib.error.URLError, OSError) as error:
        raise FileNotFoundError(
            f"GSM8K could not be fetched from {url} ({error}). Without a network, give data_dir: a "
            "directory with the official train.jsonl and test.jsonl."
        ) from None
    rows = len(content.splitlines())
    if rows != OFFICIAL_ROWS[split]:
        raise ValueError(f"{url} gave {rows} rows, not the {OFFICIAL_ROWS[split]} of GSM8K.")
    with replacing(target) as draft:
        draft.write_bytes(content)
    return target


def _prepare(source: dict[str, Path]) -> Any:
    """Returns the tfds builder of these files, whose records are written once per content."""
    base = cache_dir() / "tfds"
    final = base / f"gsm8k-{source_hash(source)}"
    if not final.is_dir():
        with new_directory(final) as draft, _silence():
            _builder(draft, source).download_and_prepare()
    return _builder(final, source)


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    # tfds prints its paths and several progress bars for half a second's work.
    import tensorflow_datasets as tfds

    tfds.disable_progress_bar()
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        tfds.enable_progress_bar()


def _builder(directory: Path, source: dict[str, Path]) -> Any:
    import tensorflow_datasets as tfds  # half a second that other data sets need not pay

    class Gsm8k(tfds.core.GeneratorBasedBuilder, skip_registration=True):  # type: ignore[call-arg]
        name = "gsm8k"
        VERSION = tfds.core.Version(_VERSION)
        pkg_dir_path = Path(__file__).parent

        def _info(self) -> tfds.core.DatasetInfo:
            features = {
                "row": tfds.features.Scalar(dtype=np.int64),
                "question": tfds.features.Text(),
                "answer": tfds.features.Text(),
            }
            return tfds.core.DatasetInfo(
                builder=self,
                description="Grade-school word problems with worked solutions.",
                features=tfds.features.FeaturesDict(features),
                homepage="https://github.com/openai/grade-school-math",
            )

        def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
            return {split: self._generate_examples(path) for split, path in source.items()}

        def _generate_examples(self, path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
            rows = read_rows(path, fields=("question", "answer"))
            for i, (place, row) in enumerate(rows):
                if parse_number(gold_text(row["answer"])) is None:
                    raise ValueError(
                        f"{place}: the solution has no number after {_KEY!r}: "
                        f"{row['answer'][-80:]!r}."
                    )
                yield i, {"row": i, "question": row["question"], "answer": row["answer"]}

    return Gsm8k(data_dir=directory, file_format="array_record")
