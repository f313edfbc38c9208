import re
import signal
import subprocess
import sys

import pytest

from leco_jax.storage.files import read_json
from leco_jax.storage.workdir import BusyError, claim, lock


def test_a_directory_keeps_its_config(tmp_path):
    config = {"seed": 0, "data": {"name": "x", "limit": 3}}
    claim(tmp_path / "new", config)
    claim(tmp_path / "new", config)
    other = {"seed": 0, "data": {"name": "x", "limit": 4}}
    with pytest.raises(ValueError, match=r"config\.data\.limit"):
        claim(tmp_path / "new", other)
    assert read_json(tmp_path / "new" / "config.json") == config


def test_a_torn_config_is_named(tmp_path):
    claim(tmp_path, {"seed": 0})
    (tmp_path / "config.json").write_text('{"se')
    with pytest.raises(ValueError, match=r"config\.json: not valid JSON .* Remove this file if"):
        claim(tmp_path, {"seed": 0})


HOLD = """
import sys
from pathlib import Path
from leco_jax.storage.workdir import lock
with lock(Path(sys.argv[1])):
    print(flush=True)
    sys.stdin.read()
"""


def holder(workdir):
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, workdir], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    process.stdout.readline()
    return process


def test_a_second_writer_is_told_who_writes(tmp_path):
    workdir = tmp_path / "run"
    first = holder(workdir)
    told = rf"run is in use by \S+, process {first.pid}, since \d{{4}}-\d\d-\d\d \d\d:.* UTC: wait"
    with pytest.raises(BusyError, match=told) as caught, lock(workdir):
        pass
    assert "\n" not in str(caught.value)
    first.communicate()
    with lock(workdir):
        (workdir / "result").touch()
    assert [path.name for path in workdir.iterdir()] == ["result"]


def test_a_killed_holder_blocks_no_one(tmp_path):
    killed = holder(tmp_path)
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    assert re.fullmatch(r"\S+, process \d+, since .* UTC", (tmp_path / ".lock").read_text())
    with lock(tmp_path):
        pass
    assert not list(tmp_path.iterdir())


def test_an_empty_directory_is_left_only_where_there_was_one(tmp_path):
    (tmp_path / "old").mkdir()
    for name in ("old", "new"):
        with lock(tmp_path / name):
            pass
    assert [path.name for path in tmp_path.iterdir()] == ["old"]
