"""launchers/dpo.py as a program."""

import json
import os
import pathlib
import subprocess
import sys

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


def run(rows, workdir, *more):
    arguments = [
        sys.executable,
        "-m",
        "launchers.dpo",
        f"--config={ROOT}/configs/dpo_cpu_minute.py",
        f"--workdir={workdir}",
        f"--config.data.source={rows}",
        "--config.model.checkpoint=",
        "--config.data.length=48",
        "--config.data.batch=8",
        "--config.held_out.rows=8",
        "--config.optimizer.learning_rate=1e-2",
        "--config.run.num_steps=8",
        "--config.run.eval_every=4",
        *more,
    ]
    environment = os.environ | {"JAX_NUM_CPU_DEVICES": "2", "PYTHONPATH": str(ROOT)}
    return subprocess.run(arguments, env=environment, capture_output=True, text=True, timeout=500)


def test_dpo_from_the_command_line_raises_the_reward_accuracy(rows, tmp_path):
    done = run(rows, tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "eval/rewards/accuracies" in done.stdout
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    found = [json.loads(line) for line in lines]
    # The reference is stored, so the first step's loss is log 2.
    assert found[0]["loss"] == pytest.approx(0.6931472, abs=1e-6)
    assert list((tmp_path / "reference").glob("reference_*.npz"))
    assert found[-1]["eval/rewards/accuracies"] > 0.9
    assert found[-1]["eval/rewards/margins"] > found[3]["eval/rewards/margins"] > 0
    for name in ("rewards/chosen", "rewards/rejected", "logps/chosen", "logps/rejected"):
        assert name in found[0]


def test_an_objective_of_the_other_program_is_refused(rows, tmp_path):
    done = run(rows, tmp_path, "--config.objective.name=sft")
    assert done.returncode == 1
    assert "'sft' is not one of this program's: dpo, cdpo, robust, ipo" in done.stderr
