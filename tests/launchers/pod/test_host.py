"""host.sh with a Python that the test makes: environment, exit codes, signals."""

import os
import pathlib
import signal
import subprocess

import pytest

SCRIPT = pathlib.Path(__file__).parents[3] / "launchers" / "pod" / "host.sh"


@pytest.fixture
def host(tmp_path):
    """Starts host.sh in a home whose environment's Python runs a shell program instead."""
    python = tmp_path / "leco_environment" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text('#!/bin/sh\nshift; printf "%s\\n" "$@"; . "$HOME/program"\n')
    (tmp_path / "python3").write_text('#!/bin/sh\necho "$@"\n')
    for file in (python, tmp_path / "python3"):
        file.chmod(0o755)

    def start(*arguments, program=""):
        (tmp_path / "program").write_text(program)
        return subprocess.Popen(
            ["sh", str(SCRIPT), *arguments], text=True, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            env={"HOME": str(tmp_path), "TMPDIR": str(tmp_path),
                 "PATH": f"{tmp_path}:{os.environ['PATH']}"},
        )  # fmt: skip

    return start


def _wait_for(process, line):
    while (read := process.stdout.readline()) != line + "\n":
        assert read, process.stderr.read()


def _code(process):
    process.communicate()
    return process.returncode


def test_setup_installs_what_pyproject_names_at_the_locked_versions(host):
    done = host("setup")
    output, _ = done.communicate()
    assert done.returncode == 0
    uv, environment, packages = output.splitlines()
    assert uv.endswith("install --quiet --user uv")
    assert "venv" in environment
    assert "--requirement pyproject.toml --extra experiments --extra tpu --extra gcs" in packages
    assert packages.endswith("--constraint requirements_lock.txt")


@pytest.mark.parametrize(
    ("program", "code"),
    [("exit 0", 0), ("exit 3", 3), ("exit 75", 75), ("kill -KILL $$", 75), ("kill -SEGV $$", 75)],
)
def test_the_exit_code_is_the_programs_and_75_where_a_signal_killed_it(host, program, code):
    done = host("run", "launchers.sft", "--config=a b, 'c' \"d\" $e", program=program)
    output, _ = done.communicate()
    assert done.returncode == code
    assert output.splitlines() == ["launchers.sft", "--config=a b, 'c' \"d\" $e"]


def test_sigterm_reaches_the_program_whose_exit_code_counts(host):
    program = "trap 'echo saved; exit 75' TERM; echo begun; while :; do sleep 0.02; done"
    running = host("run", "launchers.sft", program=program)
    _wait_for(running, "begun")
    running.send_signal(signal.SIGTERM)
    output, _ = running.communicate()
    assert output == "saved\n"
    assert running.returncode == 75


def test_stop_ends_what_runs_and_a_second_run_is_refused_meanwhile(host):
    program = "trap 'exit 75' TERM; echo begun; while :; do sleep 0.02; done"
    running = host("run", "launchers.sft", program=program)
    _wait_for(running, "begun")
    second = host("run", "launchers.sft", program=program)
    _, message = second.communicate()
    assert second.returncode == 1
    assert "already" in message
    assert _code(host("stop")) == 0
    assert _code(running) == 75
    assert _code(host("run", "launchers.sft", program="exit 0")) == 0
