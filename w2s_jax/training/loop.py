"""The training loop, read from top to bottom; SFT and preference training are the same loop."""

import contextlib
import dataclasses
import logging
import pathlib
from collections.abc import Mapping
from typing import Any, Protocol

import jax
import numpy as np
from flax import nnx
from jax.sharding import Mesh

from leco_jax.configuration import at_least, check
from leco_jax.models.llama import Llama
from leco_jax.storage.files import local_directory, replacing
from leco_jax.storage.paths import as_path
from w2s_jax.training.checkpoints import Checkpoints, abstract
from w2s_jax.training.metrics import (
    MetricWriter,
    Progress,
    peak_flops,
    read_metrics,
    train_flops_per_token,
    write_report,
)
from w2s_jax.training.objectives import Objective, zero_margin_loss
from w2s_jax.training.optimizer import OptimizerConfig, make_optimizer, make_schedule
from w2s_jax.training.processes import Stop, asked, everywhere
from w2s_jax.training.train_step import (
    StepConfig,
    TrainState,
    init_state,
    make_eval_step,
    make_train_step,
    place_batch,
    split_model,
)

_log = logging.getLogger(__name__)


class DataSource(Protocol):
    """Batches as a function of the step number; this process's rows of each."""

    def batch(self, step: int) -> dict[str, np.ndarray]:
        """The rows of a step, [rows, T]; pairs: the chosen rows first."""

    @property
    def num_steps_per_epoch(self) -> int:
        """Steps after which every example was seen."""

    @property
    def most_scored(self) -> int:
        """Positions of a row with a loss mask, at most; the others get no log-probability."""

    def fingerprint(self) -> str:
        """A hash of everything that decides what `batch` returns."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunConfig:
    """A run's length and what it writes."""

    # train steps in all, those before a resume included; None: what `epochs` take
    num_steps: int | None = None
    epochs: int = 1  # passes over the data, if `num_steps` does not say how long
    log_every: int = 10  # train steps between progress lines (`metrics.jsonl` has every step)
    eval_every: int = 0  # steps between evaluations; 0: only before the first and after the last
    eval_batches: int = 8  # batches of the held-out data in an evaluation
    checkpoint_every: int = 100  # steps between checkpoints; the last step always has one
    keep_last: int = 2  # newest checkpoints to keep
    # also keep every checkpoint of a step divisible by this; None: none
    keep_every: int | None = None
    tensorboard: bool = False  # also write TensorBoard event files (needs tensorboardX)
    # step of this process at which a profile starts (0 compiles); None: no profile
    profile_start: int | None = None
    profile_steps: int = 3  # steps in the profile, written to workdir/profile
    # a chip's TFLOP/s against which MFU is stated; None: the maker's figure for known accelerators,
    # and no MFU elsewhere
    peak_tflops: float | None = None

    def __post_init__(self):
        check(self)
        counts = ("num_steps", "epochs", "log_every", "eval_batches", "checkpoint_every",
                  "keep_last", "keep_every", "profile_steps")  # fmt: skip
        at_least(self, **{name: 1 for name in counts if getattr(self, name) is not None})

    def steps(self, data: DataSource) -> int:
        """The number of train steps on these data."""
        return self.num_steps or self.epochs * data.num_steps_per_epoch


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainResult:
    """How a run ended."""

    state: TrainState | None  # the last state; None if the run was stopped before it had one
    metrics: Mapping[str, float]  # the last step's metrics
    steps: int  # steps done in all
    interrupted: bool  # it was asked to stop; the state is saved, start again to go on


class NonFiniteError(FloatingPointError):
    """Loss or gradients of a step are NaN or infinite."""


