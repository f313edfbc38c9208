"""Runs of methods over a data set: results, accuracy, cost."""

import leco_jax.experiments_extra  # noqa: F401
