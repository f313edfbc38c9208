"""leco, score and w2s by several processes, through kills, are what one process writes."""

import contextlib
import json
import os
import random
import signal
import time

import pytest

from tests.launchers.test_processes import ends, start

PROGRAM = """
import importlib, json, os, sys
import jax
from launchers import processes, runtime
from leco_jax.models import sharding

name, order = sys.argv.pop(1), json.loads(sys.argv.pop(1))
program = importlib.import_module(f"launchers.{name}").main

class Permuted:
    # jax, but for the order of devices: to what makes meshes, not to jax itself.
    def devices(self):
        return [jax.devices()[i] for i in order]

    def local_devices(self):
        return [d for d in self.devices() if d in jax.local_devices()]

    def __getattr__(self, name):
        return getattr(jax, name)

sharding.jax = Permuted()

def main():
    os.write(1, b"met\\n")
    return program()

runtime.run(processes.together(main))
"""
ORDER = [2, 1, 3, 0]


def run(name, *flags, count):
    """Starts a launcher in so many processes with four devices in all, in another order."""
    environment = os.environ | {"JAX_NUM_CPU_DEVICES": str(4 // count)}
    return start(PROGRAM, name, json.dumps(ORDER), *flags, count=count, environment=environment)


def finish(started):
    for code, _, err in ends(started):
        assert code == 0, err


def leco(workdir, **more):
    sizes = {
        "data.limit": 12, "engine.slots": 1, "engine.chunk": 4, "methods": "('cot','leco')",
        "generation.max_new_tokens": 60,
    }  # fmt: skip
    return (
        "--config=configs/leco_arithmetic.py", f"--workdir={workdir}",
        *(f"--config.{name}={value}" for name, value in (sizes | more).items()),
    )  # fmt: skip


def score(chains, target, *more):
    return (
        "--model=arithmetic-1m", f"--input={chains}", f"--output={target}", "--batch_tokens=128",
        *more,
    )  # fmt: skip


def w2s(workdir, until="weak_ft_1"):
    """Two trainings, two stages of answers and a selection, if it is not told to end before."""
    sizes = {"data.questions": 6, "data.test_questions": 3, "generation.max_new_tokens": 80}
    return (
        "--config=tests/w2s_jax/pipeline/tiny_config.py:short", f"--workdir={workdir}",
        f"--until={until}", *(f"--config.{name}={value}" for name, value in sizes.items()),
    )  # fmt: skip


@pytest.fixture(scope="module")
def chains(tmp_path_factory):
    path, draw = tmp_path_factory.mktemp("chains") / "chains.jsonl", random.Random(3)
    lines = []
    for number in range(80):
        response = "Step 1: 3 + 4 = 7.\n" * draw.randint(1, 2)
        lines.append({"id": number, "prompt": "Tom has 3 pens.", "response": response})
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


@pytest.fixture(scope="module")
def of_one(chains, tmp_path_factory):
    """What one process with one device writes: the rows of leco and of score."""
    directory = tmp_path_factory.mktemp("one")
    environment = os.environ | {"JAX_NUM_CPU_DEVICES": "1"}
    for name, flags in (
        ("leco", leco(directory)),
        ("score", score(chains, directory / "scores.jsonl")),
    ):
        finish(start(PROGRAM, name, "[0]", *flags, count=1, environment=environment))
    return [read(directory / name) for name in ("results.jsonl", "scores.jsonl")]


@pytest.fixture(scope="module")
def pipeline_of_one(tmp_path_factory):
    """What the pipeline of one process with one device leaves."""
    directory = tmp_path_factory.mktemp("pipeline")
    environment = os.environ | {"JAX_NUM_CPU_DEVICES": "1"}
    finish(start(PROGRAM, "w2s", "[0]", *w2s(directory), count=1, environment=environment))
    return artifacts(directory)


def artifacts(workdir):
    """All rows of a pipeline's artifacts, and every step's loss, by file."""
    seed, found = workdir / "seed0", {}
    for path in sorted(seed.glob("*/*.jsonl")):
        found[str(path.relative_to(seed))] = read(path)
    for path in sorted(seed.glob("*/run/metrics.jsonl")):
        found[path.parts[-3]] = losses(path)
    assert list((seed / ".partial").iterdir()) == []
    return found


def losses(path):
    """Of every step; a run that went on has evaluations at other steps."""
    return [{name: row[name] for name in ("step", "loss")} for row in read(path)]


def read(path):
    return [json.loads(line) for line in path.read_bytes().splitlines()]


def assert_same(ours, theirs, place=""):
    """Everything equal, but figures may differ in their last digits."""
    if isinstance(theirs, dict):
        assert list(ours) == list(theirs), place
        for key in theirs:
            assert_same(ours[key], theirs[key], f"{place}.{key}")
    elif isinstance(theirs, list):
        assert len(ours) == len(theirs), place
        for number, pair in enumerate(zip(ours, theirs, strict=True)):
            assert_same(*pair, f"{place}[{number}]")
    elif isinstance(theirs, float):
        # A loss, or a figure of a row.
        assert ours == pytest.approx(theirs, abs=1e-5 if "loss" in place else 1e-4), place
    else:
        assert ours == theirs, place


def test_leco_by_two_processes_is_that_of_one_called_here(call, tmp_path):
    more = {"data.limit": 3, "methods": "('cot',)", "generation.max_new_tokens": 24}
    started = run("leco", *leco(tmp_path / "two", **more), count=2)
    assert call("leco", *leco(tmp_path / "one", **more)).returncode == 0
    finish(started)
    results = [read(tmp_path / name / "results.jsonl") for name in ("two", "one")]
    assert_same(*results)


@pytest.mark.slow
@pytest.mark.parametrize(("count", "tensor"), [(2, 1), (4, 1), (2, 4)])
def test_leco_by_several_processes_is_that_of_one(of_one, tmp_path, count, tensor):
    # Replicas of one device, and one on all devices of both processes, which is slow here.
    limit = 2 if tensor == 4 else 12
    more = {"mesh.tensor": tensor, "data.limit": limit}
    finish(run("leco", *leco(tmp_path, **more), count=count))
    assert_same(read(tmp_path / "results.jsonl"), of_one[0][: 2 * limit])
    assert sorted(os.listdir(tmp_path)) == ["config.json", "results.jsonl", "summary.json"]


@pytest.mark.slow
@pytest.mark.parametrize(("count", "tensor"), [(4, 1), (2, 2), (2, 4)])
def test_score_by_several_processes_is_that_of_one(of_one, chains, tmp_path, count, tensor):
    target = tmp_path / "scores.jsonl"
    finish(run("score", *score(chains, target, f"--tensor={tensor}"), count=count))
    assert_same(read(target), of_one[1])
    assert os.listdir(tmp_path) == [target.name]


def killed(started, index):
    """Kills one; the others end in time and name it."""
    started[index].kill()
    begun = time.monotonic()
    for number, (code, _, err) in enumerate(ends(started, timeout=60)):
        if number != index:
            assert code == 75, err
            assert f"process {index} (" in err
    assert time.monotonic() - begun < 30


def wait(started, condition):
    deadline = time.monotonic() + 300
    while not condition():
        assert all(process.poll() is None for process in started), ends(started)
        assert time.monotonic() < deadline
        time.sleep(0.02)


def lines(workdir):
    count = 0
    for path in workdir.glob("results*.jsonl"):
        with contextlib.suppress(FileNotFoundError):  # a part that was joined meanwhile
            count += path.read_bytes().count(b"\n")
    return count


@pytest.mark.slow
def test_leco_goes_on_with_any_number_of_processes_after_a_stop_and_kills(of_one, tmp_path):
    draw = random.Random(11)
    started = run("leco", *leco(tmp_path), count=2)
    wait(started, lambda: lines(tmp_path))
    started[1].send_signal(signal.SIGTERM)
    for code, _, err in ends(started):
        assert code == 75, err
    for count in (4, 4, 2):
        before = lines(tmp_path)
        started = run("leco", *leco(tmp_path), count=count)
        wait(started, lambda before=before: lines(tmp_path) >= before + 3)
        time.sleep(draw.random() / 4)
        killed(started, draw.randrange(count))
    finish(run("leco", *leco(tmp_path), count=1))
    assert_same(read(tmp_path / "results.jsonl"), of_one[0])
    assert sorted(os.listdir(tmp_path)) == ["config.json", "results.jsonl", "summary.json"]


@pytest.mark.slow
def test_score_writes_nothing_until_it_is_whole(of_one, chains, tmp_path):
    draw, target = random.Random(12), tmp_path / "scores.jsonl"
    for count in (4, 2):
        before = set(tmp_path.iterdir())
        started = run("score", *score(chains, target), count=count)
        # The directory of the parts is made once all processes have read the chains.
        wait(started, lambda before=before: set(tmp_path.iterdir()) - before)
        time.sleep(draw.random() / 2)
        killed(started, draw.randrange(count))
        assert not target.exists()
    finish(run("score", *score(chains, target), count=1))
    assert_same(read(target), of_one[1])
    assert os.listdir(tmp_path) == [target.name]


@pytest.mark.slow
def test_w2s_by_two_processes_is_that_of_one(pipeline_of_one, tmp_path):
    finish(run("w2s", *w2s(tmp_path), count=2))
    assert_same(artifacts(tmp_path), pipeline_of_one)


@pytest.mark.slow
def test_w2s_goes_on_with_any_number_of_processes_after_a_stop_and_kills(pipeline_of_one, tmp_path):
    def begun(stage, pattern, lines):
        for path in (tmp_path / "seed0" / ".partial").glob(f"{stage}-*/{pattern}"):
            with contextlib.suppress(FileNotFoundError):  # a part that was joined meanwhile
                if path.read_bytes().count(b"\n") >= lines:
                    return True
        return False

    started = run("w2s", *w2s(tmp_path), count=4)
    wait(started, lambda: begun("weak", "run/metrics.jsonl", 1))
    killed(started, 2)
    started = run("w2s", *w2s(tmp_path), count=2)
    wait(started, lambda: begun("weak_answers", "answers*.jsonl", 1))
    started[1].send_signal(signal.SIGTERM)
    for code, _, err in ends(started):
        assert code == 75, err
    started = run("w2s", *w2s(tmp_path), count=2)
    wait(started, lambda: begun("strong_answers_1", "answers*.jsonl", 2))
    killed(started, 1)
    finish(run("w2s", *w2s(tmp_path), count=1))
    assert_same(artifacts(tmp_path), pipeline_of_one)
