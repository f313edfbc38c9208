"""Problems with gold answers; imports no JAX."""

import leco_jax.experiments_extra  # noqa: F401
from leco_jax.datasets.problem import Problem as Problem
from leco_jax.datasets.registry import DATASETS as DATASETS
from leco_jax.datasets.registry import Dataset as Dataset
from leco_jax.datasets.registry import load_problems as load_problems
from leco_jax.datasets.registry import register_dataset as register_dataset
