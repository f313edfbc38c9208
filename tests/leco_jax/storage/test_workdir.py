import json
from pathlib import Path

import pytest

from leco_jax.storage.files import write_json
from leco_jax.storage.paths import local_path
from leco_jax.storage.workdir import claim


def test_a_directory_keeps_its_config(tmp_path):
    config = {"seed": 0, "data": {"name": "x", "limit": 3}}
    claim(tmp_path / "new", config)
    claim(tmp_path / "new", config)
    other = {"seed": 0, "data": {"name": "x", "limit": 4}}
    with pytest.raises(ValueError, match=r"config\.data\.limit"):
        claim(tmp_path / "new", other)
    assert json.loads((tmp_path / "new" / "config.json").read_text()) == config


def test_json_is_replaced_whole(tmp_path):
    path = tmp_path / "a.json"
    write_json(path, {"a": 1})
    with pytest.raises(TypeError):
        write_json(path, {"a": object()})
    assert json.loads(path.read_text()) == {"a": 1}


def test_a_url_is_no_path():
    assert local_path("runs/x") == Path("runs/x")
    with pytest.raises(ValueError, match="gs://bucket/runs is a URL; only paths of mounted"):
        local_path("gs://bucket/runs")
