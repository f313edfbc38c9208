"""Several processes, their devices in any order, train as one and resume each other's runs."""

import json
import math
import os
import random
import signal
import socket
import subprocess
import sys
import time

import jax
import jax.numpy as jnp
import pytest

from leco_jax.models.weights import init_params
from tests.w2s_jax.training.one_of_several import APART, MIXED, train_each
from w2s_jax.training.batch_scores import batch_stats
from w2s_jax.training.losses import sequence_sum
from w2s_jax.training.metrics import read_metrics


def start(processes, workdir, steps, order, objectives="sft,dpo"):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    program = [sys.executable, "-m", "tests.w2s_jax.training.one_of_several"]
    return [
        subprocess.Popen(
            [*program, *map(str, (i, processes, port, workdir, steps, list(order), objectives))],
            env=os.environ | {"JAX_PLATFORMS": "cpu", "PYTHONPATH": os.getcwd()},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for i in range(processes)
    ]


def results(started):
    found = []
    for process in started:
        out, err = process.communicate(timeout=900)
        assert process.returncode == 0, err[-4000:]
        found.append(json.loads(out.splitlines()[-1]))
    return found


def check_as_one(workdir, expected, steps):
    """Compares every step's losses, and those held out, with the run of one process."""
    names = [path.name for path in workdir.iterdir()]
    for name in names:
        ours = read_metrics(workdir / name / "metrics.jsonl")
        theirs = read_metrics(expected / name / "metrics.jsonl")
        assert [row["step"] for row in ours] == list(range(steps))
        for one, other in zip(ours, theirs, strict=True):
            # A run that went on has an evaluation at each of its ends.
            for key in {"loss", "grad_norm", "eval_before/loss", "eval/loss"} & set(other):
                assert one[key] == pytest.approx(other[key], abs=1e-5), (name, key)
    assert sorted(names) == ["dpo", "sft"]


def test_two_processes_whose_rows_are_apart_train_as_one(tiny, random_data, tmp_path):
    one, several = tmp_path / "one", tmp_path / "several"
    started = start(2, several, 2, APART)
    train_each(one, 2, range(4), ["sft", "dpo"])
    results(started)
    check_as_one(several, one, 2)
    first = read_metrics(several / "dpo" / "metrics.jsonl")[0]
    assert first["loss"] == pytest.approx(math.log(2), abs=1e-5)
    batch = random_data(pairs=True).batch(0)
    params = init_params(tiny, jax.random.key(0))
    logprob_BT = batch_stats(params, jax.tree.map(jnp.asarray, batch), config=tiny).logprob
    chosen, rejected = jnp.split(sequence_sum(logprob_BT, batch["loss_mask"]), 2)
    for name, expected in (("chosen", chosen), ("rejected", rejected)):
        ours = first[f"logps/{name}"]
        assert ours == pytest.approx(float(expected.mean()), abs=1e-4)


@pytest.mark.slow
def test_any_number_of_processes_goes_on_with_anothers_run(tmp_path):
    """Begun by four processes, continued by one and ended by two, in other orders each time."""
    one, several, names = tmp_path / "one", tmp_path / "several", ["sft", "dpo"]
    train_each(one, 5, range(8), names)
    results(start(4, several, 2, random.Random(5).sample(range(8), 8)))
    train_each(several, 3, range(8), names)
    for found in results(start(2, several, 5, MIXED)):
        # Weights are shards everywhere; no host holds one as a whole on any device.
        assert all(found[name]["largest"] <= 1 / 4 for name in names)
    check_as_one(several, one, 5)


@pytest.mark.slow
def test_a_sigterm_of_one_process_stops_all_at_one_step_and_saves_it(tmp_path):
    started = start(2, tmp_path, 100_000, MIXED, "dpo")
    metrics = tmp_path / "dpo" / "metrics.jsonl"
    deadline = time.monotonic() + 300
    while not (metrics.exists() and metrics.read_bytes().count(b"\n") > 5):
        assert all(process.poll() is None for process in started)
        assert time.monotonic() < deadline
        time.sleep(0.1)
    started[1].send_signal(signal.SIGTERM)
    first, second = (found["dpo"] for found in results(started))
    assert first["interrupted"]
    assert second["interrupted"]
    assert first["steps"] == second["steps"] < 100_000
    saved = [path.name for path in (tmp_path / "dpo" / "checkpoints").iterdir()]
    assert [int(name) for name in saved if name.isdigit()] == [first["steps"]]
