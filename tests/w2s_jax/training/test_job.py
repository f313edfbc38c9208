"""From configs to runs: references, adapters, start weights, and what is refused."""

import importlib
import json
import pathlib
import shutil
import sys

import jax
import numpy as np
import pytest

from leco_jax.configuration import build
from leco_jax.examples import bundled_path
from leco_jax.models.loading.export import export_huggingface
from leco_jax.models.sharding import make_mesh
from leco_jax.text.tokenizer import load_tokenizer
from w2s_jax.training import job
from w2s_jax.training.initial_weights import load_run, load_start, restore_run
from w2s_jax.training.job_config import TrainingConfig, training_config
from w2s_jax.training.loop import NonFiniteError
from w2s_jax.training.metrics import read_metrics

ROOT = pathlib.Path(__file__).parents[3]


def run_job(config, workdir, **options):
    return job.run_job(build(TrainingConfig, config), workdir, **options)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "rows.jsonl"
    with path.open("w") as file:
        for i in range(24):
            row = {
                "prompt": f"What is {i} plus 2?\n",
                "completion": f"#### {i + 2}",
                "chosen": f"#### {i + 2}",
                "rejected": f"It is {i}\n#### {i}",
            }
            file.write(json.dumps(row) + "\n")
    return path


@pytest.fixture
def config(files):
    config = training_config()
    config.model.name = None
    config.model.preset = "tiny"
    config.model.tokenizer = str(bundled_path("arithmetic-1m"))
    config.data.source = str(files)
    config.data.length = 32
    config.data.batch = 8
    config.optimizer.learning_rate = 1e-2
    config.run.num_steps = 3
    config.step.remat = "none"
    config.mesh.tensor = 2
    return config


@pytest.fixture
def line(config, tmp_path):
    """Run a trains all weights, b adapters on a; gives their directory."""
    config.run.num_steps = 2
    for name, before, rank in (("a", "", 0), ("b", "a", 2)):
        config.lora.rank = rank
        config.model.checkpoint = str(tmp_path / "runs" / before) if before else None
        run_job(config, tmp_path / "runs" / name)
    return tmp_path / "runs"


def test_a_run_that_its_data_makes_short_warms_up_for_half_of_it(config, tmp_path):
    config.run.num_steps, config.run.epochs = None, 2  # 24 rows, 8 a step: 6 steps
    config.optimizer.warmup_steps = 10
    run_job(config, tmp_path)
    rates = [row["learning_rate"] for row in read_metrics(tmp_path / "metrics.jsonl")]
    assert len(rates) == 6
    assert rates[:3] == pytest.approx([1e-2 / 3, 2e-2 / 3, 1e-2])
    config.run.num_steps = 6
    with pytest.raises(ValueError, match="warmup_steps=10 leaves nothing of a run of 6 steps"):
        run_job(config, tmp_path / "asked_for")


def test_rows_that_lose_tokens_are_counted(config, files, caplog):
    tokenizer, mesh = load_tokenizer(config.model.tokenizer), make_mesh(fsdp=8)
    job.load_data(build(TrainingConfig, config), tokenizer, mesh, pairs=True)
    assert not caplog.records
    config.data.length = 8
    job.load_data(build(TrainingConfig, config), tokenizer, mesh, pairs=True)
    chosen, rejected = (record.getMessage() for record in caplog.records)
    assert "of 24 chosen rows 24 prompts lose their oldest tokens and " in chosen
    assert "of 24 rejected rows 24 prompts lose their oldest tokens and 24 completions" in rejected


@pytest.mark.parametrize(
    ("objective", "reference"), [("robust", "frozen"), ("ipo", "stored"), ("simpo", "none")]
)
def test_objectives_with_each_reference(config, tmp_path, objective, reference):
    config.objective.name = objective
    config.reference = reference
    config.held_out.rows = 8
    result = run_job(config, tmp_path)
    assert np.isfinite(result.metrics["eval/rewards/margins"])
    first = read_metrics(tmp_path / "metrics.jsonl")[0]
    if reference != "none":
        assert abs(first["rewards/margins"]) < 1e-5


def test_a_run_stops_while_it_is_prepared(config, tmp_path):
    config.objective.name = "dpo"
    config.held_out.rows = 8
    # Asked after the model, after the data, and before each batch of the stored reference.
    for times in range(5):
        answers = iter([False] * times + [True])
        stopped = run_job(config, tmp_path, stop=lambda answers=answers: next(answers))
        assert (stopped.interrupted, stopped.steps, stopped.state) == (True, 0, None)
        assert not (tmp_path / "checkpoints").exists()
    assert run_job(config, tmp_path).steps == 3


