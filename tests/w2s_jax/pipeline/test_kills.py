"""A pipeline killed in its stages ends with the same table as one that was not."""

import json
import os
import pathlib
import signal
import subprocess
import sys

import pytest

from tests.w2s_jax.pipeline.tiny_config import get_config
from w2s_jax.pipeline.run import plan

HERE = pathlib.Path(__file__).parent
ROOT = HERE.parents[2]
CONFIG = f"--config={HERE / 'tiny_config.py'}:short"


def launch(workdir, *before):
    program = before or ("-m", "launchers.w2s")
    command = [sys.executable, *map(str, program), CONFIG, f"--workdir={workdir}"]
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)


def table(workdir):
    return json.loads((workdir / "seed0" / "table" / "table.json").read_text())


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("unbroken")
    done = launch(workdir)
    assert done.returncode == 0, done.stderr
    assert "ceiling" in done.stdout
    return table(workdir)


def killed_in(stages, workdir):
    for name, where in stages:
        done = launch(workdir, HERE / "killed_run.py", name, where)
        assert done.returncode == -signal.SIGKILL, (name, where, done.stderr[-2000:])
    done = launch(workdir)
    assert done.returncode == 0, done.stderr
    return table(workdir)


@pytest.mark.slow
def test_killed_in_every_stage(tmp_path, unbroken):
    stages = [line.stage for line in plan(get_config("short"), tmp_path)]
    everywhere = [(stage, where) for stage in stages for where in ("middle", "end")]
    assert killed_in(everywhere, tmp_path / "run") == unbroken


@pytest.mark.slow
def test_killed_while_answering_training_choosing_and_ending(tmp_path, unbroken):
    stages = [
        ("weak_answers", "middle"),
        ("select_1", "middle"),
        ("hybrid_ft_1", "middle"),
        ("table", "end"),
    ]
    assert killed_in(stages, tmp_path) == unbroken
