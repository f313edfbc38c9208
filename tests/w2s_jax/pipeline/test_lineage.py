"""Models by what they hold, and training runs as stages that stop and go on."""

import json
import os
import shutil

import pytest

from leco_jax.configuration import build
from leco_jax.examples import bundled_path
from w2s_jax.pipeline.graph import Cost, Interrupted, Work
from w2s_jax.pipeline.lineage import Lineage, model_hash, training_stage
from w2s_jax.training.checkpoints import newest
from w2s_jax.training.job_config import TrainingConfig, training_config


@pytest.fixture
def stage():
    config = training_config()
    config.data.length = 64
    config.run.num_steps = 3
    config.step.remat = "none"
    return training_stage(
        "weak",
        config=build(TrainingConfig, config),
        start=Lineage(name="base", base="arithmetic-base-500k", dtype="float32"),
        data="splits",
        file="gold.jsonl",
        prompt="Question: {question}\nAnswer:\n",
        seed=0,
        objective="sft",
        cost=Cost(),
    )


@pytest.mark.heavy
def test_a_stopped_training_stage_saves_and_goes_on(stage, tmp_path):
    (tmp_path / "splits").mkdir()
    rows = [{"id": str(i), "question": f"{i} + 1?", "solution": f"{i + 1}"} for i in range(8)]
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (tmp_path / "splits" / "gold.jsonl").write_text(lines)

    def run(name, stop):
        return stage.run(Work(tmp_path / name, {"splits": tmp_path / "splits"}, stop))

    whole = run("whole", lambda: False)
    assert whole["steps"] == 3
    with pytest.raises(Interrupted):
        run("stopped", lambda: True)  # before anything is trained
    assert newest(tmp_path / "stopped" / "run" / "checkpoints") is None
    # Asked after the model, after the data, and then after each step.
    answers = iter([False, False, False, True])
    with pytest.raises(Interrupted):
        run("stopped", lambda: next(answers))
    assert newest(tmp_path / "stopped" / "run" / "checkpoints")
    assert run("stopped", lambda: False) == whole
    # The stage is over and its artifact was not yet put in place: the same summary again.
    assert run("stopped", lambda: False) == whole


def test_a_model_is_known_by_what_it_holds(tmp_path):
    model = tmp_path / "model"
    shutil.copytree(bundled_path("arithmetic-base-500k"), model)
    first = model_hash(str(model))
    os.utime(model / "config.json")
    os.utime(next(model.glob("*.safetensors")))
    (model / "README.md").write_text("A model.")
    (model / "runs").mkdir()
    assert model_hash(str(model)) == first
    assert model_hash(str(shutil.copytree(model, tmp_path / "elsewhere"))) == first
    for name in ("config.json", next(model.glob("*.safetensors")).name, "tokenizer_config.json"):
        changed = shutil.copytree(model, tmp_path / f"changed {name}")
        with (changed / name).open("r+b") as file:
            file.seek(-2, os.SEEK_END)
            file.write(b" }")
        assert model_hash(str(changed)) != first, name
    assert model_hash("arithmetic-1m") == "arithmetic-1m"
