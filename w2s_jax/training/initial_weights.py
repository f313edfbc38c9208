"""What training starts from: a model, or what an earlier run made of one.

A run with adapters keeps its adapters alone, so its model is the one it began with and these added.
Models are told apart by the weights that they hold, not by where they lie.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
from flax import nnx
from jax.sharding import Mesh

from leco_jax.configuration import build
from leco_jax.models.architectures import preset
from leco_jax.models.llama import Llama
from leco_jax.models.loading import LoadedModel, load_model
from leco_jax.models.lora import LoraConfig
from leco_jax.storage.paths import as_path
from leco_jax.text.tokenizer import Tokenizer, load_tokenizer
from w2s_jax.training.checkpoints import abstract, load_weights, read_description
from w2s_jax.training.job_config import StartConfig, TrainingConfig
from w2s_jax.training.reference import weights_fingerprint
from w2s_jax.training.train_step import split_model


class Start(NamedTuple):
    """The model that training starts from.

    `base` tells the model before all training from others, `identity` these weights; both are the
    same on any mesh, in any dtype and wherever files lie.
    """

    model: Llama
    tokenizer: Tokenizer
    base: str
    identity: str


def load_start(config: TrainingConfig, mesh: Mesh) -> Start:
    """Loads or makes the weights of step 0, on the mesh; of the config its model and seed count.

    Raises:
      ValueError: a config that says something impossible, a checkpoint of another model, or one of
        adapters trained on what another run ended with (they must be converted first).
      FileNotFoundError: the model, the checkpoint, or a run that it went on from is not there.
    """
    start = _base(config, mesh)
    if not config.model.checkpoint:
        return start
    workdir = as_path(config.model.checkpoint)
    saved = _saved_config(workdir)
    if saved["lora"]["rank"] and saved["model"]["checkpoint"]:
        raise ValueError(
            f"the run in {workdir} trained adapters on what the run in "
            f"{saved['model']['checkpoint']} ended with. Make one model of both: python -m "
            f"launchers.convert --input={workdir} --output=MODEL; then start from it with "
            "config.model.name=MODEL and no config.model.checkpoint"
        )
    return _after(workdir, saved, start, mesh)


def load_run(workdir: str | Path, mesh: Mesh) -> Start:
    """Loads the model that a run ended with; errors as `load_start`."""
    saved = _saved_config(as_path(workdir))
    model = build(StartConfig, saved["model"], name="config.model")
    config = TrainingConfig(model=model, seed=saved["seed"])
    # Only adapters need the weights that they were trained on.
    start = load_start(config, mesh) if saved["lora"]["rank"] else _base(config, mesh)
    return _after(as_path(workdir), saved, start, mesh)


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
    if not (as_path(name) / "checkpoints").is_dir():
        return load_model(name, mesh=mesh, dtype=dtype)
    ended = load_run(name, mesh)
    if dtype is None:
        return LoadedModel(ended.model, ended.tokenizer)
    params = jax.tree.map(lambda x: x.astype(dtype), ended.model.params)
    config = ended.model.config.replace(param_dtype=dtype, dtype=dtype)
    return LoadedModel(Llama(config, params=params), ended.tokenizer)


def restore_run(workdir: str | Path, model: Llama, mesh: Mesh) -> str:
    """Gives a model the weights that a run ended with, in place; the run's adapters are merged.

    The model is the one that the run started from; only its shapes count if the run trained all
    weights. Returns the hash of what the run trained.
    """
    lora = _lora(_saved_config(as_path(workdir)))
    if lora.rank:
        model.add_adapters(lora, rngs=jax.random.key(0), mesh=mesh)
    _, trainable, _ = split_model(model)
    shapes = abstract(trainable)
    del trainable
    nnx.update(model, shapes)  # the memory is needed for what is loaded
    trained = load_weights(as_path(workdir) / "checkpoints", shapes)
    nnx.update(model, trained)
    model.merge_adapters()
    return weights_fingerprint(trained, dtype="bfloat16")


def _lora(saved: Mapping[str, Any]) -> LoraConfig:
    return build(LoraConfig, saved["lora"], name="config.lora")


def _base(config: TrainingConfig, mesh: Mesh) -> Start:
    section = config.model
    if bool(section.name) == bool(section.preset):
        raise ValueError("give either model.name, or model.preset for fresh weights")
    if section.name:
        loaded = load_model(
            section.name, mesh=mesh, dtype=section.dtype, param_dtype=section.param_dtype
        )
        name = weights_fingerprint(loaded.params, dtype="bfloat16")
        return Start(loaded.model, loaded.tokenizer, name, name)
    if not section.preset or not section.tokenizer:
        raise ValueError("model.preset needs model.tokenizer: a tokenizer file or directory")
    tokenizer = load_tokenizer(section.tokenizer)
    sizes = preset(section.preset, dtype=section.dtype, param_dtype=section.param_dtype)
    if tokenizer.vocab_size > sizes.vocab_size:
        sizes = sizes.replace(vocab_size=tokenizer.vocab_size)
    elif tokenizer.vocab_size < sizes.vocab_size:
        sizes = sizes.replace(valid_vocab=tokenizer.vocab_size)
    # What is drawn differs by rounding from mesh to mesh: its name stands for it.
    name = f"{section.preset} with {sizes.vocab_size} tokens"
    model = Llama(sizes, rngs=jax.random.key(config.seed), mesh=mesh)
    return Start(model, tokenizer, name, f"{name}, seed {config.seed}")


def _saved_config(workdir: Path) -> dict[str, Any]:
    return read_description(workdir / "checkpoints")["config"]


def _after(workdir: Path, saved: Mapping[str, Any], start: Start, mesh: Mesh) -> Start:
    """What the run of `workdir` ended with, if `start` is what it began with."""
    if saved["lora"]["rank"]:
        same = saved["start"]["identity"] == start.identity
    else:
        same = saved["start"]["base"] == start.base
    if not same:
        names = [f"model.{k}={v}" for k, v in saved["model"].items() if v and "dtype" not in k]
        raise ValueError(
            f"the run in {workdir} did not begin with the weights that this config names, but with "
            f"{', '.join(names)}, seed={saved['seed']}. Give the same model and, for adapters of "
            "fresh weights, the same seed; a run that it went on from must not have been trained "
            "further"
        )
    trained = restore_run(workdir, start.model, mesh)
    if not saved["lora"]["rank"]:
        return start._replace(identity=trained)
    # Of the parts: the sum's last digits differ from mesh to mesh and from dtype to dtype.
    identity = f"{start.identity} + {_lora(saved).scale} {trained}"
    digest = hashlib.blake2b(identity.encode(), digest_size=16).hexdigest()
    return start._replace(identity=digest)
