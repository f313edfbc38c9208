"""LeCo, self-consistency and chain of thought with the bundled model, on arithmetic_chains.

Command:   make run
Hardware:  2 CPU cores
"""

import ml_collections

from leco_jax.evaluation.experiment_config import experiment_config


def get_config() -> ml_collections.ConfigDict:
    """The bundled model asked as it was trained; nothing is downloaded."""
    config = experiment_config()
    config.methods = ("cot", "leco", "self_consistency")
    config.prompt = "question"
    config.model.name = "arithmetic-1m"
    config.data.name = "arithmetic_chains"
    config.generation.max_new_tokens = 192
    config.engine.slots = 64
    return config
