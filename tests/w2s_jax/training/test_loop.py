"""The loop: exact resume, interruption, the NaN guard, and what it writes."""

import dataclasses
import gc
import json
import os

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from leco_jax.models.llama import Llama
from leco_jax.models.sharding import make_mesh
from w2s_jax.training.checkpoints import (
    CheckpointMismatch,
    Checkpoints,
    abstract,
    load_weights,
)
from w2s_jax.training.loop import NonFiniteError, RunConfig, train
from w2s_jax.training.metrics import read_metrics
from w2s_jax.training.objectives import Objective
from w2s_jax.training.optimizer import OptimizerConfig
from w2s_jax.training.train_step import StepConfig

OPTIMIZER = OptimizerConfig(learning_rate=1e-2, warmup_steps=2, weight_decay=0.1)
RUN = RunConfig(num_steps=7, checkpoint_every=3, eval_every=4, eval_batches=2, log_every=2)


def start(model, data, workdir, *, run=RUN, mesh=None, eval_data=None, **options):
    mesh = mesh or make_mesh(data=2, fsdp=2, tensor=2)
    return train(
        workdir=workdir,
        run=run,
        model=Llama(model, rngs=jax.random.key(0), mesh=mesh),
        objective=Objective(),
        optimizer=OPTIMIZER,
        data=data,
        eval_data=eval_data,
        mesh=mesh,
        step_config=StepConfig(stats=("entropy",)),
        description={"seed": 0},
        **options,
    )


def bits(state):
    return [np.asarray(x).tobytes() for x in jax.tree.leaves(state)]


def losses_of(workdir):
    return {row["step"]: row["loss"] for row in read_metrics(workdir / "metrics.jsonl")}


@pytest.fixture(scope="module")
def whole(tiny, random_data, tmp_path_factory):
    """A run without interruption."""
    workdir = tmp_path_factory.mktemp("whole")
    result = start(tiny, random_data(), workdir, eval_data=random_data(seed=1))
    return workdir, bits(result.state), result


class Stops:
    """Data that ends the process's run at one step: with an exception, or by asking for it."""

    def __init__(self, data, step, *, asks=False):
        self._data, self._step, self._asks, self.asked = data, step, asks, False
        self.num_steps_per_epoch = data.num_steps_per_epoch
        self.most_scored = data.most_scored

    def fingerprint(self):
        return self._data.fingerprint()

    def batch(self, step):
        if step == self._step:
            if not self._asks:
                raise InterruptedError("killed")
            self.asked = True
        return self._data.batch(step)


def test_a_run_writes_every_step_once(whole):
    workdir, _, result = whole
    rows = read_metrics(workdir / "metrics.jsonl")
    assert [row["step"] for row in rows] == list(range(7))
    assert [row["step"] for row in rows if "eval/loss" in row] == [3, 6]
    assert [row["step"] for row in rows if "eval_before/loss" in row] == [0]
    for name in ("loss", "entropy", "grad_norm", "learning_rate", "tokens_per_second_per_chip"):
        assert all(np.isfinite(row[name]) for row in rows), name
    assert result.metrics["loss"] == pytest.approx(rows[-1]["loss"])
    assert "<svg" in (workdir / "report.html").read_text()
    with Checkpoints(workdir / "checkpoints") as saved:
        assert saved.latest == 7
        described = saved.describe()
    assert described["config"] == {"seed": 0}
    assert described["data"]["next_step"] == 7


@pytest.mark.parametrize("killed_at", [2, 5])
def test_resume_is_exact_and_repeats_and_skips_nothing(
    tiny, random_data, tmp_path, whole, killed_at
):
    with pytest.raises(InterruptedError):
        start(tiny, Stops(random_data(), killed_at), tmp_path, eval_data=random_data(seed=1))
    data = random_data()
    result = start(tiny, data, tmp_path, eval_data=random_data(seed=1))
    workdir, expected, _ = whole
    assert bits(result.state) == expected
    assert losses_of(tmp_path) == losses_of(workdir)
    saved = killed_at - killed_at % 3
    assert data.asked == list(range(saved, 7))


def test_a_stop_saves_the_step_and_the_same_call_goes_on(tiny, random_data, tmp_path, whole):
    # Asking for batch 2 happens while step 1 runs: that step is the last.
    data = Stops(random_data(), 2, asks=True)
    stopped = start(tiny, data, tmp_path, stop=lambda: data.asked)
    assert stopped.interrupted
    assert stopped.steps == 2
    with Checkpoints(tmp_path / "checkpoints") as saved:
        assert saved.latest == 2
    result = start(tiny, random_data(), tmp_path, eval_data=random_data(seed=1))
    assert not result.interrupted
    assert bits(result.state) == whole[1]


@pytest.mark.parametrize("last", [4, 7])
def test_an_evaluation_and_a_report_that_a_stop_prevented_are_made_up(
    tiny, random_data, tmp_path, whole, last
):
    # Asked to stop in the very step after which it would evaluate.
    asked = iter([False] * (last - 1) + [True])
    options = {"eval_data": random_data(seed=1)}
    stopped = start(tiny, random_data(), tmp_path, stop=lambda: next(asked), **options)
    assert stopped.steps == last
    (tmp_path / "report.html").unlink()
    result = start(tiny, random_data(), tmp_path, **options)
    assert bits(result.state) == whole[1]
    found, expected = (read_metrics(d / "metrics.jsonl") for d in (tmp_path, whole[0]))
    for name in ("eval/loss", "eval/entropy"):
        assert [row.get(name) for row in found] == [row.get(name) for row in expected]
        assert result.metrics[name] == whole[2].metrics[name]
    assert "<svg" in (tmp_path / "report.html").read_text()


