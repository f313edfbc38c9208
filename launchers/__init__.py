"""Programs, one per job: `python -m launchers.NAME`, from the root of a clone."""

import leco_jax.experiments_extra  # noqa: F401
