"""launchers/vocabulary.py as a program."""

import subprocess
import sys

import pytest

from leco_jax.text.tokenizer import load_tokenizer


def _run(*flags):
    command = [sys.executable, "-m", "launchers.vocabulary", *flags]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_a_vocabulary_is_trained_and_written(tmp_path):
    done = _run(f"--output={tmp_path / 'v'}", "--limit=300", "--size=400")
    assert done.returncode == 0, done.stderr
    assert "400 tokens from 300 problems" in done.stdout
    assert load_tokenizer(tmp_path / "v").vocab_size == 400


@pytest.mark.parametrize(
    ("flag", "message"),
    [("--dataset=nope", "no data set 'nope'"), ("--size=99999", "no vocabulary of size=99999")],
)
def test_what_is_wrong_is_said_without_a_traceback(tmp_path, flag, message):
    done = _run(f"--output={tmp_path / 'v'}", "--limit=20", flag)
    assert done.returncode == 1
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "v").exists()
