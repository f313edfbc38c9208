"""Fine-tuning in a CPU minute: a model of 90 thousand weights learns chains of arithmetic.

Command:   python -m launchers.sft --config=configs/sft_cpu_minute.py --workdir=runs/sft_minute
Hardware:  2 CPU cores, 1 GB of memory
Time:      45 s of processor time
Seen:      held-out loss 1.55 after 50 steps, 1.23 after 100, 1.20 after 150
"""

import ml_collections

from leco_jax.examples import bundled_path
from w2s_jax.training.job_config import training_config


def get_config() -> ml_collections.ConfigDict:
    """Fresh weights, packed rows."""
    config = training_config()
    config.model.update(name=None, preset="tiny", tokenizer=str(bundled_path("arithmetic-1m")))
    config.data.update(
        source="arithmetic_chains",
        limit=5000,
        prompt="Question: {question}\nAnswer:",
        completion=" {solution}",
        length=256,
        batch=16,
        packed=True,
    )
    config.held_out.rows = 64
    config.optimizer.update(learning_rate=3e-3, warmup_steps=20, weight_decay=0.1)
    config.step.remat = "none"
    config.run.update(num_steps=150, eval_every=50, checkpoint_every=50)
    return config
