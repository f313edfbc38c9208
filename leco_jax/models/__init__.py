"""The LLaMA family: one weight table for initialisation, sharding, LoRA, loading, saving."""

import leco_jax.experiments_extra  # noqa: F401
