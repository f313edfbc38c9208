"""SIGKILL of one of four processes at random moments of each program; any number goes on."""

import json
import os
import random
import time

import pytest

from tests.launchers.test_dpo import flags, rows
from tests.launchers.test_processes import start
from tests.launchers.test_shared_runs import (
    PROGRAM,
    artifacts,
    assert_same,
    chains,
    finish,
    killed,
    leco,
    losses,
    read,
    run,
    score,
    w2s,
)

__all__ = ["chains", "rows"]  # fixtures

# How many processes go on with a killed run, of a moment each.
GOING_ON = (4, 2, 1)


def sft(rows, workdir):
    return [
        "--config=configs/sft_cpu_minute.py", f"--workdir={workdir}",
        f"--config.data.source={rows}", "--config.data.prompt={prompt}",
        "--config.data.completion={chosen}", "--config.data.length=48", "--config.data.batch=8",
        "--config.held_out.rows=8", "--config.optimizer.warmup_steps=2",
        "--config.run.num_steps=8", "--config.run.eval_every=4", "--config.run.checkpoint_every=2",
    ]  # fmt: skip


@pytest.fixture(scope="module")
def programs(rows, chains):
    """By its name a program's flags for a directory, and what reads its results there."""
    return {
        "leco": (leco, lambda path: read(path / "results.jsonl")),
        "score": (
            lambda path: score(chains, path / "scores.jsonl"),
            lambda path: read(path / "scores.jsonl"),
        ),
        "sft": (lambda path: sft(rows, path), lambda path: losses(path / "metrics.jsonl")),
        "dpo": (lambda path: flags(rows, path), lambda path: losses(path / "metrics.jsonl")),
        "w2s": (lambda path: w2s(path, until="weak_answers"), artifacts),
    }


@pytest.fixture(scope="module")
def of_one(programs, tmp_path_factory):
    """Gives a program's results by one process with one device, and its seconds."""
    known = {}

    def make(name):
        if name not in known:
            make_flags, results = programs[name]
            directory = tmp_path_factory.mktemp(name)
            environment = os.environ | {"JAX_NUM_CPU_DEVICES": "1"}
            arguments = (PROGRAM, name, "[0]", *make_flags(directory))
            started = start(*arguments, count=1, environment=environment)
            assert started[0].stdout.readline() == "met\n"
            begun = time.monotonic()
            finish(started)
            known[name] = results(directory), time.monotonic() - begun
        return known[name]

    return make


@pytest.mark.slow
@pytest.mark.parametrize("moment", range(len(GOING_ON)))
@pytest.mark.parametrize("name", ["leco", "score", "sft", "dpo", "w2s"])
def test_the_rest_end_in_time_and_any_number_goes_on(name, moment, programs, of_one, tmp_path):
    expected, seconds = of_one(name)
    make_flags, results = programs[name]
    draw = random.Random(json.dumps([name, moment]))
    started = run(name, *make_flags(tmp_path), count=4)
    assert started[0].stdout.readline() == "met\n"
    time.sleep(draw.random() * seconds)
    if all(process.poll() is None for process in started):
        killed(started, draw.randrange(4))
    else:  # done before
        finish(started)
    finish(run(name, *make_flags(tmp_path), count=GOING_ON[moment]))
    assert_same(results(tmp_path), expected, name)
    assert [
        path for path in tmp_path.rglob("*") if ".tmp" in path.name or ".part0" in path.name
    ] == []
