"""What a pipeline's files must hold, and what a change of them redoes."""

import json

import pytest

from leco_jax.configuration import build
from leco_jax.text.answers import ANSWER_KINDS
from tests.w2s_jax.pipeline.test_stages import graph_of
from tests.w2s_jax.pipeline.tiny_config import get_config
from w2s_jax.pipeline.problems import ProblemsConfig, load_pool, split_pool
from w2s_jax.pipeline.run import run_pipeline


def rows_of_problems(start, count, **without):
    full = [
        {
            "id": f"p{i}", "question": f"What is {i} + 1?", "gold": str(i + 1),
            "solution": f"Step 1: {i} + 1 = {i + 1}.\nStep 2: The answer is {i + 1}.",
        }
        for i in range(start, start + count)
    ]  # fmt: skip
    for field, left in without.items():
        for row in full[left:]:
            del row[field]
    return full


def write(directory, train, test):
    directory.mkdir(exist_ok=True)
    for name, rows in (("train", train), ("test", test)):
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        (directory / f"own_{name}.jsonl").write_text(lines)
    config = get_config()
    config.data.name, config.data.split = "own_{split}.jsonl", "train"
    config.data.dir = str(directory)
    return config


def test_changed_problems_change_every_key_and_a_moved_directory_none(tmp_path):
    train, test = rows_of_problems(0, 24), rows_of_problems(100, 6)
    before = graph_of(write(tmp_path / "one", train, test)).keys
    assert graph_of(write(tmp_path / "moved", train, test)).keys == before
    for part, field in ((train, "gold"), (train, "solution"), (test, "question")):
        was, part[3][field] = part[3][field], part[3][field] + "0"
        after = graph_of(write(tmp_path / "one", train, test)).keys
        assert all(after[name] != before[name] for name in before), field
        part[3][field] = was


def test_without_solutions_for_the_questions_there_is_no_ceiling(tmp_path):
    train = rows_of_problems(0, 24, solution=9, gold=9)
    config = write(tmp_path, train, rows_of_problems(100, 6))
    graph = graph_of(config)
    assert not {"ceiling", "eval_ceiling"} & set(graph.stages)
    assert "eval_ceiling" not in graph.stages["table"].needs
    run_pipeline(config, tmp_path / "run", stage="splits")
    described = json.loads((tmp_path / "run" / "seed0" / "splits" / "artifact.json").read_text())
    # Eight of the nine solved ones teach the weak model; the ninth may be among the questions.
    assert described["summary"]["questions_without_solution"] in (11, 12)
    lines = (tmp_path / "run" / "seed0" / "splits" / "gold.jsonl").read_text().splitlines()
    assert all("solution" in json.loads(line) for line in lines)


def _built(data):
    return build(ProblemsConfig, data)


def test_missing_solutions_and_golds_are_counted_before_anything_runs(tmp_path):
    config = write(tmp_path, rows_of_problems(0, 24, solution=7), rows_of_problems(100, 6))
    with pytest.raises(ValueError, match=r"8 problems with a solution .*; 7 of 24 have one"):
        split_pool(load_pool(_built(config.data)), config.data, seed=0)
    config = write(tmp_path, rows_of_problems(0, 24), rows_of_problems(100, 6, gold=4))
    with pytest.raises(ValueError, match=r"2 of 6 test problems have no gold answer \(p104"):
        load_pool(_built(config.data))
    config.data.test_questions = 4
    assert len(load_pool(_built(config.data)).test) == 4


def test_a_pipeline_compares_one_kind_of_answers(tmp_path, monkeypatch):
    monkeypatch.setitem(ANSWER_KINDS, "count", ANSWER_KINDS["number"])
    train = rows_of_problems(0, 24)
    train[5]["kind"] = "count"
    with pytest.raises(ValueError, match="kinds count, number"):
        load_pool(_built(write(tmp_path, train, rows_of_problems(100, 6)).data))
