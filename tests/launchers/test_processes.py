"""Several processes as one program: what they print, compare, and how they end together."""

import importlib
import json
import math
import os
import signal
import socket
import subprocess
import sys
import time
import types

import jax
import pytest

from tests.launchers.in_process import flags_restored
from tests.launchers.test_dpo import flags, rows
from w2s_jax.training.metrics import read_metrics

__all__ = ["rows"]  # a fixture

PROGRAM = """
import logging, sys, time
import jax
import numpy as np
from absl import flags
from jax.experimental import multihost_utils
from launchers import processes, runtime
from w2s_jax.training.processes import same_everywhere

TASK = flags.DEFINE_string("task", None, "")

def main():
    index = jax.process_index()
    print("begun", flush=True)
    logging.getLogger("leco_jax").info("ours")
    if TASK.value == "compare":
        config = {"run": {"epochs": 1 + index // 2}, "seed": 0}
        same_everywhere({"data": "as read", "config": {"seed": 0}})
        same_everywhere({"data": "as read" + " twice" * (index // 2), "config": config})
    if TASK.value == "bug" and index == 0:
        raise TypeError("a bug")
    if TASK.value == "file" and index == 1:
        raise FileNotFoundError("there is no file")
    while TASK.value == "collective":
        multihost_utils.process_allgather(np.int32(index))
    time.sleep(100 if TASK.value in ("bug", "file", "sleep") else 0)
    return runtime.DONE

runtime.run((processes.alone if "--task=alone" in sys.argv else processes.together)(main))
"""


@pytest.fixture
def processes():
    with flags_restored():
        yield importlib.import_module("launchers.processes")


