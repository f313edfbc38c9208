"""launchers/localise.py on labelled chains and on a finished run."""

import json

import pytest

from leco_jax.configuration import as_json
from leco_jax.evaluation.experiment_config import DataSource, ExperimentConfig, ModelSource
from leco_jax.evaluation.step_figures import FIGURES

CHAINS = [
    {"problem": "1 + 2 + 3?", "steps": ["1 + 2 = 3.", "3 + 3\n= 5.", "So 5."], "label": 1},
    {"problem": "1 + 2?", "steps": ["1 + 2 = 3.", "So 3."], "label": -1},
]
SOLUTION = "Step 1: 1 + 2 = 3.\nStep 2: The answer is \\boxed{3}."


@pytest.fixture
def chains(tmp_path):
    path = tmp_path / "chains.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in CHAINS))
    return path


@pytest.fixture
def workdir(tmp_path, model_dir):
    problem = {"id": "a", "question": "1 + 2?", "gold": "3", "solution": SOLUTION}
    (tmp_path / "problems.jsonl").write_text(json.dumps(problem))
    data = DataSource(name=str(tmp_path / "problems.jsonl"))
    model = ModelSource(name=str(model_dir))
    run = tmp_path / "run"
    run.mkdir()
    (run / "config.json").write_text(
        json.dumps(as_json(ExperimentConfig(prompt="question", model=model, data=data)))
    )
    row = {"id": "a", "question": "1 + 2?", "method": "cot", "error": None}
    texts = [SOLUTION, SOLUTION.replace("3", "4"), SOLUTION.splitlines()[0]]
    rows = [
        row | {"first_correct": not i, "rounds": [{"text": text}]} for i, text in enumerate(texts)
    ]
    (run / "results.jsonl").write_text("".join(json.dumps(line) + "\n" for line in rows))
    return run


def test_labelled_chains(call, chains, model_dir, tmp_path):
    target = tmp_path / "found.json"
    done = call("localise", f"--model={model_dir}", f"--chains={chains}", f"--json={target}")
    assert done.returncode == 0, done.stderr
    assert "chains.jsonl: 1 wrong chains, 1 right chains" in done.stdout
    (table,) = json.loads(target.read_text())["tables"]
    assert [line["figure"] for line in table["lines"]] == [*FIGURES, "a random step"]
    assert table["lines"][-1]["exact"] == pytest.approx(1 / 3)
    assert {line["exact"] for line in table["lines"][:-1]} <= {0, 1}


def test_a_finished_run(call, workdir):
    done = call("localise", f"--workdir={workdir}")
    assert done.returncode == 0, done.stderr
    # The third chain ends before it goes wrong.
    assert "run, cot: 1 wrong chains, 1 right chains, 1 left out" in done.stdout


def test_what_is_not_known_is_refused(call, workdir, chains):
    done = call("localise", f"--chains={chains}", f"--workdir={workdir}")
    assert (done.returncode, "either --chains or --workdir" in done.stderr) == (1, True)
    done = call("localise", f"--chains={chains}")
    assert (done.returncode, "need a --model" in done.stderr) == (1, True)
    done = call("localise", f"--workdir={workdir}", "--method=leco")
    assert (done.returncode, "has no results of 'leco'" in done.stderr) == (1, True)
    problems = workdir.parent / "problems.jsonl"
    problems.write_text(problems.read_text().replace("1 + 2 = 3", "it is so"))
    done = call("localise", f"--workdir={workdir}")
    assert (done.returncode, "do not have an equation in each step" in done.stderr) == (1, True)
