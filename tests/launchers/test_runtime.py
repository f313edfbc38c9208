"""What all launchers share, in a program of its own that needs no model."""

import json
import subprocess
import sys

import pytest

from tests.launchers.in_process import flags_restored

PROGRAM = """
import dataclasses, logging, sys, time, warnings
from launchers import runtime
from leco_jax.configuration import part
from leco_jax.progress import progress_bar

@dataclasses.dataclass(frozen=True, kw_only=True)
class Optimizer:
    learning_rate: float = 1.0
    steps: int | None = None

@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    task: str = "done"
    optimizer: Optimizer = part(Optimizer)

CONFIG = runtime.define_config("x")
WORKDIR = runtime.define_workdir("y")

def main():
    config = CONFIG(Config)
    errors = {"value": ValueError("v is wrong"), "os": IsADirectoryError(21, "Is a directory", "d"),
              "nan": FloatingPointError("loss is nan"), "memory": MemoryError("too large")}
    if config.task in errors:
        raise errors[config.task]
    if config.task == "noise":
        for name in ("absl", "orbax", "jax", "tensorflow"):
            logging.getLogger(name).warning("noise of a library")
        warnings.warn("more noise")
    if config.task == "bar":
        for _ in progress_bar(range(300), total=300, unit="row"):
            time.sleep(0.001)
            logging.getLogger("leco_jax").warning("ours")
    print(config.optimizer.learning_rate)
    return runtime.DONE

runtime.run(main)
"""
CONFIG = """
import dataclasses, sys
import ml_collections

def get_config(which="one"):
    if which != "one":
        raise ValueError(f"{which!r} is not 'one'")
    optimizer = {"learning_rate": 2.0, "steps": 3}
    config = ml_collections.ConfigDict({"task": "done", "optimizer": optimizer})
    return config
"""


@pytest.fixture
def program(tmp_path):
    """The program in a process of its own, for what all handlers and libraries write together."""
    (tmp_path / "config.py").write_text(CONFIG)

    def run(*arguments):
        command = [sys.executable, "-c", PROGRAM, f"--config={tmp_path}/config.py", *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    return run


@pytest.fixture
def called(call, tmp_path):
    """The program in this process."""
    (tmp_path / "config.py").write_text(CONFIG)
    (tmp_path / "broken.py").write_text(CONFIG.replace("return config", "return confg"))
    (tmp_path / "syntax.py").write_text("def get_config(:\n")
    (tmp_path / "other.py").write_text(CONFIG.replace('"task"', '"methods": 1, "prompt"'))

    def run(*arguments, config="config.py"):
        with flags_restored():
            names = {"__name__": "program"}
            exec(PROGRAM.replace("runtime.run(main)", ""), names)
            return call.call(names["main"], f"--config={tmp_path}/{config}", *arguments)

    return run


def test_the_result_alone_goes_to_standard_output(program):
    done = program("--workdir=w", "--config.optimizer.learning_rate=3", "--config.task=noise")
    assert (done.returncode, done.stdout, done.stderr) == (0, "3.0\n", "")


@pytest.mark.parametrize(
    ("arguments", "config", "message"),
    [
        ((), "config.py", "--workdir is missing"),
        ((), "confgi.py", "config.py'"),
        ((), "", "no such file"),
        (("--workdr=x",), "config.py", "unknown flag --workdr; did you mean '--workdir'?"),
        (("--workdir=w", "surplus"), "config.py", "unexpected argument 'surplus'"),
        (("--config.tsk=1",), "config.py", "no field 'tsk'; did you mean 'task'?"),
        (
            ("--config.optimizer.learning_rat=1",),
            "config.py",
            "--config.optimizer.learning_rat: the config has no field 'learning_rat'; did you mean "
            "'learning_rate'?",
        ),
        (("--config.optimizr.steps=1",), "config.py", "'optimizr'; did you mean 'optimizer'?"),
        (("--config.task.x=1",), "config.py", "--config.task.x: the config has no such field"),
        (("--config.optimizer.steps=1.5",), "config.py", "--config.optimizer.steps=1.5: invalid"),
        (
            ("--workdir=w", "--config.optimizer.learning_rate=nan"),
            "config.py",
            "config.optimizer.learning_rate=nan is not a finite number",
        ),
        ((), "config.py:two", "'two' is not 'one'"),
        ((), "broken.py", "line 10: name 'confg' is not defined"),
        ((), "syntax.py", "line 1: "),
        (("--workdir=w",), "other.py", "is another program's config: this one has no methods, pro"),
        (("--workdir=w", "--config.task=value"), "config.py", "v is wrong"),
        (("--workdir=w", "--config.task=os"), "config.py", "[Errno 21] Is a directory: 'd'"),
        (("--workdir=w", "--config.task=memory"), "config.py", "too large"),
    ],
)
def test_what_a_user_can_mend_is_one_line(called, arguments, config, message):
    done = called(*arguments, config=config)
    assert done.returncode == 1
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert done.stdout == ""


def test_what_is_not_finite_has_an_exit_code_of_its_own(called):
    done = called("--workdir=w", "--config.task=nan")
    assert (done.returncode, done.stdout) == (2, "")


def test_a_bar_without_a_terminal_is_a_line_in_ten_seconds_and_shares_none(program):
    done = program("--workdir=w", "--config.task=bar")
    lines = done.stderr.splitlines()
    assert "\r" not in done.stderr
    assert [line.partition("] ")[2] for line in lines].count("ours") == 300
    bars = [line for line in lines if "row/s" in line]
    assert len(bars) == len(lines) - 300 == 1


@pytest.mark.parametrize("launcher", ["score", "select", "vocabulary", "convert"])
def test_an_output_that_is_an_input_or_no_file_is_refused_before_loading(launcher, call, tmp_path):
    rows = tmp_path / "rows.jsonl"
    rows.write_text(json.dumps({"prompt": "a", "response": "b"}) + "\n")
    own = {
        "score": ["--model=nowhere", f"--input={rows}"],
        "select": ["--task=confidence", f"--samples={rows}"],
        "vocabulary": ["--dataset=nowhere"],
        "convert": [f"--input={rows}"],
    }[launcher]
    outputs = {f"{rows}/below": "is not a directory"}
    if launcher != "vocabulary":
        outputs[str(rows)] = "is the input"
    if launcher in ("score", "select"):
        outputs |= {"/dev/null": "is a device", str(tmp_path): "is a directory"}
    for output, message in outputs.items():
        done = call(launcher, *own, f"--output={output}")
        assert (done.returncode, done.stdout) == (1, "")
        assert message in done.stderr
        assert len(done.stderr.splitlines()) == 1
    assert rows.read_text().startswith('{"prompt"')
