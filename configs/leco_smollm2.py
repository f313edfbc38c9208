"""LeCo beside chain of thought with SmolLM2-135M-Instruct.

Command:   make run CONFIG=configs/leco_smollm2.py
Hardware:  2 CPU cores, 3 GB of memory
Time:      see README
"""

import ml_collections

from leco_jax.evaluation.experiment_config import experiment_config


def get_config() -> ml_collections.ConfigDict:
    """The defaults: 40 word problems of the package, zero-shot."""
    return experiment_config()