def train(
    *,
    workdir: str | pathlib.Path,
    run: RunConfig,
    model: Llama,
    objective: Objective,
    optimizer: OptimizerConfig,
    data: DataSource,
    mesh: Mesh,
    step_config: StepConfig,
    reference: Any = None,
    eval_data: DataSource | None = None,
    starts_at_reference: bool = False,
    description: Mapping[str, Any] | None = None,
    stop: Stop = lambda: False,
) -> TrainResult:
    """Trains, resuming from the newest checkpoint in `workdir` if there is one.

    Args:
      workdir: gets checkpoints/, metrics.jsonl and report.html.
      run: length and output.
      model: the model on the mesh, of step 0. Its adapters are trained if it has any, else all its
        weights; its arrays are donated to the train step, and those of the end take their place.
      objective: what is minimised.
      optimizer: how weights are updated.
      data: training batches.
      mesh: ("data", "fsdp", "tensor").
      step_config: how a step is computed.
      reference: the reference's weights, where they are a frozen copy.
      eval_data: held-out batches.
      starts_at_reference: the policy of step 0 is the reference, so its loss is known: another one
        means that rows or weights were mixed up.
      description: the config, JSON values, kept in checkpoints and the report.
      stop: asked after every step; true saves the state and ends (see `processes`).

    Raises:
      NonFiniteError: NaN or infinity, named by step and batch; nothing was saved since.
      ValueError: a first loss that cannot be (`starts_at_reference`).
      CheckpointMismatch: the checkpoint in `workdir` is of other data.
    """
    workdir = as_path(workdir)
    lead = jax.process_index() == 0
    description = dict(description or {})

    first_loss = zero_margin_loss(objective) if starts_at_reference else None

    # --- state ---------------------------------------------------------------------------------
    sources = [data] if eval_data is None else [data, eval_data]
    step_config = dataclasses.replace(
        step_config, most_scored=max(source.most_scored for source in sources)
    )
    num_steps = run.steps(data)
    tx = make_optimizer(optimizer, num_steps)
    schedule = make_schedule(optimizer, num_steps)
    graph, trainable, rest = split_model(model)
    state, shardings = init_state(trainable, tx, mesh)
    frozen = {"base": rest, "reference": reference}
    del trainable
    shared: dict[str, Any] = {
        "graph": graph, "objective": objective, "mesh": mesh, "config": step_config
    }  # fmt: skip
    train_step = make_train_step(tx=tx, schedule=schedule, shardings=shardings, **shared)
    eval_step = make_eval_step(**shared)

    checkpoints = Checkpoints(
        workdir / "checkpoints",
        keep_last=run.keep_last,
        keep_every=run.keep_every,
        description=description,
        data=data.fingerprint(),
    )
    with contextlib.ExitStack() as stack:
        stack.enter_context(checkpoints)
        stack.enter_context(jax.set_mesh(mesh))

        # --- resume ----------------------------------------------------------------------------
        first = checkpoints.latest or 0
        if first:
            empty = abstract(state)
            del state  # Its memory is needed for what is loaded.
            nnx.update(model, empty.trainable)
            trainable, rest = checkpoints.restore(
                empty.trainable, {"step": empty.step, "opt_state": empty.opt_state}
            )
            state = TrainState(rest["step"], trainable, rest["opt_state"])
            _log.info("resumed at step %d of %d", first, num_steps)

        # --- watching --------------------------------------------------------------------------
        writer = stack.enter_context(
            MetricWriter(workdir, next_step=first, tensorboard=run.tensorboard, active=lead)
        )
        batch = data.batch(first)
        adapters = sum(x.size for x in jax.tree.leaves(state.trainable)) if model.lora else 0
        length = batch["tokens"].shape[-1]
        stated_peak = run.peak_tflops * 1e12 if run.peak_tflops else None
        progress = Progress(
            num_steps=num_steps,
            chips=mesh.size,
            flops_per_token=train_flops_per_token(model.config, length, adapters=adapters),
            peak_flops=peak_flops(mesh.devices.flat[0].device_kind, stated_peak),
        )
        profile = stack.enter_context(_Profile(workdir / "profile", run))
        rows = [r for r in read_metrics(workdir / "metrics.jsonl") if r["step"] == first - 1]
        last = {k: v for row in rows for k, v in row.items() if k != "step" and v is not None}
        done, interrupted = first, False

        def collect(step, batch, device_metrics) -> dict[str, float]:
            """Waits for a step's metrics and stops at NaN."""
            scalars = {k: float(v) for k, v in jax.device_get(device_metrics).items()}
            _check_finite(step, scalars, batch, workdir, checkpoints)
            if step == 0 and first_loss is not None:
                _check_first(scalars, objective, first_loss)
            return scalars | progress.measure(scalars["num_tokens"])

        def held_out(name: str) -> dict[str, float]:
            if eval_data is None:
                return {}
            steps = range(min(run.eval_batches, eval_data.num_steps_per_epoch))
            placed = (place_batch(eval_data.batch(i), mesh, pairs=objective.pairs) for i in steps)
            batches = jax.device_get([eval_step(state.trainable, frozen, b) for b in placed])
            rows = [batch.pop("rows") for batch in batches]  # a batch weighs as its rows
            scalars = {
                key: float(np.average([batch[key] for batch in batches], weights=rows))
                for key in batches[0]
            }
            if lead:
                shown = ("loss", "mean_token_accuracy", "rewards/accuracies", "rewards/margins")
                line = ", ".join(f"{key} {scalars[key]:.4f}" for key in shown if key in scalars)
                _log.info("step %d/%d, held-out %s", done, num_steps, line)
            return {f"{name}/{key}": value for key, value in scalars.items()}

        def looks_at(done: int) -> bool:
            return done == num_steps or (run.eval_every > 0 and done % run.eval_every == 0)

        def publish(step, scalars) -> None:
            writer.write(step, scalars | (before if step == 0 else {}))
            if lead and (step % run.log_every == 0 or step + 1 == num_steps):
                _log.info("%s", progress.line(step, scalars))

        # --- the loop --------------------------------------------------------------------------
        # Metrics of a step are fetched while the next one runs; nothing else leaves the devices.
        pending, before, program = None, {}, None
        # Stopped or killed between a step and its evaluation: that is made up for.
        missed = eval_data is not None and first > 0 and looks_at(first)
        missed = missed and everywhere("eval/loss" not in last)
        with jax.transfer_guard("disallow"):
            if not first:
                # With step 0's metrics, so that a report shows where the run began.
                before = held_out("eval_before")
            if missed:
                missed_scalars = held_out("eval")
                writer.amend(first - 1, missed_scalars)
                last |= missed_scalars
            progress.restart()
            for step in range(first, num_steps):
                profile.before(step - first)
                placed = place_batch(batch, mesh, pairs=objective.pairs)
                with jax.profiler.StepTraceAnnotation("train", step_num=step):
                    # One program for the whole run: a batch of another shape is an error.
                    program = program or train_step.lower(state, frozen, placed).compile()
                    state, metrics = program(state, frozen, placed)
                now = (step, batch, metrics)
                done = step + 1
                if done < num_steps:
                    batch = data.batch(done)
                if pending is not None:
                    publish(pending[0], collect(*pending))
                pending = now
                profile.after(step - first, metrics)

                interrupted = asked(stop)
                final = done == num_steps
                save = final or interrupted or done % run.checkpoint_every == 0
                look = looks_at(done) and not interrupted
                if not save and not look:
                    continue
                # In this order: what is not finite is never saved.
                last, pending = collect(*pending), None
                if look:
                    last |= held_out("eval")
                publish(step, last)
                if save:
                    writer.flush()  # a checkpoint's steps all have their metrics
                    rest = {"step": state.step, "opt_state": state.opt_state}
                    checkpoints.save(done, state.trainable, rest)
                if interrupted:
                    _log.warning("asked to stop: step %d is being saved", done)
                    break
                progress.restart()  # Evaluation and saving are not the next step's time.

        # --- the end ---------------------------------------------------------------------------
        checkpoints.wait()
        nnx.update(model, state.trainable)
        if lead and last:
            _log.info("report: %s", write_report(workdir, description))
    return TrainResult(state=state, metrics=last, steps=done, interrupted=interrupted)


