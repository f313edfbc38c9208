"""Runs read together: seeds of the same methods, and other runs of them."""

import json

import pytest

from leco_jax.evaluation.comparison import compare
from leco_jax.evaluation.stored_runs import stored_rows


@pytest.fixture
def run(tmp_path):
    def write(name, seed, right, *, methods=("cot", "sc"), **config):
        workdir = tmp_path / name
        workdir.mkdir()
        (workdir / "config.json").write_text(
            json.dumps({"seed": seed, "methods": methods} | config)
        )
        rows = [
            {
                "id": f"p/{i}", "method": method, "correct": ok, "error": None, "signal": "model",
                "rounds": [{"sampled": 4}], "cost": {"rounds": 1},
            }
            for method in methods
            for i, ok in enumerate(right if method == "sc" else (True, False, False))
        ]  # fmt: skip
        (workdir / "results.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
        return workdir

    return write


def test_runs_that_differ_in_the_seed_are_seeds_of_the_same_methods(run):
    workdirs = [
        run("a", 0, (True, True, False)),
        run("b", 1, (True, True, True), methods=("sc",)),
        run("c", 1, (True, True, True), temperature=2),
        run("d", 0, (True, True, False)),
    ]
    rows = list(stored_rows(workdirs))
    names = [row["method"] for row in rows]
    assert [names.count(n) for n in ("cot", "sc", "cot, c", "sc, c", "cot, d", "sc, d")] == [
        3, 6, 3, 3, 3, 3,
    ]  # fmt: skip
    assert sorted(row["seed"] for row in rows if row["method"] == "sc") == [0, 0, 0, 1, 1, 1]
    line = next(x for x in compare(rows, against="cot") if x["method"] == "sc")
    # The greedy run of seed 0 stands beside both seeds: right more in 1 + 2 of 6 runs.
    assert (line["problems"], line["seeds"], line["gained"], line["lost"]) == (3, 2, 3, 0)
    assert line["points"] == pytest.approx(50)
    assert (line["worst"], line["best"]) == (pytest.approx(2 / 3), 1.0)
    assert line["p"] == 0.5  # two problems that differ, not three runs


def test_a_line_of_an_older_version_is_named(run):
    workdir = run("old", 0, (True, True, False))
    path = workdir / "results.jsonl"
    path.write_text(path.read_text().replace(', "cost": {"rounds": 1}', "", 1))
    with pytest.raises(ValueError, match=r"results.jsonl, line 1: the line has no cost"):
        list(stored_rows([workdir]))
