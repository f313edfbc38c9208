"""launchers/leco.py as a program: a whole run, a kill, a stop, and what is refused."""

import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest


def _flags(model_dir, workdir, *more):
    return [
        "--config=configs/leco_smollm2.py",
        f"--workdir={workdir}", f"--config.model.name={model_dir}", "--config.prompt=few_shot",
        "--config.data.limit=6", "--config.generation.max_new_tokens=40",
        "--config.engine.slots=3", "--config.leco.policy=sample",
        "--config.engine.chunk=1",  # slow enough to be caught in the act
        *more,
    ]  # fmt: skip


def _command(*arguments):
    return [sys.executable, "-m", "launchers.leco", *_flags(*arguments)]


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    # Programs are compiled once for all runs of this file.
    compiled = str(tmp_path_factory.mktemp("compiled"))
    return os.environ | {
        "JAX_COMPILATION_CACHE_DIR": compiled,
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }


def _run(command, environment):
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def _lines(workdir):
    path = workdir / "results.jsonl"
    return path.read_bytes().splitlines() if path.exists() else []


@pytest.fixture(scope="module")
def unbroken(model_dir, environment, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("runs") / "unbroken"
    done = _run(_command(model_dir, workdir), environment)
    assert done.returncode == 0, done.stderr
    return workdir, done


def test_a_run_writes_every_chain_and_prints_a_table(unbroken):
    workdir, done = unbroken
    table = done.stdout.splitlines()
    assert [line.split("  ")[0] for line in table[:3]] == ["method", "cot", "leco"]
    assert str(workdir / "results.jsonl") in done.stdout
    rows = [json.loads(line) for line in _lines(workdir)]
    assert [(r["id"], r["method"]) for r in rows] == [
        (f"word_problems/test/{i}", method) for i in range(6) for method in ("cot", "leco")
    ]
    for row in rows:
        assert row["error"] is None
        assert row["rounds"][0]["sampled"] <= 40
        for step in row["rounds"][0]["steps"]:
            score = step["average"] + step["transition"] - step["divergence"]
            assert step["score"] == pytest.approx(score, abs=2e-5)
            assert step["score"] == round(step["score"], 5)
        if row["method"] == "leco":
            assert row["settings"]["policy"] == "sample"
    cot, leco = rows[0], rows[1]
    assert leco["rounds"][0]["text"] == cot["rounds"][0]["text"]
    summary = json.loads((workdir / "summary.json").read_text())
    assert summary["tokens"]["prefilled_twice"] == 0


def _interrupted(command, environment, workdir, number):
    """Starts a run and sends it a signal once it has written a few results."""
    process = subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 300
    while len(_lines(workdir)) < 3:
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(number)
    output, _ = process.communicate(timeout=300)
    return process.returncode, output


@pytest.mark.parametrize(("number", "code"), [(signal.SIGKILL, -9), (signal.SIGTERM, 75)])
def test_a_run_goes_on_where_it_was(model_dir, environment, unbroken, tmp_path, number, code):
    workdir = tmp_path / "run"
    command = _command(model_dir, workdir)
    found, output = _interrupted(command, environment, workdir, number)
    assert 3 <= len(_lines(workdir)) < 12
    assert found == code
    assert ("goes on from here" in output) == (number == signal.SIGTERM)
    done = _run(command, environment)
    assert done.returncode == 0, done.stderr
    assert _lines(workdir) == _lines(unbroken[0])


def _bundled(workdir, *more):
    return [
        "--config=configs/leco_arithmetic.py", f"--workdir={workdir}", "--config.data.limit=4",
        "--config.engine.slots=8", "--config.self_consistency.samples=3",
        "--config.engine.stats=('logprob',)", *more,
    ]  # fmt: skip


@pytest.mark.heavy
def test_the_bundled_model_solves_problems_and_a_method_alone_finds_the_same(call, tmp_path):
    # All together in one batch, and then one method on its own.
    methods = ("cot", "leco", "self_consistency", "fork", "fork_checked", "correct")
    done = call("leco", *_bundled(tmp_path / "all", f"--config.methods={methods}"))
    assert done.returncode == 0, done.stderr
    assert "By checks fork_checked does best, against cot " in done.stdout
    table = done.stdout[done.stdout.index("method ") :].splitlines()[:7]  # after the data set's own
    assert tuple(line.split("  ")[0] for line in table[1:]) == methods
    rows = [json.loads(line) for line in _lines(tmp_path / "all")]
    assert [(r["id"], r["method"]) for r in rows] == [
        (f"arithmetic_chains/test/{i}", method) for i in range(4) for method in methods
    ]
    assert all(row["error"] is None for row in rows)
    assert sum(row["correct"] for row in rows if row["method"] == "cot") >= 2
    for cot, leco, samples, *others in zip(*(rows[i::6] for i in range(6)), strict=True):
        for other in (leco, *others):
            assert other["rounds"][0] | {"cut": None} == cot["rounds"][0]
        assert (len(samples["rounds"]), samples["stopped"]) == (3, "samples")
        assert samples["settings"]["temperature"] == 0.7
        assert {r["finish"] for row in (cot, samples) for r in row["rounds"]} == {"eos"}

    done = call("leco", *_bundled(tmp_path / "alone", "--config.methods=('self_consistency',)"))
    assert done.returncode == 0, done.stderr
    assert _lines(tmp_path / "alone") == _lines(tmp_path / "all")[2::6]

    compared = call("compare", f"--workdirs={tmp_path / 'all'}", "--rules=fork")
    assert compared.returncode == 0, compared.stderr
    assert [line.split("  ")[0] for line in compared.stdout.splitlines()[1:8]] == [
        *methods, "fork: last",
    ]  # fmt: skip
    assert call("compare", f"--workdirs={tmp_path / 'all'}", "--against=luck").returncode == 1
    tried = call("compare", f"--workdirs={tmp_path / 'all'}", "--sensitivity=cot")
    assert tried.returncode == 0, tried.stderr
    assert "0.30  3       4    100.0%" in tried.stdout  # the run's own tau and K


def test_problems_that_failed_are_named_and_told_by_the_exit_code(call, tmp_path):
    more = ("--config.methods=('cot',)", "--config.generation.max_new_tokens=1100")
    done = call("leco", *_bundled(tmp_path, *more))
    assert done.returncode == 3, done.stderr
    assert "4 results failed and count as wrong:" in done.stdout
    assert "arithmetic_chains/test/3, cot: " in done.stdout
    assert "0.0%" in done.stdout.split("cot ")[1].splitlines()[0]


def test_make_run_names_a_config_that_is_there_and_a_directory_after_it():
    root = pathlib.Path(__file__).parents[2]
    for more, name in (
        ([], "leco_arithmetic"),
        (["CONFIG=configs/leco_smollm2.py"], "leco_smollm2"),
    ):
        make = ["make", "--dry-run", "run", *more]
        done = subprocess.run(make, cwd=root, capture_output=True, text=True, check=True)
        assert f"--config=configs/{name}.py --workdir=runs/{name}" in done.stdout
        assert (root / "configs" / f"{name}.py").exists()


def test_what_is_wrong_is_said_and_nothing_is_lost(call, model_dir, unbroken, tmp_path):
    workdir, _ = unbroken
    before = _lines(workdir)
    for arguments, message in (
        ((model_dir, workdir, "--config.seed=1"), "config.seed"),
        ((model_dir, tmp_path / "a", "--config.leco.policy=luck"), "policy='luck'"),
        (("no-such-model", tmp_path / "b"), "no-such-model"),
        ((model_dir, "s3://bucket/c"), "s3://bucket/c: paths are local or begin with gs://"),
    ):
        done = call("leco", *_flags(*arguments))
        assert done.returncode == 1
        assert message in done.stderr
    assert _lines(workdir) == before
