"""Weak-to-strong reasoning with two small models of our own on arithmetic_chains.

Command:   python -m launchers.w2s --config=configs/w2s_demo.py --workdir=runs/w2s_demo
Hardware:  2 CPU cores, 2 GB of memory
Time:      7 min 57 s for one seed with both cores to itself
Result:    docs/results.md
"""

import ml_collections

from w2s_jax.pipeline.pipeline_config import w2s_config


def get_config() -> ml_collections.ConfigDict:
    """All weights are trained, in float32."""
    config = w2s_config()
    config.data.update(
        name="arithmetic_chains",
        split="unseen",
        gold_questions=600,
        questions=1_000,
        test_questions=400,
    )

    config.weak.model = "arithmetic-base-500k"
    config.strong.model = "arithmetic-base-1m"
    small = (config.weak.sft, config.strong.sft, *config.preference.values())
    for training in small:
        training.data.update(length=256, batch=16, packed=True)
        training.optimizer.update(learning_rate=5e-4, warmup_steps=10)
        # So few activations that recomputing them would cost more than keeping them.
        training.step.update(remat="none", stats=())
        training.run.update(epochs=2, keep_last=1)
    for training in config.preference.values():
        training.data.packed = False
        training.optimizer.learning_rate = 3e-5
        training.run.epochs = 1

    config.generation.update(max_new_tokens=160, slots=64)
    config.evaluation.samples = 5
    return config
