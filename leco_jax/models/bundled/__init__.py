"""Models that come with the package, as Hugging Face directories."""

from importlib import resources
from pathlib import Path


def bundled_path(name: str) -> Path:
    """The directory of a bundled model ("arithmetic_1m")."""
    # The package is installed as plain files; a model is read by ranges, so it must be.
    return Path(str(resources.files(__package__) / name))
