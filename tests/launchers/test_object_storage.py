"""Launchers with everything below gs://, killed and started again, against an emulator."""

import json
import os
import pathlib
import random
import shutil
import subprocess
import sys
import time

import pytest

from leco_jax.storage.paths import object_store

ROOT = pathlib.Path(__file__).parents[2]
KILLS = 5
ROWS = 24


@pytest.fixture
def texts(tmp_path):
    path = tmp_path / "texts.jsonl"
    lines = []
    for i in range(ROWS):
        text = f"{i} + 2 = {i + 2}\n#### {i + 2}"
        row = {"prompt": f"What is {i} plus 2?\n", "completion": text, "response": text}
        lines.append(json.dumps(row) + "\n")
    path.write_text("".join(lines))
    return path


def uploaded(path, bucket):
    object_store(bucket).upload(path, bucket / path.name)
    return bucket / path.name


def rows(path):
    timed = {"seconds", "tokens_per_second_per_chip"}
    found = [json.loads(line) for line in path.read_bytes().splitlines()]
    return [{key: value for key, value in row.items() if key not in timed} for row in found]


def flags(launcher, texts, model, out):
    """Of a launcher, and what it writes."""
    if launcher == "score":
        result = out / "scores.jsonl"
        given = [f"--model={model}", f"--input={texts}", f"--output={result}", "--batch_tokens=64"]
    elif launcher == "leco":
        result = out / "results.jsonl"
        given = [
            "--config=configs/leco_smollm2.py", f"--workdir={out}", "--config.prompt=few_shot",
            f"--config.model.name={model}", "--config.data.limit=6", "--config.engine.slots=3",
            "--config.generation.max_new_tokens=40", "--config.leco.policy=sample",
            "--config.engine.chunk=1",
        ]  # fmt: skip
    else:
        result = out / "metrics.jsonl"
        given = [
            "--config=configs/sft_cpu_minute.py", f"--workdir={out}", "--config.data.length=48",
            f"--config.data.source={texts}", "--config.data.prompt={prompt}",
            "--config.data.completion={completion}", "--config.data.batch=8",
            "--config.held_out.rows=8", "--config.optimizer.warmup_steps=2",
            "--config.run.num_steps=12", "--config.run.eval_every=4",
            "--config.run.checkpoint_every=2", f"--config.model.tokenizer={model}",
        ]  # fmt: skip
    return given, result


def test_score_reads_and_writes_objects(call, model_dir, texts, bucket, tmp_path):
    given, expected = flags("score", texts, model_dir, tmp_path)
    assert call("score", *given).returncode == 0
    remote = uploaded(texts, bucket), uploaded(model_dir, bucket)
    given, result = flags("score", *remote, bucket / "out")
    done = call("score", *given)
    assert done.returncode == 0, done.stderr
    assert rows(result) == rows(expected)
    done = call("score", *given[:-2], "--output=gs://no-such-bucket/x", given[-1])
    assert done.returncode == 1
    assert "output gs://no-such-bucket/x cannot be written" in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["score", "leco", "sft"])
def test_kills_lose_and_double_nothing(launcher, model_dir, texts, bucket, tmp_path):
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": "2"}
    options = {"cwd": ROOT, "env": environment, "stdout": subprocess.DEVNULL}
    program = [sys.executable, "-m", f"launchers.{launcher}"]
    remote = uploaded(texts, bucket), uploaded(model_dir, bucket)
    seconds = 0.0
    for directory in ("compiled", "unbroken"):  # the second run is timed
        given, expected = flags(launcher, texts, model_dir, tmp_path / directory)
        started = time.monotonic()
        subprocess.run([*program, *given], check=True, **options)
        seconds = time.monotonic() - started
    moments, kills, trial = random.Random(launcher), 0, 0
    while kills < KILLS:
        out = bucket / f"killed{trial}"
        given, result = flags(launcher, *remote, out)
        code = None
        while kills < KILLS and code is None:
            process = subprocess.Popen([*program, *given], **options)
            try:
                code = process.wait(timeout=moments.uniform(0.5, 1.6) * seconds)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                kills += 1
        subprocess.run([*program, *given], check=True, **options)
        assert rows(result) == rows(expected)
        left = [path.name for path in out.rglob("*")]
        assert not [name for name in left if name == ".lock" or ".tmp" in name]
        assert not [name for name in left if name.startswith(f"{result.name}.")]
        trial += 1
    if launcher == "sft":
        assert {path.name for path in (out / "checkpoints").iterdir()} == {"10", "12"}
        target = tmp_path / "model"
        subprocess.run(
            [sys.executable, "-m", "launchers.convert", f"--input={out}", f"--output={target}"],
            check=True, **options,
        )  # fmt: skip
        shutil.rmtree(target)
