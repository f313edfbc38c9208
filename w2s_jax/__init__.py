"""Training: fine-tuning, and weak-to-strong reasoning on top of it."""

import leco_jax.experiments_extra  # noqa: F401
from leco_jax import __version__ as __version__
