"""launchers/report.py: what it writes and refuses."""

import json

import pytest


@pytest.fixture
def workdir(tmp_path):
    row = {
        "id": "a", "method": "cot", "question": "How many?", "gold": "4", "correct": False,
        "error": "it failed",
    }  # fmt: skip
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "results.jsonl").write_text(json.dumps(row) + "\n")
    (tmp_path / "run" / "config.json").write_text('{"seed": 0}')
    return tmp_path / "run"


def test_it_writes_each_form_by_its_suffix(call, workdir, tmp_path):
    paths = [tmp_path / f"report.{suffix}" for suffix in ("html", "md", "csv")]
    done = call("report", f"--workdirs={workdir}", f"--output={','.join(map(str, paths))}")
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [str(path) for path in paths]
    begins = [path.read_text()[:9] for path in paths]
    assert begins == ["<!doctype", "| method ", "method,si"]


@pytest.mark.parametrize(
    ("flags", "message"),
    [(["--output=report.pdf"], "ends in .html, .md, .csv"), (["--against=leco"], "no results of")],
)
def test_what_cannot_be_written_is_one_line(call, workdir, tmp_path, flags, message):
    done = call("report", f"--workdirs={workdir}", f"--output={tmp_path}/report.html", *flags)
    assert done.returncode == 1
    assert message in done.stderr
    assert not list(tmp_path.glob("*.html"))
