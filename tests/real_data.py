"""Where the public data sets lie that some tests read."""

import os
from pathlib import Path

import pytest


def data_file(name: str) -> Path:
    """A file below $LECO_TEST_DATA, else below `shared/data` beside the repository; or a skip."""
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    path = Path(os.environ.get("LECO_TEST_DATA") or beside) / name
    if not path.is_file():
        pytest.skip(f"no {path}: set LECO_TEST_DATA to a directory with the data sets")
    return path
