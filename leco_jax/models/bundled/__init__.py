"""Models that come with the package, as Hugging Face directories."""

from importlib import resources
from pathlib import Path

# Name -> directory beside this file.
BUNDLED = {"arithmetic-1m": "arithmetic_1m"}


def bundled_path(name: str) -> Path:
    """The directory of a bundled model; `name` is a key of `BUNDLED`."""
    # Weights are read by ranges, so the package must lie in plain files, as pip installs it.
    return Path(str(resources.files(__package__) / BUNDLED[name]))