def test_evaluation_counts_every_held_out_row_once(config, tmp_path):
    config.run.num_steps = 1
    config.held_out.rows = 12
    config.objective.reduction = "sequence"
    found = []
    for batch in (4, 8):  # three full batches; one, and one that is half padding
        config.data.batch = batch
        run_job(config, tmp_path / str(batch))
        found.append(read_metrics(tmp_path / str(batch) / "metrics.jsonl")[0]["eval_before/loss"])
    assert found[0] == pytest.approx(found[1], rel=1e-6)


def test_adapters_train_beside_the_base_and_a_later_run_starts_from_the_sum(config, tmp_path):
    config.objective.name = "dpo"
    config.lora.rank = 2
    result = run_job(config, tmp_path / "lora")
    first = read_metrics(tmp_path / "lora" / "metrics.jsonl")[0]
    assert first["loss"] == pytest.approx(0.6931472, abs=1e-6)
    assert set(result.state.trainable["adapters"]["q_proj"]) == {"a", "b"}

    mesh = make_mesh(fsdp=4, tensor=2)
    config.lora.rank = 0
    base = load_start(config, mesh).model.params
    config.model.checkpoint = str(tmp_path / "lora")
    merged = load_start(config, mesh).model.params
    adapters = jax.device_get(result.state.trainable["adapters"]["q_proj"])
    base_q, merged_q = (jax.device_get(p["layers"]["q_proj"]) for p in (base, merged))
    # alpha 16 over rank 2.
    delta = 8 * (adapters["a"] @ adapters["b"]).reshape(base_q.shape)
    assert np.abs(delta).max() > 1e-3
    np.testing.assert_allclose(merged_q, base_q + delta, atol=1e-5)
    np.testing.assert_array_equal(merged["embed"], base["embed"])


def test_a_later_run_starts_from_all_trained_weights(config, tmp_path):
    result = run_job(config, tmp_path)
    mesh = make_mesh(data=8)
    model = load_start(config, mesh).model
    restore_run(tmp_path, model, mesh)
    np.testing.assert_array_equal(model.embed, result.state.trainable["embed"])
    assert model.embed.sharding.mesh == mesh


@pytest.mark.slow
def test_adapters_on_a_trained_run_are_converted_before_a_run_goes_on(config, line, tmp_path):
    mesh = make_mesh(fsdp=8)
    config.model.checkpoint = None
    model = load_start(config, mesh).model
    for name in "ab":
        # One run after the other, by hand.
        before = jax.device_get(model.layers["q_proj"][...])
        restore_run(line / name, model, mesh)
        assert np.abs(model.layers["q_proj"][...] - before).max() > 1e-3
    ended = load_run(line / "b", mesh)
    jax.tree.map(
        lambda x, y: np.testing.assert_allclose(x, y, atol=1e-6), ended.model.params, model.params
    )

    config.model.checkpoint = str(line / "b")
    command = rf"python -m launchers.convert --input={line / 'b'} --output=MODEL; .*model.name"
    with pytest.raises(ValueError, match=command):
        run_job(config, tmp_path / "c")
    export_huggingface(tmp_path / "b", ended.model, ended.tokenizer)
    config.model.preset = config.model.checkpoint = config.model.tokenizer = None
    config.model.name = str(tmp_path / "b")
    assert run_job(config, tmp_path / "c").steps == 2


def test_adapters_are_never_put_on_other_weights(config, line):
    mesh = make_mesh(fsdp=8)
    with config.unlocked():
        other = config.copy_and_resolve_references()
    other.model.preset, other.model.checkpoint = "arithmetic_500k", str(line / "a")
    with pytest.raises(ValueError, match="a did not begin with the weights that this config names"):
        load_start(other, mesh)
    # b's adapters belong to what a was after two steps.
    config.lora.rank, config.model.checkpoint, config.run.num_steps = 0, None, 3
    shutil.rmtree(line / "a")
    run_job(config, line / "a")
    with pytest.raises(ValueError, match=r"b did not begin .* must not have been trained"):
        load_run(line / "b", mesh)
    shutil.rmtree(line / "a")
    with pytest.raises(FileNotFoundError, match=r"no checkpoint directory .*runs/a/checkpoints"):
        load_run(line / "b", mesh)


def test_epochs_and_packed_rows(config, tmp_path):
    config.run.num_steps = None
    config.run.epochs = 2
    config.data.packed = True
    config.data.length = 64
    result = run_job(config, tmp_path)
    # 24 short rows, several to a packed row of 64: one step of eight rows an epoch.
    assert result.steps == 2


