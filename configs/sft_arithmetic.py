"""Trains the bundled model arithmetic-1m from scratch on arithmetic_chains.

    python -m launchers.sft --config=configs/sft_arithmetic.py --workdir=runs/sft_arithmetic
    python -m launchers.convert --input=runs/sft_arithmetic --output=runs/arithmetic_1m

Hardware: 2 CPU cores.
"""

import ml_collections

from leco_jax.models.bundled import bundled_path
from w2s_jax.job_config import training_config


def get_config() -> ml_collections.ConfigDict:
    """The config of the run."""
    config = training_config()
    config.model.name = ""
    config.model.preset = "arithmetic_1m"
    # Made by: python -m launchers.vocabulary --dataset=arithmetic_chains --size=640 --output=...
    config.model.tokenizer = str(bundled_path("arithmetic-1m"))

    config.data.source = "arithmetic_chains"
    config.data.prompt = "Question: {question}\nAnswer:\n"
    config.data.completion = "{solution}"
    config.data.length = 256
    config.data.batch = 16
    config.data.packed = True
    config.held_out.source = "arithmetic_chains"
    config.held_out.split = "validation"

    config.optimizer.learning_rate = 2e-3
    config.optimizer.warmup_steps = 60
    config.optimizer.b2 = 0.95
    config.optimizer.weight_decay = 0.1

    # So few activations that recomputing them would cost more than keeping them.
    config.step.remat = "none"
    config.step.stats = ()
    config.run.num_steps = 2000
    config.run.log_every = 50
    config.run.eval_every = 400
    config.run.checkpoint_every = 200
    return config
