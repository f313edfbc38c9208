"""Weights of the worked example, problems of `leco_jax.datasets.arithmetic_chains`.

Each model is a Hugging Face directory: `arithmetic/reasoner_1m` answers in step chains
(configs/sft_arithmetic.py), the two bases are what the weak-to-strong demonstration starts from
(configs/sft_arithmetic_bases.py).
"""

from importlib import resources
from pathlib import Path

# The model's name -> its directory beside this file.
BUNDLED = {
    "arithmetic-1m": "arithmetic/reasoner_1m",
    "arithmetic-base-1m": "arithmetic/base_1m",
    "arithmetic-base-500k": "arithmetic/base_500k",
}


def bundled_path(name: str) -> Path:
    """The directory of a bundled model, in a clone as after `pip install`; `name` in `BUNDLED`."""
    # Weights are read by ranges, so the package must lie in plain files, as pip installs it.
    return Path(str(resources.files(__package__) / BUNDLED[name]))
