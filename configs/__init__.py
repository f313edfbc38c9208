"""`get_config()` files of the launchers."""

import leco_jax.experiments_extra  # noqa: F401
