"""launchers/vocabulary.py, once as a program."""

import json
import random
import subprocess
import sys

import pytest

from leco_jax.text.tokenizer import load_tokenizer


def _run(*flags):
    command = [sys.executable, "-m", "launchers.vocabulary", *flags]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture
def data(tmp_path):
    """Problems of one's own."""
    draw, path = random.Random(0), tmp_path / "problems.jsonl"
    with path.open("w") as file:
        for i in range(200):
            a, b, name = draw.randrange(90), draw.randrange(90), draw.choice(["Tom", "Ada", "Mia"])
            question = f"{name} has {a} apples and finds {b} more. How many apples are there now?"
            row = {"id": str(i), "question": question, "gold": str(a + b)}
            file.write(json.dumps(row | {"solution": f"{a} + {b} = {a + b}."}) + "\n")
    return f"--dataset={path}"


def test_a_vocabulary_is_trained_and_written(data, tmp_path):
    done = _run(data, f"--output={tmp_path / 'v'}", "--limit=150", "--size=320")
    assert done.returncode == 0, done.stderr
    assert "320 tokens from 150 problems" in done.stdout
    assert load_tokenizer(tmp_path / "v").vocab_size == 320


@pytest.mark.parametrize(
    ("flag", "message"),
    [("--dataset=nope", "no data set 'nope'"), ("--size=99999", "no vocabulary of size=99999")],
)
def test_what_is_wrong_is_said(call, data, tmp_path, flag, message):
    done = call("vocabulary", data, f"--output={tmp_path / 'v'}", "--limit=20", flag)
    assert done.returncode == 1
    assert message in done.stderr
    assert not (tmp_path / "v").exists()