def _check_finite(step, scalars, batch, workdir, checkpoints) -> None:
    watched = ("loss", "grad_norm", "update_norm")
    bad = [f"{name} is {scalars[name]}" for name in watched if not np.isfinite(scalars[name])]
    if not bad:
        return
    path = workdir / f"bad_batch_step{step}_process{jax.process_index()}.npz"
    with replacing(path) as draft:
        np.savez(draft, **batch)
    saved = checkpoints.latest
    raise NonFiniteError(
        f"step {step}: {', '.join(bad)}; its batch is in {path}. "
        + (f"The last checkpoint is of step {saved}." if saved else "No checkpoint was written.")
        + " Lower the learning rate, clip, or look at that batch"
    )


def _check_first(scalars: Mapping[str, float], objective: Objective, expected: float) -> None:
    found = scalars["loss"] - objective.sft_weight * scalars.get("sft_loss", 0.0)
    # Two programs round differently, in bfloat16 by some thousandths.
    if abs(found - expected) > 0.02 * max(1.0, expected):
        raise ValueError(
            f"step 0: the {objective.name} loss is {found:.4f}, but it is {expected:.4f} where the "
            "policy is its reference: the reference's log-probabilities are of other rows or "
            "weights. Remove reference/ from the workdir to compute stored ones anew"
        )


class _Profile(contextlib.ExitStack):
    """Traces some steps, counted from this process's first; closing it ends the trace."""

    def __init__(self, directory: pathlib.Path, run: RunConfig):
        super().__init__()
        self._directory, self._run = directory, run

    def before(self, index: int) -> None:
        if index == self._run.profile_start:
            self.callback(_log.info, "profile in %s", self._directory)
            directory = self.enter_context(local_directory(self._directory))
            self.enter_context(jax.profiler.trace(directory))

    def after(self, index: int, metrics: Any) -> None:
        start = self._run.profile_start
        if start is not None and index + 1 == start + self._run.profile_steps:
            jax.block_until_ready(metrics)
            self.close()