def start(program, *arguments, count=3, environment=os.environ):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    started = []
    for i in range(count):
        who = [f"--coordinator=127.0.0.1:{port}", f"--num_processes={count}", f"--process_id={i}"]
        started.append(
            subprocess.Popen(
                [sys.executable, "-c", program, *arguments, *who],
                env=environment | {"JAX_PLATFORMS": "cpu"},
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
    return started


def ends(started, timeout=900):
    """Exit code, standard output and error of each."""
    found = []
    for process in started:
        out, err = process.communicate(timeout=timeout)
        found.append((process.returncode, out, err))
    return found


def test_process_0_speaks_and_a_difference_is_named_by_all():
    found = ends(start(PROGRAM, "--task=compare"))
    assert [code for code, _, _ in found] == [1, 1, 1]
    message = "process 2 differs from process 0 in config.run.epochs, data: all processes need"
    for index, (_, out, err) in enumerate(found):
        assert message in err
        assert ("begun" in out, "ours" in err) == (index == 0,) * 2


def test_one_of_several_is_refused_where_all_would_write_the_same(processes, monkeypatch):
    monkeypatch.setattr(processes, "_one_of_several", lambda: False)
    assert processes.alone(lambda: 7)() == 7
    monkeypatch.setattr(processes, "_one_of_several", lambda: True)
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    with pytest.raises(ValueError, match="runs in one process, and this is process 0 of 2"):
        processes.alone(lambda: 7)()


@pytest.mark.parametrize(
    ("given", "chips", "outcome"),
    [
        ((None, None, None), (), None),
        ((None, None, None), ("/dev/accel0",), (None, None, None)),  # jax finds the others
        ((None, 1, None), ("/dev/accel0",), None),
        (("host:1", 2, 1), (), ("host:1", 2, 1)),
        (("host:1", None, None), (), "--num_processes, --process_id missing"),
        ((None, 2, None), ("/dev/accel0",), "--coordinator, --process_id missing"),
    ],
)
def test_who_this_process_is(processes, given, chips, outcome, monkeypatch):
    names = ("_COORDINATOR", "_NUM_PROCESSES", "_PROCESS_ID")
    for name, value in zip(names, given, strict=True):
        monkeypatch.setattr(processes, name, types.SimpleNamespace(value=value))
    monkeypatch.setattr(processes.glob, "glob", lambda pattern: list(chips)[: "accel" in pattern])
    monkeypatch.delenv("JAX_PLATFORMS")
    calls = []
    monkeypatch.setattr(jax.distributed, "initialize", lambda *who, **options: calls.append(who))
    if isinstance(outcome, str):
        with pytest.raises(ValueError, match=outcome):
            processes._one_of_several()
    else:
        assert not processes._one_of_several()
    assert calls == ([outcome] if isinstance(outcome, tuple) else [])


@pytest.mark.slow
@pytest.mark.parametrize(("task", "index"), [("bug", 0), ("file", 1)])
def test_a_process_that_fails_ends_all_with_its_code_and_its_name(task, index):
    for number, (code, _, err) in enumerate(ends(start(PROGRAM, f"--task={task}"))):
        assert code == 1
        if number != index:
            assert f"process {index} (" in err
            assert {"bug": "failed: a bug", "file": "failed: there is no file"}[task] in err
            assert "Traceback" not in err


@pytest.mark.slow
@pytest.mark.parametrize("task", ["sleep", "collective"])
@pytest.mark.parametrize("index", [0, 1])
def test_a_process_that_is_killed_ends_all_in_time(task, index):
    started = start(PROGRAM, f"--task={task}")
    assert started[0].stdout.readline() == "begun\n"
    started[index].kill()
    found = ends(started, timeout=30)
    for number, (code, _, err) in enumerate(found):
        if number != index:
            assert code == 75
            assert f"process {index} (" in err
            assert "died: the same command goes on" in err


TRAINING = """
import json, sys
import jax
import w2s_jax.training.job as job
from launchers import dpo, processes, runtime

order, mesh = json.loads(sys.argv.pop(1)), job.make_mesh
job.make_mesh = lambda **sizes: mesh(**sizes, devices=[jax.devices()[i] for i in order])
runtime.run(processes.together(dpo.main))
"""


@pytest.mark.slow
def test_dpo_through_kills_and_other_numbers_of_processes_is_that_of_one(rows, tmp_path):
    def train(workdir, order, count):
        sizes = "--config.mesh.data=2", "--config.mesh.tensor=2", "--config.held_out.rows=0"
        given = [*flags(rows, workdir), *sizes]
        environment = os.environ | {"JAX_NUM_CPU_DEVICES": str(8 // count)}
        return start(TRAINING, json.dumps(order), *given, count=count, environment=environment)

    def wait_for(path, started, lines=0):
        deadline = time.monotonic() + 900
        while not path.exists() or path.read_bytes().count(b"\n") < lines:
            assert all(process.poll() is None for process in started), ends(started)
            assert time.monotonic() < deadline
            time.sleep(0.05)

    assert [code for code, _, _ in ends(train(tmp_path / "one", [*range(8)], 1))] == [0]
    workdir = tmp_path / "several"
    started = train(workdir, [6, 1, 0, 3, 2, 5, 4, 7], 4)
    wait_for(workdir / "metrics.jsonl", started, lines=3)
    started[2].kill()
    started.append(started.pop(2))
    for code, _, err in ends(started, 30)[:3]:
        assert code == 75, err
        assert "process 2 (" in err
    started = train(workdir, [4, 0, 1, 2, 5, 6, 7, 3], 2)
    wait_for(workdir / ".lock", started)
    started[1].send_signal(signal.SIGTERM)
    for code, _, err in ends(started):
        assert code == 75, err
    for code, _, err in ends(train(workdir, [4, 0, 1, 2, 5, 6, 7, 3], 2)):
        assert code == 0, err
    found = [read_metrics(path / "metrics.jsonl") for path in (workdir, tmp_path / "one")]
    assert [row["step"] for row in found[0]] == list(range(8))
    for ours, theirs in zip(*found, strict=True):
        assert ours["loss"] == pytest.approx(theirs["loss"], abs=1e-5)
    assert found[0][0]["loss"] == pytest.approx(math.log(2), abs=1e-5)