def test_a_second_program_is_never_compiled(tiny, random_data, tmp_path):
    class Shrinking(Stops):
        def batch(self, step):
            width = None if step < 2 else -1
            return {name: x[:, :width] for name, x in self._data.batch(step).items()}

    with pytest.raises(TypeError, match="differ from the types for which this computation was"):
        start(tiny, Shrinking(random_data(), None), tmp_path)
    assert losses_of(tmp_path).keys() == {0}


def test_a_complete_run_does_nothing_more(tiny, random_data, whole):
    workdir, expected, _ = whole
    result = start(tiny, random_data(), workdir)
    assert bits(result.state) == expected
    assert len(read_metrics(workdir / "metrics.jsonl")) == 7
    assert result.metrics["loss"] == whole[2].metrics["loss"]


def test_resume_on_another_mesh_agrees_within_rounding(tiny, random_data, tmp_path, whole):
    with pytest.raises(InterruptedError):
        start(tiny, Stops(random_data(), 4), tmp_path, mesh=make_mesh(fsdp=8))
    mesh = make_mesh(data=4, tensor=2)
    result = start(tiny, random_data(), tmp_path, mesh=mesh)
    assert result.state.trainable["embed"].sharding.mesh == mesh
    expected = losses_of(whole[0])
    for step, loss in losses_of(tmp_path).items():
        assert loss == pytest.approx(expected[step], abs=1e-5)


def test_other_data_in_the_same_workdir_is_refused(tiny, random_data, whole):
    with pytest.raises(CheckpointMismatch, match="its position in the data would mean nothing"):
        start(tiny, random_data(seed=5), whole[0])


class Poisoned:
    """Data with a loss mask that is not a number in one step."""

    def __init__(self, data, step):
        self._data, self._step = data, step
        self.num_steps_per_epoch = data.num_steps_per_epoch
        self.most_scored = data.most_scored

    def fingerprint(self):
        return self._data.fingerprint()

    def batch(self, step):
        batch = self._data.batch(step)
        if step == self._step:
            batch["loss_mask"] = np.where(batch["loss_mask"] > 0, np.inf, 0).astype(np.float32)
        return batch


@pytest.mark.parametrize("bad", [2, 3])
def test_nan_names_step_and_batch_and_nothing_bad_is_saved(tiny, random_data, tmp_path, bad):
    # Step 2 ends just before a checkpoint, step 3 just after one.
    with pytest.raises(
        NonFiniteError, match=rf"step {bad}: loss is .*bad_batch_step{bad}_process0"
    ):
        start(tiny, Poisoned(random_data(), bad), tmp_path)
    with np.load(tmp_path / f"bad_batch_step{bad}_process0.npz") as saved:
        np.testing.assert_array_equal(saved["tokens"], random_data().batch(bad)["tokens"])
    with Checkpoints(tmp_path / "checkpoints") as saved:
        assert saved.latest == (None if bad == 2 else 3)
    rows = read_metrics(tmp_path / "metrics.jsonl")
    assert [row["step"] for row in rows] == list(range(bad))


def test_retention_keeps_the_newest_and_every_nth(tiny, random_data, tmp_path):
    run = RunConfig(num_steps=7, checkpoint_every=1, keep_last=2, keep_every=3)
    start(tiny, random_data(), tmp_path, run=run)
    kept = sorted(int(p.name) for p in (tmp_path / "checkpoints").iterdir())
    assert kept == [3, 6, 7]


def test_the_profile_window_and_the_progress_line(tiny, random_data, tmp_path, caplog):
    run = RunConfig(num_steps=5, log_every=2, profile_start=1, profile_steps=2, peak_tflops=1e-6)
    with caplog.at_level("INFO", "w2s_jax"):
        start(tiny, random_data(), tmp_path, run=run)
    assert list((tmp_path / "profile").rglob("*.xplane.pb"))
    lines = [r.getMessage() for r in caplog.records if r.getMessage().startswith("step 3/5")]
    assert len(lines) == 1
    for part in ("loss ", "tokens/s/chip", "MFU ", "of 1e-06 TFLOP/s", "ETA 0:00:"):
        assert part in lines[0]


def test_bad_run_options_are_refused():
    with pytest.raises(ValueError, match="num_steps=0 must be at least 1"):
        RunConfig(num_steps=0)
    with pytest.raises(ValueError, match="checkpoint_every=0"):
        dataclasses.replace(RUN, checkpoint_every=0)


def test_config_that_json_cannot_hold_is_refused_before_saving(tmp_path):
    with (
        Checkpoints(tmp_path, description={"key": object()}) as saved,
        pytest.raises(TypeError, match="not JSON serializable"),
    ):
        saved.save(1, {"w": jnp.zeros(2)}, {})
    assert json.dumps(sorted(os.listdir(tmp_path))) == "[]"


# Orbax drops coroutines that it made when a tree before them cannot be loaded.
@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_damaged_checkpoint_is_named_and_what_to_remove(tmp_path):
    weights, rest = {"a": jnp.arange(1000.0)}, {"step": jnp.zeros((), jnp.int32)}
    with Checkpoints(tmp_path) as saved:
        saved.save(1, weights, rest)
    for shard in (tmp_path / "1").rglob("d/*"):
        os.truncate(shard, shard.stat().st_size // 2)
    for read in (
        lambda: Checkpoints(tmp_path).restore(abstract(weights), abstract(rest)),
        lambda: load_weights(tmp_path, abstract(weights)),
    ):
        with pytest.raises(CheckpointMismatch, match=rf"{tmp_path}/1 cannot be read: .* Remove"):
            read()
    gc.collect()
