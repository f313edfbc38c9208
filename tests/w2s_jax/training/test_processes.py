"""Two processes of four devices train as one process of eight, and resume each other's runs."""

import json
import pathlib
import signal
import socket
import subprocess
import sys
import time

import pytest

from w2s_jax.training.metrics import read_metrics

PROGRAM = pathlib.Path(__file__).with_name("two_processes.py")


def start(processes, workdir, steps):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    return [
        subprocess.Popen(
            [
                sys.executable,
                PROGRAM,
                *map(str, (i, processes, 8 // processes, port, workdir, steps)),
            ],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for i in range(processes)
    ]


def run(processes, workdir, steps="all"):
    return results(start(processes, workdir, steps))


def results(started):
    found = []
    for process in started:
        out, err = process.communicate(timeout=400)
        assert process.returncode == 0, err[-4000:]
        found.append(json.loads(out.splitlines()[-1]))
    return found


@pytest.mark.slow
def test_two_processes_train_as_one_and_resume_each_other(tmp_path):
    one = run(1, tmp_path / "one")
    two = run(2, tmp_path / "two")
    expected = [row["loss"] for row in read_metrics(tmp_path / "one" / "metrics.jsonl")]
    losses = [row["loss"] for row in read_metrics(tmp_path / "two" / "metrics.jsonl")]
    assert len(losses) == len(expected) == 5
    assert losses == pytest.approx(expected, abs=1e-5)
    assert expected[0] == pytest.approx(0.6931472, abs=1e-6)
    for process in two:
        assert process["loss"] == two[0]["loss"]
        assert process["rows"] == one[0]["rows"] // 2
        # Weights are shards everywhere; no host holds one as a whole on any device.
        assert process["largest"] <= 1 / 4

    # Begun by two processes, ended by one, and the other way round.
    run(2, tmp_path / "down", steps=3)
    run(1, tmp_path / "down")
    run(1, tmp_path / "up", steps=3)
    run(2, tmp_path / "up")
    for name in ("down", "up"):
        rows = read_metrics(tmp_path / name / "metrics.jsonl")
        assert [row["step"] for row in rows] == list(range(5))
        assert [row["loss"] for row in rows] == pytest.approx(expected, abs=1e-5)


@pytest.mark.slow
def test_a_sigterm_of_one_process_stops_all_at_one_step_and_saves_it(tmp_path):
    started = start(2, tmp_path, 100_000)
    metrics = tmp_path / "metrics.jsonl"
    deadline = time.monotonic() + 300
    while not (metrics.exists() and metrics.read_bytes().count(b"\n") > 5):
        assert all(process.poll() is None for process in started)
        assert time.monotonic() < deadline
        time.sleep(0.1)
    started[1].send_signal(signal.SIGTERM)
    first, second = results(started)
    assert first["interrupted"]
    assert second["interrupted"]
    assert first["steps"] == second["steps"] < 100_000
    saved = [int(path.name) for path in (tmp_path / "checkpoints").iterdir() if path.name.isdigit()]
    assert saved == [first["steps"]]
