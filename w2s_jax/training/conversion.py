"""Models from one format to another, training runs among them."""

from pathlib import Path

import jax
from jax.sharding import Mesh

from leco_jax.models.llama import Llama
from leco_jax.models.loading import LoadedModel, load_model
from leco_jax.models.loading.export import export_huggingface
from leco_jax.models.loading.orbax import save_orbax
from w2s_jax.training.initial_weights import load_run


def read_model(name: str, mesh: Mesh, *, dtype: str | None = None) -> LoadedModel:
    """The model of a name, file or directory, or the one that a training run ended with.

    Args:
      name: what `load_model` takes, or the workdir of a run: its newest checkpoint is read, and
        adapters are merged, those of the runs that it went on from too.
      mesh: where the weights go.
      dtype: of weights and activations; default: the input's.

    Raises:
      Exception: as `load_model` and `load_run`.
    """
    if not (Path(name) / "checkpoints").is_dir():
        return load_model(name, mesh=mesh, dtype=dtype)
    ended = load_run(name, mesh)
    if dtype is None:
        return LoadedModel(ended.model, ended.tokenizer)
    params = jax.tree.map(lambda x: x.astype(dtype), ended.model.params)
    config = ended.model.config.replace(param_dtype=dtype, dtype=dtype)
    return LoadedModel(Llama(config, params=params), ended.tokenizer)


def write_model(
    model: LoadedModel, directory: str | Path, *, form: str, shard_bytes: int = 5_000_000_000
) -> None:
    """Writes a model; every process must call this.

    Args:
      model: what to write.
      directory: where; must not hold a model.
      form: "huggingface" or "orbax".
      shard_bytes: largest safetensors file.

    Raises:
      Exception: as `export_huggingface` and `save_orbax`.
    """
    if form == "orbax":
        save_orbax(directory, model.model, model.tokenizer)
    elif form == "huggingface":
        export_huggingface(directory, model.model, model.tokenizer, shard_bytes=shard_bytes)
    else:
        raise ValueError(f"format {form!r} is neither 'huggingface' nor 'orbax'")
