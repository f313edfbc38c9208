"""Weak-to-strong reasoning: from two models and a data set to a table, stage by stage.

    python -m launchers.w2s --config=configs/w2s_demo.py --workdir=runs/w2s
    python -m launchers.w2s --config=... --workdir=... --dry_run          # what it would do
    python -m launchers.w2s --config=... --workdir=... --until=pairs      # and what that needs

--dry_run --devices=4 plans for four devices. On a pod every host runs the same command; on other
hosts --coordinator, --num_processes and --process_id say who is who. All train on one mesh and
share the questions, and process 0 does everything else.

Every stage leaves an artifact in WORKDIR/seedN/STAGE, made once. A run that was stopped or killed
goes on where it was when the same command is given again, by any number of processes; a changed
config redoes only what depends on the change.

Exit codes: 0 done; 1 a flag, a config, a file or a selected set is wrong (the message says which);
2 loss or gradients are not finite; 75 interrupted, or another process died: run the same command
again.
"""

import os

import jax
from absl import flags

from launchers import processes, runtime, shared_work
from leco_jax.evaluation.summary import format_table
from leco_jax.storage.paths import as_path, cache_dir
from w2s_jax.pipeline.graph import Interrupted
from w2s_jax.pipeline.pipeline_config import PipelineConfig
from w2s_jax.pipeline.report import model_columns, model_rows
from w2s_jax.pipeline.run import Line, plan, run_pipeline, stores

_CONFIG = runtime.define_config("What to run.")
_WORKDIR = runtime.define_workdir("Where the artifacts and the report go.")
_STAGE = flags.DEFINE_string("stage", None, "Run this stage alone.")
_UNTIL = flags.DEFINE_string("until", None, "Run this stage and what it needs.")
_DEVICES = flags.DEFINE_integer(
    "devices", None, "With --dry_run: how many devices the run will have.", lower_bound=1
)
_DRY_RUN = flags.DEFINE_bool("dry_run", False, "Print the stages, their state and cost; run none.")

_PLAN_COLUMNS = (
    ("seed", "d"), ("stage", ""), ("state", ""), ("tokens", ",.0f"), ("TFLOP", ",.2f"),
    ("needs", ""),
)  # fmt: skip


def main() -> int:
    """Runs the pipeline and prints its table."""
    # Stages of one shape are compiled once, also after an interruption.
    if not os.environ.get("JAX_COMPILATION_CACHE_DIR"):
        jax.config.update("jax_compilation_cache_dir", str(cache_dir() / "programs"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.3)
    config, workdir = _CONFIG(PipelineConfig), as_path(_WORKDIR.value)
    chosen = {"stage": _STAGE.value, "until": _UNTIL.value}
    if _DRY_RUN.value:
        return _print_plan(plan(config, workdir, devices=_DEVICES.value, **chosen))
    if _DEVICES.value:
        raise ValueError("--devices belongs to --dry_run: a run takes those that are there")
    with processes.stop_requested() as stop:
        try:
            among = shared_work.find(config.generation.tensor)
            report = run_pipeline(config, workdir, stop=stop, processes=among, **chosen)
        except Interrupted:
            print("Interrupted: the same command goes on from here.")
            return runtime.RESUME
    if report is None:
        print(f"Artifacts so far: {workdir}; the table needs the other stages too.")
        return runtime.DONE
    if not among.lead:
        return runtime.DONE
    rows, notes = model_rows(stores(config, workdir))
    print(format_table(rows, model_columns(rows)))
    print("\n".join(["", *notes, f"Curves, selection and examples: {report}"]))
    return runtime.DONE


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
    return runtime.DONE


if __name__ == "__main__":
    runtime.run(processes.together(main))
