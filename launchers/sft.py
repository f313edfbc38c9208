"""Supervised fine-tuning on prompts and completions.

    python -m launchers.sft --config=configs/sft_cpu_minute.py --workdir=runs/sft

Any field of the config can be set on the command line: --config.run.num_steps=50. A run that was
stopped goes on where it was when the same command is given again. On a pod every host runs the same
command; on other hosts --coordinator, --num_processes and --process_id say who is who.

Exit codes: 0 done; 1 a flag, a config or a file is wrong; 2 loss or gradients are not finite (the
message names train step and batch); 75 SIGTERM or Ctrl-C came and the state is saved, or another
process died: run the same command again (a second Ctrl-C stops at once and saves nothing).
"""

from collections.abc import Sequence

from launchers import processes, runtime
from w2s_jax.training.job import run_job
from w2s_jax.training.job_config import TrainingConfig

_CONFIG = runtime.define_config("What to train.")
_WORKDIR = runtime.define_workdir("Where checkpoints, metrics and the report go.")


def main(objectives: Sequence[str] = ("sft",)) -> int:
    """Trains with one of `objectives`."""
    config = _CONFIG(TrainingConfig)
    if config.objective.name not in objectives:
        raise ValueError(
            f"config.objective.name={config.objective.name!r} is not one of this program's: "
            + ", ".join(objectives)
        )
    with processes.stop_requested() as stop:
        result = run_job(config, _WORKDIR.value, stop=stop)
    if result.interrupted:
        saved = f"after step {result.steps}, saved" if result.state else "before the first step"
        print(f"Stopped {saved}: the same command goes on from here.")
        return runtime.RESUME
    names = ("loss", "eval/loss", "rewards/accuracies", "eval/rewards/accuracies")
    shown = [f"{name} {result.metrics[name]:.4f}" for name in names if name in result.metrics]
    print(f"Trained {result.steps} steps. {', '.join(shown)}".strip())
    return runtime.DONE


if __name__ == "__main__":
    runtime.run(processes.together(main))
