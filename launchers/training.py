"""What `launchers/sft.py` and `launchers/dpo.py` share: flags, errors and exit codes."""

import contextlib
import logging
from collections.abc import Sequence

import jax
from absl import app, flags
from absl import logging as absl_logging
from ml_collections import config_flags

from launchers import interrupt
from leco_jax.configuration import build
from leco_jax.models.loading import CheckpointError, ModelNotAvailableError
from w2s_jax.training.checkpoints import EXIT_RESUME
from w2s_jax.training.job import run_job
from w2s_jax.training.job_config import TrainingConfig
from w2s_jax.training.loop import NonFiniteError

_CONFIG = config_flags.DEFINE_config_file("config", None, "What to train.", lock_config=True)
_WORKDIR = flags.DEFINE_string("workdir", None, "Where checkpoints, metrics and the report go.")
_DISTRIBUTED = flags.DEFINE_bool("distributed", False, "One of several processes (a pod).")

EXIT_WRONG = 1
EXIT_NOT_FINITE = 2


def require_flags() -> None:
    """Makes absl refuse to start without them."""
    flags.mark_flags_as_required(["config", "workdir"])


def main(argv: list[str], *, objectives: Sequence[str]) -> int:
    """Trains with one of `objectives`; returns the exit code."""
    if len(argv) > 1:
        raise app.UsageError(f"unexpected argument {argv[1]!r}")
    # Ours at INFO; the libraries below speak up only when something is wrong.
    absl_logging.set_verbosity(absl_logging.WARNING)
    for package in ("w2s_jax", "leco_jax"):
        logging.getLogger(package).setLevel(logging.INFO)
    config = _CONFIG.value
    if config.objective.name not in objectives:
        absl_logging.error(
            "objective %r is not one of this program's: %s",
            config.objective.name,
            ", ".join(objectives),
        )
        return EXIT_WRONG
    if _DISTRIBUTED.value:
        jax.distributed.initialize()
    # With several processes jax's own preemption service listens for SIGTERM.
    alone = jax.process_count() == 1
    with interrupt.requested() if alone else contextlib.nullcontext(lambda: False) as stop:
        try:
            result = run_job(build(TrainingConfig, config), str(_WORKDIR.value), stop=stop)
        except NonFiniteError as error:
            absl_logging.error("%s", error)
            return EXIT_NOT_FINITE
        except (ValueError, FileNotFoundError, CheckpointError, ModelNotAvailableError) as error:
            absl_logging.error("%s", error)
            return EXIT_WRONG
    if result.interrupted:
        saved = f"after step {result.steps}, saved" if result.state else "before the first step"
        print(f"Stopped {saved}: the same command goes on from here.")
        return EXIT_RESUME
    shown = ("loss", "eval/loss", "rewards/accuracies", "eval/rewards/accuracies")
    found = [f"{name} {result.metrics[name]:.4f}" for name in shown if name in result.metrics]
    print(f"Trained {result.steps} steps. {', '.join(found)}".strip())
    return 0
