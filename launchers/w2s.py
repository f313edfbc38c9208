"""Weak-to-strong reasoning: from two models and a data set to a table, stage by stage.

    python -m launchers.w2s --config=configs/w2s_demo.py --workdir=runs/w2s
    python -m launchers.w2s --config=... --workdir=... --dry_run          # what it would do
    python -m launchers.w2s --config=... --workdir=... --until=pairs      # and what that needs

One process drives it, with all devices of one host; --dry_run --devices=4 plans for four.
Every stage leaves an artifact in WORKDIR/seedN/STAGE, made once. A run that was stopped or killed
goes on where it was when the same command is given again; a changed config redoes only what depends
on the change.

Exit codes: 0 done; 1 a config, a file or a selected set is wrong (the message says which); 2 loss
or gradients are not finite; 75 interrupted, run the same command again.
"""

import logging
import os

import jax
from absl import app, flags
from absl import logging as absl_logging
from ml_collections import config_flags

from launchers import interrupt
from leco_jax.decoding.memory import OutOfMemoryError
from leco_jax.evaluation.summary import format_table
from leco_jax.models.loading import CheckpointError, ModelNotAvailableError
from leco_jax.storage.paths import cache_dir, local_path
from w2s_jax.pipeline.graph import Interrupted
from w2s_jax.pipeline.report import model_columns, model_rows
from w2s_jax.pipeline.run import Line, plan, run_pipeline, stores
from w2s_jax.training.checkpoints import EXIT_RESUME
from w2s_jax.training.loop import NonFiniteError

_CONFIG = config_flags.DEFINE_config_file("config", None, "What to run.", lock_config=True)
_WORKDIR = flags.DEFINE_string("workdir", None, "Where the artifacts and the report go.")
_STAGE = flags.DEFINE_string("stage", None, "Run this stage alone.")
_UNTIL = flags.DEFINE_string("until", None, "Run this stage and what it needs.")
_DEVICES = flags.DEFINE_integer(
    "devices", None, "With --dry_run: how many devices the run will have.", lower_bound=1
)
_DRY_RUN = flags.DEFINE_bool("dry_run", False, "Print the stages, their state and cost; run none.")

EXIT_WRONG, EXIT_NOT_FINITE = 1, 2
_PLAN_COLUMNS = (
    ("seed", "d"), ("stage", ""), ("state", ""), ("tokens", ",.0f"), ("TFLOP", ",.2f"),
    ("needs", ""),
)  # fmt: skip


def main(argv: list[str]) -> int:
    """Runs the pipeline and prints its table."""
    if len(argv) > 1:
        raise app.UsageError(f"unexpected argument {argv[1]!r}")
    absl_logging.set_verbosity(absl_logging.WARNING)
    logging.getLogger("w2s_jax.pipeline").setLevel(logging.INFO)
    # Stages of one shape are compiled once, also after an interruption.
    if not os.environ.get("JAX_COMPILATION_CACHE_DIR"):
        jax.config.update("jax_compilation_cache_dir", str(cache_dir() / "programs"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.3)
    config = _CONFIG.value
    chosen = {"stage": _STAGE.value, "until": _UNTIL.value}
    with interrupt.requested() as stop:
        try:
            workdir = local_path(str(_WORKDIR.value))
            if _DRY_RUN.value:
                return _print_plan(plan(config, workdir, devices=_DEVICES.value, **chosen))
            if _DEVICES.value:
                raise ValueError("--devices belongs to --dry_run: a run takes those that are there")
            report = run_pipeline(config, workdir, stop=stop, **chosen)
        except Interrupted:
            print("Interrupted: the same command goes on from here.")
            return EXIT_RESUME
        except NonFiniteError as error:
            absl_logging.error("%s", error)
            return EXIT_NOT_FINITE
        except (
            ValueError, FileNotFoundError, CheckpointError, ModelNotAvailableError, OutOfMemoryError
        ) as error:  # fmt: skip
            absl_logging.error("%s", error)
            return EXIT_WRONG
    if report is None:
        print(f"Artifacts so far: {workdir}; the table needs the other stages too.")
        return 0
    found = {seed: store for seed, (_, store) in stores(config, workdir).items()}
    rows, notes = model_rows(found)
    print(format_table(rows, model_columns(rows)))
    print("\n".join(["", *notes, f"Curves, selection and examples: {report}"]))
    return 0


def _print_plan(lines: list[Line]) -> int:
    rows = [
        {
            "seed": line.seed, "stage": line.stage, "state": line.state,
            "tokens": line.cost.tokens, "TFLOP": line.cost.flops / 1e12,
            "needs": ", ".join(line.needs),
        }
        for line in lines
    ]  # fmt: skip
    print(format_table(rows, _PLAN_COLUMNS))
    left = [line.cost for line in lines if line.state != "done"]
    total = sum(left, start=type(lines[0].cost)())
    print(
        f"\n{len(left)} of {len(lines)} stages to do, at most {total.tokens:,.0f} tokens and "
        f"{total.flops / 1e12:,.2f} TFLOP: answers and training rows are taken to be as long as "
        "allowed, and every question to be kept by every selection."
    )
    return 0


if __name__ == "__main__":
    flags.mark_flags_as_required(["config", "workdir"])
    app.run(main)
