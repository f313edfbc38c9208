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
    config.data.name = "arithmetic_chains"
    config.data.split = "unseen"
    config.data.gold_questions = 600
    config.data.questions = 1_000
    config.data.test_questions = 400

    config.weak.model = "arithmetic-base-500k"
    config.strong.model = "arithmetic-base-1m"
    small = (config.weak.sft, config.strong.sft, *config.preference.values())
    for training in small:
        training.data.length = 256
        training.data.batch = 16
        training.data.packed = True
        training.optimizer.learning_rate = 5e-4
        training.optimizer.warmup_steps = 10
        # So few activations that recomputing them would cost more than keeping them.
        training.step.remat = "none"
        training.step.stats = ()
        training.run.epochs = 2
        training.run.keep_last = 1
    for training in config.preference.values():
        training.data.packed = False
        training.optimizer.learning_rate = 3e-5
        training.run.epochs = 1

    config.generation.max_new_tokens = 160
    config.generation.slots = 64
    config.evaluation.samples = 5
    return config
