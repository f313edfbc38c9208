"""Pretrained weights: `load_model` takes a name, a Hugging Face directory or a GGUF file."""

from leco_jax.models.loading.assemble import CheckpointError as CheckpointError
from leco_jax.models.loading.fetch import MODELS as MODELS
from leco_jax.models.loading.fetch import ModelNotAvailableError as ModelNotAvailableError
from leco_jax.models.loading.load import LoadedModel as LoadedModel
from leco_jax.models.loading.load import load_config as load_config
from leco_jax.models.loading.load import load_model as load_model
