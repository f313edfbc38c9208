"""Models that come with the package, as Hugging Face directories."""

from importlib import resources
from pathlib import Path

# Name -> directory beside this file.
BUNDLED = {
    "arithmetic-1m": "arithmetic_1m",
    # Bases of the weak-to-strong demonstration; see configs/sft_arithmetic_bases.py.
    "arithmetic-base-1m": "arithmetic_base_1m",
    "arithmetic-base-500k": "arithmetic_base_500k",
}


def bundled_path(name: str) -> Path:
    """The directory of a bundled model; `name` is a key of `BUNDLED`."""
    # Weights are read by ranges, so the package must lie in plain files, as pip installs it.
    return Path(str(resources.files(__package__) / BUNDLED[name]))
