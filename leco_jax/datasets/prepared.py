"""Data sets as array_record files, written once by tensorflow-datasets, without TensorFlow."""

from __future__ import annotations

import contextlib
import hashlib
import io
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from leco_jax.storage.files import new_directory
from leco_jax.storage.paths import cache_dir

_log = logging.getLogger(__name__)


def prepared_builder(
    name: str,
    split: str,
    rows: Callable[[], Iterable[Mapping[str, str | int]]],
    *,
    fields: Mapping[str, type],
    source: str,
    description: str,
) -> Any:
    """Returns the tfds builder of one split: `.as_data_source(split)` gives random access.

    The files are written into the cache on first use and found there again while name, split,
    fields and `source` (a hash of the content, say) stay the same. Only then `rows` is called. A
    field is a `str` or an `int`; "row", a record's number, is added. Nothing is printed.
    """
    key = hashlib.sha256(f"{source} {sorted(f'{k} {v}' for k, v in fields.items())}".encode())
    directory = cache_dir() / "tfds" / f"{name}-{split}-{key.hexdigest()[:16]}"
    make = _builder_class(name, split, rows, fields, description)
    if not directory.is_dir():
        _log.info("preparing the split %r of %s in %s", split, name, directory)
        with new_directory(directory) as draft, _quiet():
            make(data_dir=draft, file_format="array_record").download_and_prepare()
    return make(data_dir=directory, file_format="array_record")


def records(builder: Any, split: str) -> list[dict[str, Any]]:
    """Returns all records of a prepared split in their order, texts as `str`."""
    source = builder.as_data_source(split)
    # One call for all: reading one record at a time takes ten times as long.
    rows = sorted(source.__getitems__(range(len(source))), key=lambda row: int(row["row"]))
    return [
        {k: v.decode("utf-8") if isinstance(v, bytes) else int(v) for k, v in row.items()}
        for row in rows
    ]


def _builder_class(
    data_set: str,
    split: str,
    rows: Callable[[], Iterable[Mapping[str, str | int]]],
    fields: Mapping[str, type],
    description: str,
) -> Any:
    import tensorflow_datasets as tfds  # half a second that other data sets need not pay

    class Builder(tfds.core.GeneratorBasedBuilder, skip_registration=True):  # type: ignore[call-arg]
        name = data_set
        VERSION = tfds.core.Version("1.0.0")
        pkg_dir_path = Path(__file__).parent

        def _info(self) -> tfds.core.DatasetInfo:
            number = tfds.features.Scalar(dtype=np.int64)
            features = {k: tfds.features.Text() if v is str else number for k, v in fields.items()}
            return tfds.core.DatasetInfo(
                builder=self,
                description=description,
                features=tfds.features.FeaturesDict({"row": number} | features),
            )

        def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
            return {split: self._generate_examples()}

        def _generate_examples(self) -> Iterator[tuple[int, dict[str, Any]]]:
            for i, row in enumerate(rows()):
                yield i, {"row": i, **row}

    return Builder


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    # tfds prints its paths and several progress bars on standard output.
    import tensorflow_datasets as tfds

    tfds.disable_progress_bar()
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        tfds.enable_progress_bar()
