"""Preference optimisation on pairs: DPO, cDPO, robust, IPO, hinge, sigmoid_norm, SimPO, ORPO.

    python -m launchers.dpo --config=configs/dpo_cpu_minute.py --workdir=runs/dpo
    python -m launchers.dpo ... --config.objective.name=orpo

Overrides, resuming, pods and exit codes are those of `launchers/sft.py`.
"""

from launchers import processes, runtime, sft
from w2s_jax.training.objectives import PREFERENCE


def main() -> int:
    """Trains."""
    return sft.main(PREFERENCE)


if __name__ == "__main__":
    runtime.run(processes.together(main))
