"""launchers/dpo.py as a program."""

import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

ROOT = pathlib.Path(__file__).parents[2]


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "pairs.jsonl"
    with path.open("w") as file:
        for i in range(40):
            a, b = i % 7 + 1, i % 5 + 2
            row = {
                "prompt": f"What is {a} plus {b}?\n",
                "chosen": f"{a} + {b} = {a + b}\n#### {a + b}",
                "rejected": f"{a} + {b} = {a + b + 1}, so it is\n#### {a + b + 1}",
            }
            file.write(json.dumps(row) + "\n")
    return path


def flags(rows, workdir, *more):
    return [
        f"--config={ROOT}/configs/dpo_cpu_minute.py",
        f"--workdir={workdir}",
        f"--config.data.source={rows}",
        *(f"--config.data.{name}={{{name}}}" for name in ("prompt", "chosen", "rejected")),
        "--config.model.checkpoint=",
        "--config.data.length=48",
        "--config.data.batch=8",
        "--config.held_out.rows=8",
        "--config.optimizer.learning_rate=1e-2",
        "--config.run.num_steps=8",
        "--config.run.eval_every=4",
        "--config.run.checkpoint_every=2",
        *more,
    ]


def command(rows, workdir):
    return [sys.executable, "-m", "launchers.dpo", *flags(rows, workdir)]


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    """Compiled programs are kept, so that only the first run of a kind compiles."""
    return os.environ | {
        "JAX_COMPILATION_CACHE_DIR": str(tmp_path_factory.mktemp("programs")),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_NUM_CPU_DEVICES": "2",
        "PYTHONPATH": str(ROOT),
    }


def run(arguments, environment):
    return subprocess.run(arguments, env=environment, capture_output=True, text=True, timeout=500)


def metrics_of(workdir):
    path = workdir / "metrics.jsonl"
    lines = path.read_text().splitlines(keepends=True) if path.exists() else []
    return [json.loads(line) for line in lines if line.endswith("\n")]


@pytest.fixture(scope="module")
def whole(rows, environment, tmp_path_factory):
    """An uninterrupted run."""
    workdir = tmp_path_factory.mktemp("whole")
    done = run(command(rows, workdir), environment)
    assert done.returncode == 0, done.stderr[-3000:]
    return workdir, done


def test_dpo_from_the_command_line_raises_the_reward_accuracy(whole):
    workdir, done = whole
    assert "eval/rewards/accuracies" in done.stdout
    found = metrics_of(workdir)
    # The reference is stored, so the first step's loss is log 2.
    assert found[0]["loss"] == pytest.approx(0.6931472, abs=1e-6)
    assert list((workdir / "reference").glob("reference_*.npz"))
    assert found[-1]["eval/rewards/accuracies"] > 0.9
    assert found[-1]["eval/rewards/margins"] > found[3]["eval/rewards/margins"] > 0
    for name in ("rewards/chosen", "rewards/rejected", "logps/chosen", "logps/rejected"):
        assert name in found[0]


@pytest.mark.slow
def test_killed_runs_end_with_the_same_bits(rows, environment, whole, tmp_path):
    arguments = command(rows, tmp_path)
    for after in (0, 3, 6):  # before the first step, and between checkpoints
        process = subprocess.Popen(
            arguments, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        begun = tmp_path / "config.json"
        deadline = time.monotonic() + 400
        while process.poll() is None and time.monotonic() < deadline:
            if len(metrics_of(tmp_path)) >= after and begun.exists():
                break
            time.sleep(0.002)
        process.kill()
        assert process.wait() == -signal.SIGKILL
    done = run(arguments, environment)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "resumed at step" in done.stderr
    timed = ("seconds", "tokens_per_second_per_chip")
    ours, theirs = (
        [{name: x for name, x in row.items() if name not in timed} for row in metrics_of(workdir)]
        for workdir in (tmp_path, whole[0])
    )
    assert ours == theirs


def test_an_objective_of_the_other_program_is_refused(rows, call, tmp_path):
    done = call("dpo", *flags(rows, tmp_path, "--config.objective.name=sft"))
    assert done.returncode == 1
    assert "'sft' is not one of this program's: dpo, cdpo, robust, ipo" in done.stderr
