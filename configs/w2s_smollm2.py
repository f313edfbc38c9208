"""Weak-to-strong reasoning on GSM8K: arithmetic-1m teaches SmolLM2-135M with LoRA.

Command:   python -m launchers.w2s --config=configs/w2s_smollm2.py --workdir=runs/w2s_smollm2
Hardware:  2 CPU cores and 6 GB of memory for many hours, or one GPU
Time:      not run whole; --dry_run prints its bound in tokens and FLOPs

GSM8K needs the internet once, or --config.data.dir. Both models solve next to nothing of it, so the
run shows the machine, not the method.
"""

import ml_collections

from w2s_jax.pipeline.pipeline_config import w2s_config


def get_config() -> ml_collections.ConfigDict:
    """LoRA of rank 16 for the strong model, all weights of the weak one."""
    config = w2s_config()
    config.data.update(
        name="gsm8k", remove=r"<<.*?>>", gold_questions=1_000, questions=1_000, test_questions=200
    )

    config.weak.model = "arithmetic-1m"
    config.weak.sft.data.update(length=512, packed=True)
    config.weak.sft.optimizer.learning_rate = 5e-4
    config.weak.sft.step.remat = "none"
    config.weak.sft.run.epochs = 3

    config.strong.model = "smollm2-135m-instruct"
    strong = (config.strong.sft, *config.preference.values())
    for training in strong:
        training.lora.update(rank=16, alpha=32.0)
        training.data.length = 512
    config.strong.sft.data.packed = True
    config.strong.sft.optimizer.learning_rate = 2e-4
    config.strong.sft.run.epochs = 2
    config.preference.dpo.optimizer.learning_rate = 2e-5
    config.preference.orpo.optimizer.learning_rate = 3e-5

    config.generation.max_new_tokens = 256
    config.evaluation.samples = 0
    return config