def test_a_workdir_belongs_to_one_config_but_any_mesh(config, tmp_path):
    run_job(config, tmp_path)
    config.mesh.tensor = 1
    before = read_metrics(tmp_path / "metrics.jsonl")
    assert run_job(config, tmp_path).steps == 3
    assert read_metrics(tmp_path / "metrics.jsonl") == before
    config.optimizer.learning_rate = 1.0
    with pytest.raises(ValueError, match=r"differing: config.optimizer.learning_rate"):
        run_job(config, tmp_path)


def test_a_command_that_trained_nothing_claims_nothing(config, tmp_path):
    config.optimizer.warmup_steps = 3
    with pytest.raises(ValueError, match="warmup_steps=3 leaves nothing of a run of 3 steps"):
        run_job(config, tmp_path)
    config.optimizer.warmup_steps = 0
    config.optimizer.learning_rate = 1e30
    with pytest.raises(NonFiniteError):
        run_job(config, tmp_path)
    config.optimizer.learning_rate = 1e-2
    assert run_job(config, tmp_path).steps == 3


def test_a_run_goes_on_where_its_files_have_moved_but_not_on_others(config, files, tmp_path):
    run_job(config, tmp_path / "start")
    config.model.checkpoint = str(tmp_path / "start")
    run_job(config, tmp_path / "run")
    moved = tmp_path / "moved"
    moved.mkdir()
    config.model.checkpoint = str((tmp_path / "start").rename(moved / "start"))
    config.data.source = shutil.copy(files, moved)
    before = read_metrics(tmp_path / "run" / "metrics.jsonl")
    run_job(config, (tmp_path / "run").rename(moved / "run"))
    assert read_metrics(moved / "run" / "metrics.jsonl") == before

    rows = files.read_text().replace("What is 3", "What was 3")
    (moved / "rows.jsonl").write_text(rows)
    with pytest.raises(ValueError, match=r"\(differing: config.data.fingerprint\)"):
        run_job(config, moved / "run")
    shutil.copy(files, moved)
    config.model.checkpoint = None
    with pytest.raises(ValueError, match=r"\(differing: config.model.weights\)"):
        run_job(config, moved / "run")


def test_tensorboard_without_its_writer_is_refused_before_loading(config, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    config.run.tensorboard = True
    config.model.tokenizer = "nowhere"
    with pytest.raises(ValueError, match="pip install tensorboardX"):
        run_job(config, tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model.name": "smollm2-135m-instruct"}, "either model.name, or model.preset"),
        ({"model.tokenizer": ""}, "model.preset needs model.tokenizer"),
        ({"data.source": None}, "data.source is not set"),
        ({"data.batch": 0}, "config.data: batch=0 must be at least 1"),
        ({"data.batch": 6, "model.tokenizer": "no"}, "data.batch=6 is not a multiple of 4"),
        ({"step.accumulate": 4, "model.tokenizer": "no"}, "data.batch=8 is not a multiple of 16"),
        ({"optimizer.learning_rate": float("nan")}, "learning_rate=nan is not a finite number"),
        ({"held_out.rows": 24}, "held_out.rows=24 leaves none of 24 rows"),
        ({"held_out.rows": 4, "held_out.source": "x.jsonl"}, "not both"),
        ({"objective.name": "dpo", "data.packed": True}, "data.packed is for SFT"),
        ({"objective.name": "dpo", "reference": "lora_off"}, "needs lora.rank > 0"),
        (
            {"objective.name": "dpo", "reference": "frozen", "lora.rank": 2},
            "use reference='lora_off'",
        ),
        ({"model.checkpoint": "nowhere"}, "there is no checkpoint directory"),
    ],
)
def test_impossible_configs_are_refused(config, tmp_path, changes, message):
    config.update_from_flattened_dict(changes)
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        run_job(config, tmp_path)


@pytest.mark.parametrize(
    "path",
    sorted([*(ROOT / "configs").glob("sft_*.py"), *(ROOT / "configs").glob("dpo_*.py")]),
    ids=lambda path: path.stem,
)
def test_every_config_says_how_to_run_it_and_has_only_known_fields(path):
    module = importlib.import_module(f"configs.{path.stem}")
    known = {name for name, _ in flat(training_config())}
    assert {name for name, _ in flat(module.get_config())} == known
    assert "Hardware:" in module.__doc__
    assert f"configs/{path.name}" in module.__doc__


def flat(config, prefix=""):
    for name, value in config.items():
        if hasattr(value, "items"):
            yield from flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
