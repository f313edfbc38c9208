"""LeCo beside chain of thought with SmolLM2-135M-Instruct.

Command:   make run CONFIG=configs/leco_smollm2.py
Hardware:  2 CPU cores, 3 GB of memory
Time:      3 min 7 s from a ready environment, the model in the cache, beside other work
Result:    chain of thought has 3 of 40 right, LeCo 5, at 158 and 388 sampled tokens a problem
"""

import ml_collections

from leco_jax.evaluation.experiment_config import experiment_config


def get_config() -> ml_collections.ConfigDict:
    """The defaults: 40 word problems of the package, zero-shot."""
    return experiment_config()
