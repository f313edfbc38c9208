"""SmolLM2-135M-Instruct learns GSM8K's solutions; held-out loss on the test split.

Command:   python -m launchers.sft --config=configs/sft_smollm2_gsm8k.py --workdir=runs/sft_gsm8k
           (GSM8K's files elsewhere: --config.data.dir=DIR)
Hardware:  2 CPU cores, 4.5 GB of memory
Time:      13 min of processor time, so 7 to 8 min with both cores to itself
Seen:      held-out loss 1.491 before, 1.094 after 50 steps, 1.073 after 100; token accuracy
           0.705 and 0.712
"""

import ml_collections

from w2s_jax.training.job_config import training_config


def get_config() -> ml_collections.ConfigDict:
    """All weights, float32, 100 steps."""
    config = training_config()
    config.data.update(
        source="gsm8k",
        prompt="Question: {question}\nAnswer:",
        completion=" {solution}",
        length=256,
        batch=4,
    )
    config.data.remove = "<<.*?>>"  # the calculator marks
    config.held_out.update(source="gsm8k", limit=32)
    config.optimizer.update(learning_rate=2e-5, warmup_steps=10)
    config.run.update(num_steps=100, eval_every=50, checkpoint_every=50)
    return config
