"""LeCo and the methods that it is compared with."""

import leco_jax.experiments_extra  # noqa: F401
