"""LeCo and what it is compared with, on a data set.

    python -m launchers.leco --config=configs/leco_arithmetic.py --workdir=runs/leco

Any field of the config can be set on the command line: --config.data.limit=50. A run that was
interrupted goes on where it was when the same command is given again, by any number of processes.
On a pod every host runs the same command; on other hosts --coordinator, --num_processes and
--process_id say who is who. All share the problems.

Exit codes: 0 done; 1 a flag, a config or a file is wrong (the message says which); 3 done, but some
results failed and count as wrong (they are named under the table); 75 interrupted, or another
process died: run the same command again.
"""

from launchers import processes, runtime, shared_work
from leco_jax.evaluation.experiment import run_experiment
from leco_jax.evaluation.experiment_config import ExperimentConfig
from leco_jax.evaluation.summary import (
    SUMMARY_CAPTION,
    SUMMARY_COLUMNS,
    conclusions,
    format_table,
)
from leco_jax.storage.paths import as_path

_CONFIG = runtime.define_config("What to run.")
_WORKDIR = runtime.define_workdir("Where the results go.")
_NAMED = 20  # failures


def main() -> int:
    """Runs the experiment and prints its table."""
    workdir = as_path(_WORKDIR.value)
    config = _CONFIG(ExperimentConfig)
    with runtime.stop_requested() as stop:
        among = shared_work.find(config.mesh.tensor)
        run = run_experiment(config, workdir, stop=stop, processes=among)
    print(format_table(run.summary, SUMMARY_COLUMNS))
    print(SUMMARY_CAPTION)
    print("\n".join(["", *conclusions(run.summary)]))
    print(f"\nEvery chain with its steps, scores and cuts: {workdir / 'results.jsonl'}")
    if run.failures:
        more = len(run.failures) - _NAMED
        print(f"\n{len(run.failures)} results failed and count as wrong:")
        print("\n".join(run.failures[:_NAMED]) + (f"\n... and {more} more" if more > 0 else ""))
    if run.left:
        print(f"Interrupted, {run.left} results are missing: the same command goes on from here.")
        return runtime.RESUME
    return runtime.SOME_FAILED if run.failures else runtime.DONE


if __name__ == "__main__":
    runtime.run(processes.together(main))
