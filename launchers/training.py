"""What `launchers/sft.py` and `launchers/dpo.py` share."""

import contextlib
import functools
from collections.abc import Sequence

import jax
from absl import flags

from launchers import runtime
from w2s_jax.training.job import run_job
from w2s_jax.training.job_config import TrainingConfig

_CONFIG = runtime.define_config("What to train.")
_WORKDIR = runtime.define_workdir("Where checkpoints, metrics and the report go.")
_DISTRIBUTED = flags.DEFINE_bool("distributed", False, "One of several processes (a pod).")


def run(*, objectives: Sequence[str]) -> None:
    """The program that trains with one of `objectives`."""
    runtime.run(functools.partial(_main, objectives))


def _main(objectives: Sequence[str]) -> int:
    config = _CONFIG(TrainingConfig)
    if config.objective.name not in objectives:
        raise ValueError(
            f"config.objective.name={config.objective.name!r} is not one of this program's: "
            + ", ".join(objectives)
        )
    if _DISTRIBUTED.value:
        jax.distributed.initialize()
    # With several processes jax's own preemption service listens for SIGTERM.
    alone = jax.process_count() == 1
    with runtime.stop_requested() if alone else contextlib.nullcontext(lambda: False) as stop:
        result = run_job(config, _WORKDIR.value, stop=stop)
    if result.interrupted:
        saved = f"after step {result.steps}, saved" if result.state else "before the first step"
        print(f"Stopped {saved}: the same command goes on from here.")
        return runtime.RESUME
    names = ("loss", "eval/loss", "rewards/accuracies", "eval/rewards/accuracies")
    shown = [f"{name} {result.metrics[name]:.4f}" for name in names if name in result.metrics]
    print(f"Trained {result.steps} steps. {', '.join(shown)}".strip())
    return runtime.DONE
