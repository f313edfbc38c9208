"""launchers/score.py, held to a forward pass of its own; once as a program."""

import json
import subprocess
import sys

import jax.numpy as jnp
import numpy as np
import pytest

from leco_jax.models.loading import load_model

CHAINS = [
    ("Tom has 3 pens and buys 4.", "Step 1: 3 + 4 = 7.\nStep 2: The answer is \\boxed{7}.\n"),
    ("How many?", "No label here.\n\nA last line"),
    ("A longer question, to be padded less than the others are, is put here.", "12"),
]


@pytest.fixture
def score(call, model_dir, tmp_path):
    def run(lines, *flags, launcher=call):
        source, target = tmp_path / "chains.jsonl", tmp_path / "out" / "scores.jsonl"
        source.write_text("".join(line + "\n" for line in lines))
        own = (f"--model={model_dir}", f"--input={source}", f"--output={target}")
        done = launcher("score", *own, *flags)
        rows = target.read_text().splitlines() if target.exists() else None
        return done, None if rows is None else [json.loads(row) for row in rows]

    return run


def _line(prompt, response):
    return json.dumps({"prompt": prompt, "response": response})


def _program(launcher, *flags):
    command = [sys.executable, "-m", f"launchers.{launcher}", *flags]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def _exact(p, tau=0.3, heading=3):
    """A step's scores from its probabilities, in float64."""
    share = p / p.sum()
    kl = max(np.log(len(p)) + np.sum(share * np.log(share)), 0.0)
    divergence = np.log(kl**tau + 1)
    average, transition = p.mean(), p[:heading].mean()
    return average, divergence, transition, average + transition - divergence


def test_scores_are_those_of_a_forward_pass(score, model_dir):
    lines = [_line(*chain) for chain in CHAINS]
    done, rows = score(lines, "--batch_tokens=128", launcher=_program)
    assert done.returncode == 0, done.stderr
    model = load_model(model_dir)
    llama = model.model
    tokenizer = model.tokenizer
    for (prompt, response), row in zip(CHAINS, rows, strict=True):
        head = tokenizer.encode(prompt, add_bos=tokenizer.wants_bos)
        tail = tokenizer.encode(response, continuation=True)
        logits = np.asarray(llama(jnp.asarray([head + tail]))[0], np.float64)
        logits = logits[len(head) - 1 : -1, : model.config.valid_vocab]
        logp = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
        logp = logp[np.arange(len(tail)), tail]
        np.testing.assert_allclose(row["token_logprobs"], logp, atol=1e-4)
        assert row["sum_logprob"] == pytest.approx(logp.sum(), abs=1e-3)
        for step in row["steps"]:
            start, end = step["tokens"]
            text = tokenizer.decode(tail[start:end], continuation=True)
            assert text.startswith(step["text"])
    steps = rows[0]["steps"]
    assert [s["text"] for s in steps] == [
        "Step 1: 3 + 4 = 7.", "Step 2: The answer is \\boxed{7}.",
    ]  # fmt: skip
    assert [s["text"] for s in rows[1]["steps"]] == ["No label here.", "A last line"]
    # Without a label all tokens of the line but the one that closes it are scored.
    last = rows[1]["steps"][1]
    start, end = last["tokens"]
    p = np.exp(rows[1]["token_logprobs"][start:end])
    found = [last[k] for k in ("average", "divergence", "transition", "score")]
    np.testing.assert_allclose(found, _exact(p), atol=2e-3)


@pytest.mark.heavy
def test_a_bad_line_is_named_and_nothing_is_written_unless_it_may_be_left_out(score):
    lines = [
        _line("a", "b"), "{not json", '{"prompt": "a"}', _line("", "b"), _line("a", ""), "[1]",
        _line("a ", "b" * 4000), "",
    ]  # fmt: skip
    done, rows = score(lines)
    assert done.returncode == 1
    assert rows is None
    for number in (2, 3, 5, 6, 7):
        assert f"line {number}: " in done.stderr
    assert "--skip_bad" in done.stderr
    done, rows = score(lines, "--skip_bad")
    assert done.returncode == 3
    assert done.stdout == ""
    assert [row["line"] for row in rows] == [1, 4]  # an empty prompt is BOS, if there is one


def test_a_batch_of_nothing_is_refused_before_anything_is_read(score):
    done, rows = score([_line("a", "b")], "--batch_tokens=0")
    assert done.returncode == 1
    assert "batch_tokens" in done.stderr
    assert rows is None
