"""Preference training in a CPU minute, from the model of sft_cpu_minute.

Command:   python -m launchers.sft --config=configs/sft_cpu_minute.py --workdir=runs/sft_minute
           python -m launchers.dpo --config=configs/dpo_cpu_minute.py --workdir=runs/dpo_minute \
               --config.data.source=PAIRS.jsonl
           with a line {"prompt": ..., "chosen": ..., "rejected": ...} for each pair
Hardware:  2 CPU cores, 1 GB of memory
Time:      20 s of processor time
Seen:      with 1,000 pairs of arithmetic_chains questions, the chain against the same chain without
           its "Step n: " labels: held-out loss 0.693 before, 0.0021 after 30 steps, 0.0014 after
           60; reward accuracy 1.0 and margins 8.3 and 8.8
"""

import ml_collections

from leco_jax.examples import bundled_path
from w2s_jax.training.job_config import training_config


def get_config() -> ml_collections.ConfigDict:
    """All weights of the tiny model; the reference's log-probabilities are stored."""
    config = training_config()
    config.model.name = None
    config.model.preset = "tiny"
    config.model.tokenizer = str(bundled_path("arithmetic-1m"))
    config.model.checkpoint = "runs/sft_minute"
    config.data.length = 192
    config.data.batch = 8
    config.held_out.rows = 16
    config.objective.name = "dpo"
    config.optimizer.learning_rate = 3e-4
    config.step.remat = "none"
    config.run.num_steps = 60
    config.run.eval_every = 30
    config.run.checkpoint_every = 30
    return config
