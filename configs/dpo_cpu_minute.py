"""Preference training in a CPU minute, from the model of sft_cpu_minute.

Command:   python -m launchers.sft --config=configs/sft_cpu_minute.py --workdir=runs/sft_minute
           python -m launchers.dpo --config=configs/dpo_cpu_minute.py \
               --workdir=runs/dpo_minute
Hardware:  2 CPU cores, 1 GB of memory
Time:      75 s of processor time, on a busy host
Seen:      worked chains of arithmetic_chains against bare answers: held-out loss 0.693 before,
           0.023 after 30 steps, 0.018 after 60; reward accuracy 1.0 and margins 3.9 and 4.1
"""

import ml_collections

from leco_jax.examples import bundled_path
from w2s_jax.training.job_config import training_config


def get_config() -> ml_collections.ConfigDict:
    """Worked chains are preferred to bare answers; the reference's log-probabilities are stored."""
    config = training_config()
    config.model.update(
        name=None,
        preset="tiny",
        tokenizer=str(bundled_path("arithmetic-1m")),
        checkpoint="runs/sft_minute",
    )
    config.data.update(
        source="arithmetic_chains",
        limit=1000,
        prompt="Question: {question}\nAnswer:",
        chosen=" {solution}",
        rejected=" The answer is {gold}.",
        length=192,
        batch=8,
    )
    config.held_out.rows = 16
    config.objective.name = "dpo"
    config.optimizer.learning_rate = 3e-4
    config.step.remat = "none"
    config.run.update(num_steps=60, eval_every=30, checkpoint_every=30)
    return config
