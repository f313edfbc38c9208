"""launchers/w2s.py: its plan, a stage alone, a stop as a program, and what is refused."""

import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

ROOT = pathlib.Path(__file__).parents[2]
CONFIG = ROOT / "tests" / "w2s_jax" / "pipeline" / "tiny_config.py"


def command(workdir, *more):
    return [
        sys.executable, "-m", "launchers.w2s", f"--config={CONFIG}", f"--workdir={workdir}", *more
    ]  # fmt: skip


def run(workdir, *more):
    return subprocess.run(command(workdir, *more), cwd=ROOT, capture_output=True, text=True)


@pytest.fixture
def w2s(call):
    def with_config(workdir, *more):
        return call("w2s", f"--config={CONFIG}", f"--workdir={workdir}", *more)

    return with_config


@pytest.mark.heavy
def test_the_plan_prints_every_stage_and_writes_nothing(w2s, tmp_path):
    done = w2s(tmp_path / "run", "--dry_run")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].split() == ["seed", "stage", "state", "tokens", "TFLOP", "needs"]
    assert lines[1].split()[:3] == ["0", "splits", "to"]
    assert "36 of 36 stages to do" in lines[-1]
    done = w2s(tmp_path / "run", "--dry_run", "--until=weak_answers", "--devices=4")
    assert [line.split()[1] for line in done.stdout.splitlines()[1:4]] == [
        "splits", "weak", "weak_answers"
    ]  # fmt: skip
    assert "3 of 3 stages to do" in done.stdout.splitlines()[-1]
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_a_sigterm_stops_and_the_same_command_goes_on(tmp_path):
    started = subprocess.Popen(
        command(tmp_path, "--until=weak_answers"), cwd=ROOT, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    deadline = time.monotonic() + 200
    # In the midst of training, whose own handler saves a checkpoint.
    while not list((tmp_path / "seed0").glob(".partial/weak-*/run/metrics.jsonl")):
        assert started.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    started.send_signal(signal.SIGTERM)
    out, err = started.communicate(timeout=200)
    assert started.returncode == 75, err
    assert "the same command goes on from here" in out
    assert not (tmp_path / "seed0" / "weak_answers").exists()

    done = run(tmp_path, "--until=weak_answers")
    assert done.returncode == 0, done.stderr
    rows = (tmp_path / "seed0" / "weak_answers" / "answers.jsonl").read_text().splitlines()
    assert len(rows) == 12
    assert "the table needs the other stages too" in done.stdout


@pytest.mark.heavy
def test_what_is_wrong_is_said(w2s, tmp_path):
    for more, message in (
        (["--stage=pairs"], "stage 'pairs' needs weak_answers, samples first"),
        (["--until=nothing"], "no stage 'nothing'; there are: splits, weak"),
        (["--config.weak.model=nowhere"], "nowhere: no such file or directory"),
        (["--config.data.questions=9000"], "want 9008 questions"),
        (["--devices=4"], "--devices belongs to --dry_run"),
    ):
        done = w2s(tmp_path, *more)
        assert done.returncode == 1, (more, done.stderr)
        assert message in done.stderr, (more, done.stderr)
    assert os.listdir(tmp_path) == []
