"""The engine: many chains at once, rolled back, forked and scored while they are written."""

import leco_jax.experiments_extra  # noqa: F401
