"""Supervised fine-tuning on prompts and completions.

    python -m launchers.sft --config=configs/sft_cpu_minute.py --workdir=runs/sft

Any field of the config can be set on the command line: --config.run.num_steps=50. A run that was
stopped goes on where it was when the same command is given again. On a pod every host runs the same
command with --distributed.

Exit codes: 0 done; 1 a flag, a config or a file is wrong; 2 loss or gradients are not finite (the
message names train step and batch); 75 SIGTERM or Ctrl-C came and the state is saved, run the same
command again (a second Ctrl-C stops at once and saves nothing).
"""

from launchers import training


def main() -> None:
    """Trains."""
    training.run(objectives=("sft",))


if __name__ == "__main__":
    main()
