"""LeCo and what it is compared with, on a data set.

    python -m launchers.leco --config=configs/leco_arithmetic.py --workdir=runs/leco

Any field of the config can be set on the command line: --config.data.limit=50. A run that was
interrupted goes on where it was when the same command is given again.

Exit codes: 0 done; 1 a config or a file is wrong (the message says which); 2 done, but some
problems failed and count as wrong (they are named under the table); 75 interrupted, run the same
command again.
"""

from absl import app, flags, logging
from ml_collections import config_flags

from launchers import interrupt
from leco_jax.decoding.memory import OutOfMemoryError
from leco_jax.evaluation.experiment import run_experiment
from leco_jax.evaluation.summary import SUMMARY_CAPTION, SUMMARY_COLUMNS, format_table
from leco_jax.models.loading import CheckpointError, ModelNotAvailableError
from leco_jax.storage.paths import local_path

_CONFIG = config_flags.DEFINE_config_file("config", None, "What to run.", lock_config=True)
_WORKDIR = flags.DEFINE_string("workdir", None, "Where the results go.", required=True)

_SHOWN = 20  # failures that are named


def main(argv: list[str]) -> int:
    """Runs the experiment and prints its table."""
    if len(argv) > 1:
        raise app.UsageError(f"unexpected argument {argv[1]!r}")
    logging.set_verbosity(logging.INFO)
    with interrupt.requested() as stop:
        try:
            workdir = local_path(_WORKDIR.value)
            run = run_experiment(_CONFIG.value, workdir, stop=stop)
        except (
            ValueError, FileNotFoundError, CheckpointError, ModelNotAvailableError, OutOfMemoryError
        ) as error:  # fmt: skip
            logging.error("%s", error)
            return 1
        print(format_table(run.summary, SUMMARY_COLUMNS))
        print(SUMMARY_CAPTION)
        if run.failures:
            print(f"\n{len(run.failures)} results failed and count as wrong:")
            print("\n".join(run.failures[:_SHOWN]))
            if len(run.failures) > _SHOWN:
                print(f"... and {len(run.failures) - _SHOWN} more")
        print(f"\nEvery chain with its steps, scores and cuts: {workdir / 'results.jsonl'}")
        if run.left:
            print(
                f"Interrupted, {run.left} results are missing: the same command goes on from here."
            )
            return 75
    return 2 if run.failures else 0


if __name__ == "__main__":
    flags.mark_flag_as_required("config")
    app.run(main)
