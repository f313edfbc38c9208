"""Preference optimisation on pairs: DPO, cDPO, robust, IPO, hinge, sigmoid_norm, SimPO, ORPO.

    python -m launchers.dpo --config=configs/dpo_cpu_minute.py --workdir=runs/dpo
    python -m launchers.dpo ... --config.objective.name=orpo

Any field of the config can be set on the command line. A run that was stopped goes on where it was
when the same command is given again. On a pod every host runs the same command with --distributed.

Exit codes: 0 done; 1 a config or a file is wrong; 2 loss or gradients are not finite (the message
names step and batch); 75 SIGTERM or Ctrl-C came and the state is saved, run the same
command again (a second Ctrl-C stops at once and saves nothing).
"""

from absl import app

from launchers import training
from w2s_jax.training.objectives import PREFERENCE


def main(argv: list[str]) -> int:
    """Trains."""
    return training.main(argv, objectives=PREFERENCE)


def run() -> None:
    """The console entry."""
    training.require_flags()
    app.run(main)


if __name__ == "__main__":
    run()
