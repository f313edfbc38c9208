"""launchers/sft.py: exit codes; as a program a kill at any time, SIGTERM, Ctrl-C."""

import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

ROOT = pathlib.Path(__file__).parents[2]
QUESTIONS = ("What is {a} plus {b}?", "Tom has {a} apples and finds {b}. How many has he?")


@pytest.fixture(scope="module")
def programs(tmp_path_factory):
    """Where compiled programs are kept, so that only the first run of a kind compiles."""
    return tmp_path_factory.mktemp("programs")


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "rows.jsonl"
    with path.open("w") as file:
        for i in range(40):
            a, b = i % 7 + 1, i % 5 + 2
            row = {
                "q": QUESTIONS[i % 2].format(a=a, b=b),
                "s": f"{a} + {b} = {a + b}\n#### {a + b}",
            }
            file.write(json.dumps(row) + "\n")
    return path


def flags(rows, workdir, *more):
    return [
        f"--config={ROOT}/configs/sft_cpu_minute.py",
        f"--workdir={workdir}",
        f"--config.data.source={rows}",
        "--config.data.prompt={q}",
        "--config.data.completion={s}",
        "--config.data.length=48",
        "--config.data.batch=8",
        "--config.held_out.rows=8",
        "--config.optimizer.warmup_steps=2",
        "--config.run.num_steps=12",
        "--config.run.eval_every=6",
        "--config.run.checkpoint_every=2",
        *more,
    ]


def command(rows, workdir):
    return [sys.executable, "-m", "launchers.sft", *flags(rows, workdir)]


def environment(programs):
    return os.environ | {
        "JAX_COMPILATION_CACHE_DIR": str(programs),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_NUM_CPU_DEVICES": "2",
        "PYTHONPATH": str(ROOT),
    }


def run(arguments, programs):
    return subprocess.run(
        arguments, env=environment(programs), capture_output=True, text=True, timeout=500
    )


def last_row(workdir):
    return json.loads((workdir / "metrics.jsonl").read_text().splitlines()[-1])


def steps(workdir):
    path = workdir / "metrics.jsonl"
    return path.read_bytes().count(b"\n") if path.exists() else 0


def start_and_kill(arguments, programs, workdir, after, number):
    """Starts the program and sends a signal once so many steps are written; gives the exit code."""
    process = subprocess.Popen(
        arguments, env=environment(programs), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    deadline = time.monotonic() + 400
    while steps(workdir) < after and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.002)
    process.send_signal(number)
    process.communicate(timeout=400)
    return process.returncode


@pytest.fixture(scope="module")
def whole(rows, programs, tmp_path_factory):
    """An uninterrupted run."""
    workdir = tmp_path_factory.mktemp("whole")
    done = run(command(rows, workdir), programs)
    assert done.returncode == 0, done.stderr[-3000:]
    return workdir, done


def test_a_run_from_the_command_line(whole):
    workdir, done = whole
    assert done.stdout.startswith("Trained 12 steps. loss ")
    assert "held-out loss" in done.stderr
    assert "tokens/s/chip" in done.stderr
    assert steps(workdir) == 12
    assert (workdir / "report.html").exists()
    config = json.loads((workdir / "config.json").read_text())
    assert config["run"]["num_steps"] == 12


def test_killed_and_terminated_runs_end_with_the_same_bits(rows, programs, whole, tmp_path):
    arguments = command(rows, tmp_path)
    assert start_and_kill(arguments, programs, tmp_path, 3, signal.SIGKILL) == -signal.SIGKILL
    assert start_and_kill(arguments, programs, tmp_path, 5, signal.SIGTERM) == 75
    assert start_and_kill(arguments, programs, tmp_path, 8, signal.SIGINT) == 75
    done = run(arguments, programs)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "resumed at step" in done.stderr
    ours, theirs = last_row(tmp_path), last_row(whole[0])
    assert ours["loss"] == theirs["loss"]
    assert ours["eval/loss"] == theirs["eval/loss"]
    assert steps(tmp_path) == 12


@pytest.mark.heavy
@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--config.data.source=nowhere.jsonl", "there is no file nowhere.jsonl"),
        ("--workdir=s3://bucket/sft", "s3://bucket/sft: paths are local or begin with gs://"),
        ("--config.objective.name=dpo", "'dpo' is not one of this program's: sft"),
        ("--config.optimizer.learning_rate=1e30", "step 0: update_norm is|step 1: loss is"),
    ],
)
def test_what_is_wrong_is_said_and_shown_by_the_exit_code(rows, call, tmp_path, flag, message):
    done = call("sft", *flags(rows, tmp_path, flag))
    assert done.returncode == (2 if "learning_rate" in flag else 1)
    assert any(part in done.stderr for part in message.split("|")), done.stderr[-3000:]
