import os
import sys
from pathlib import Path

import pytest

from leco_jax import storage
from leco_jax.storage.paths import as_path, cache_dir, check_output


def test_cache_directory(monkeypatch, tmp_path):
    monkeypatch.setenv("LECO_CACHE", str(tmp_path / "a"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "b"))
    assert cache_dir() == tmp_path / "a"
    monkeypatch.delenv("LECO_CACHE")
    assert cache_dir() == tmp_path / "b" / "leco-jax"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_dir() == tmp_path / ".cache" / "leco-jax"


def test_an_output_that_can_be_written_is_given_back(tmp_path):
    assert (
        check_output(tmp_path / "new" / "deep" / "x.jsonl") == tmp_path / "new" / "deep" / "x.jsonl"
    )
    (tmp_path / "x.jsonl").touch()
    (tmp_path / "link").symlink_to(tmp_path / "x.jsonl")
    assert check_output(tmp_path / "link", inputs=["smollm2-135m-instruct"]) == tmp_path / "link"
    assert check_output(tmp_path, directory=True) == tmp_path


@pytest.mark.parametrize(
    ("output", "directory", "message"),
    [
        ("input.jsonl", False, "is the input .*choose another output"),
        ("link", False, "is the input"),
        ("./sub/../input.jsonl", False, "is the input"),
        ("sub", False, "is a directory: give the path of a file in it"),
        ("input.jsonl/x.jsonl", False, "input.jsonl is not a directory"),
        ("input.jsonl/x/y", True, "input.jsonl is not a directory"),
        ("other.jsonl", True, "is not a directory: choose another"),
        ("/dev/null", False, "is a device or pipe"),
        ("/proc/self/nothing/x", False, "cannot be written to"),
        ("s3://bucket/x", False, "paths are local or begin with gs://"),
    ],
)
def test_outputs_that_are_refused(tmp_path, monkeypatch, output, directory, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sub").mkdir()
    for name in ("input.jsonl", "other.jsonl"):
        (tmp_path / name).touch()
    (tmp_path / "link").symlink_to("input.jsonl")
    # A user that may write anywhere is asked about by permission bits alone.
    access = os.access
    monkeypatch.setattr(os, "access", lambda p, mode: "/proc" not in str(p) and access(p, mode))
    with pytest.raises(ValueError, match=message):
        check_output(output, inputs=["input.jsonl"], directory=directory)


def test_other_urls_are_no_paths(monkeypatch):
    assert as_path("runs/x") == Path("runs/x")
    with pytest.raises(ValueError, match="s3://bucket/runs: paths are local or begin with gs://"):
        as_path("s3://bucket/runs")
    monkeypatch.setenv("LECO_CACHE", "gs://bucket/cache")
    with pytest.raises(ValueError, match="LECO_CACHE=gs://bucket/cache: it is a local directory"):
        cache_dir()


def test_without_the_client_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "gcsfs", None)
    monkeypatch.delitem(sys.modules, "leco_jax.storage.object_store", raising=False)
    monkeypatch.delattr(storage, "object_store", raising=False)
    with pytest.raises(ValueError, match=r"gs://bucket/runs: gs:// needs the extra `gcs` .*gcsfs"):
        as_path("gs://bucket/runs")
