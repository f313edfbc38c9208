"""DPO of SmolLM2-135M-Instruct on pairs of GSM8K solutions.

Command:   python -m launchers.dpo --config=configs/dpo_smollm2_gsm8k.py --workdir=runs/dpo_gsm8k \
               --config.data.source=PAIRS.jsonl
           with a line {"prompt": ..., "chosen": ..., "rejected": ...} for each pair
           (from an SFT run: --config.model.checkpoint=runs/sft_gsm8k)
Hardware:  2 CPU cores, 7 GB of memory (at its peak, while a checkpoint is copied)
Time:      about 8 s a step; 31 min of all beside other work that took most of both cores
Seen:      with 400 pairs, GSM8K's own solution against another question's, no SFT before:
           held-out loss 0.693, 0.340 and 0.266 before, after 20 and after 40 steps; reward
           accuracy 0.94 and 1.00, margins 0.97 and 1.32
"""

import ml_collections

from w2s_jax.training.job_config import training_config


def get_config() -> ml_collections.ConfigDict:
    """All weights, float32, 4 pairs x 256 tokens; the reference's log-probabilities are stored."""
    config = training_config()
    config.data.update(length=256, batch=4)
    config.held_out.rows = 16
    config.objective.name = "dpo"
    config.optimizer.update(learning_rate=5e-6, schedule="linear")
    config.run.update(num_steps=40, eval_every=20, eval_batches=4, checkpoint_every=20)
    return config
