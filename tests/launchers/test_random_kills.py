"""Twenty SIGKILLs at random moments of each launcher: nothing lost, doubled or left behind."""

import json
import os
import pathlib
import random
import subprocess
import sys
import time

import pytest

ROOT = pathlib.Path(__file__).parents[2]
KILLS = 20
TIMED = {"seconds", "tokens_per_second_per_chip"}  # differ from run to run

TRAINING = (
    "--config.data.length=48", "--config.data.batch=8", "--config.held_out.rows=8",
    "--config.optimizer.warmup_steps=2", "--config.run.num_steps=12", "--config.run.eval_every=4",
    "--config.run.checkpoint_every=2",
)  # fmt: skip


@pytest.fixture(scope="module")
def inputs(model_dir, tmp_path_factory):
    """Rows for training, scoring and selection, and a place for compiled programs."""
    directory = tmp_path_factory.mktemp("inputs")
    texts, answers = [], []
    for i in range(40):
        a, b = i % 7 + 1, i % 5 + 2
        right, wrong = f"{a} + {b} = {a + b}\n#### {a + b}", f"It is\n#### {a + b + 1}"
        prompt = f"What is {a} plus {b}, number {i}?\n"
        texts.append(
            {"prompt": prompt, "completion": right, "response": right, "chosen": right,
             "rejected": wrong}
        )  # fmt: skip
        for sample in range(50):
            value = a + b + (sample % 3 == 0)
            row = {"id": str(i), "question": prompt, "model": "m", "sample": sample}
            answers.append(row | {"response": f"#### {value}", "gold": str(a + b)})
    for name, rows in (("texts", texts), ("answers", answers)):
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        (directory / f"{name}.jsonl").write_text(lines)
    return directory


def command(launcher, inputs, model_dir, out):
    """The arguments of a launcher and what it writes, relative to `out`."""
    texts = inputs / "texts.jsonl"
    flags, results = {
        "leco": (
            ["--config=configs/leco_smollm2.py", f"--workdir={out}", "--config.prompt=few_shot",
             f"--config.model.name={model_dir}", "--config.data.limit=6", "--config.engine.slots=3",
             "--config.generation.max_new_tokens=40", "--config.leco.policy=sample",
             "--config.engine.chunk=1"],
            "results.jsonl",
        ),
        "sft": (
            ["--config=configs/sft_cpu_minute.py", f"--workdir={out}", *TRAINING,
             f"--config.data.source={texts}", "--config.data.prompt={prompt}",
             "--config.data.completion={completion}"],
            "metrics.jsonl",
        ),
        "dpo": (
            ["--config=configs/dpo_cpu_minute.py", f"--workdir={out}", *TRAINING,
             f"--config.data.source={texts}", "--config.model.checkpoint=",
             "--config.data.prompt={prompt}", "--config.data.chosen={chosen}",
             "--config.data.rejected={rejected}"],
            "metrics.jsonl",
        ),
        "w2s": (
            ["--config=tests/w2s_jax/pipeline/tiny_config.py", f"--workdir={out}",
             "--until=weak_answers"],
            "seed0/weak_answers/answers.jsonl",
        ),
        "score": (
            [f"--model={model_dir}", f"--input={texts}", f"--output={out}/scores.jsonl",
             "--batch_tokens=64"],
            "scores.jsonl",
        ),
        "select": (
            ["--task=confidence", f"--samples={inputs / 'answers.jsonl'}",
             f"--output={out}/votes.jsonl"],
            "votes.jsonl",
        ),
    }[launcher]  # fmt: skip
    return [sys.executable, "-m", f"launchers.{launcher}", *flags], out / results


def whole_lines(path):
    """The rows of the lines that are whole, without what is measured."""
    lines = path.read_bytes().splitlines(keepends=True) if path.exists() else []
    rows = [json.loads(line) for line in lines if line.endswith(b"\n")]
    return [{k: v for k, v in row.items() if k not in TIMED} for row in rows]


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["leco", "sft", "dpo", "w2s", "score", "select"])
def test_random_kills_lose_and_double_nothing(launcher, inputs, model_dir, tmp_path):
    environment = os.environ | {
        "JAX_COMPILATION_CACHE_DIR": str(inputs / "programs"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PLATFORMS": "cpu",
        "JAX_NUM_CPU_DEVICES": "2",
    }
    options = {"cwd": ROOT, "env": environment, "capture_output": True, "text": True}
    for name in ("compiled", "unbroken"):  # the second run is timed
        arguments, expected = command(launcher, inputs, model_dir, tmp_path / name)
        started = time.monotonic()
        done = subprocess.run(arguments, **options, check=False)
        assert done.returncode == 0, done.stderr[-3000:]
        seconds = time.monotonic() - started
    moments, kills, trial = random.Random(launcher), 0, 0
    while kills < KILLS:
        out = tmp_path / f"killed{trial}"
        arguments, result = command(launcher, inputs, model_dir, out)
        code = None
        while kills < KILLS and code is None:
            before = len(whole_lines(result))
            process = subprocess.Popen(
                arguments, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )  # fmt: skip
            try:
                code = process.wait(timeout=moments.uniform(0.2, 1.0) * seconds)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                kills += 1
            # Metrics after the last checkpoint are written again, all other lines stay.
            if launcher not in ("sft", "dpo"):
                assert len(whole_lines(result)) >= before
        done = subprocess.run(arguments, **options, check=False)
        assert done.returncode == 0, done.stderr[-3000:]
        assert whole_lines(result) == whole_lines(expected)
        assert [path for path in out.rglob("*") if ".tmp" in path.name] == []
        trial += 1
