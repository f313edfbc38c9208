"""What training starts from: a model, or what earlier runs made of it, one after the other.

A run with adapters keeps its adapters alone, so its model is that of the run before it with these
added. Runs are told apart by the weights that they hold, not by where they lie.
"""

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import ml_collections
from jax.sharding import Mesh

from leco_jax.models.architectures import preset
from leco_jax.models.config import ModelConfig
from leco_jax.models.loading import load_model
from leco_jax.models.lora import LoraConfig, init_adapters, merge
from leco_jax.models.weights import init_params
from leco_jax.text.tokenizer import Tokenizer, load_tokenizer
from w2s_jax.training.checkpoints import abstract, load_weights, read_description
from w2s_jax.training.reference import weights_fingerprint


class Start(NamedTuple):
    """The model that training starts from.

    `base` tells the model before all training from others, `identity` these weights; both are the
    same on any mesh, in any dtype and wherever files lie.
    """

    config: ModelConfig
    params: dict
    tokenizer: Tokenizer
    base: str
    identity: str


def load_start(config: Any, mesh: Mesh) -> Start:
    """Loads or makes the weights of step 0, on the mesh.

    Args:
      config: see `job_config.training_config`; its model, and the seed of fresh weights, count.
      mesh: where to put them.

    Raises:
      ValueError: a config that says something impossible, or a checkpoint of another model.
      FileNotFoundError: the model, the checkpoint, or a run that it went on from is not there.
    """
    base = _base(config, mesh)
    return _after(Path(config.model.checkpoint), base, mesh) if config.model.checkpoint else base


def load_run(workdir: str | Path, mesh: Mesh) -> Start:
    """Loads the model that a run ended with; errors as `load_start`."""
    described = read_description(Path(workdir) / "checkpoints")["config"]
    return _after(Path(workdir), _base(ml_collections.ConfigDict(described), mesh), mesh)


def trained_weights(workdir: str | Path, model: ModelConfig, params: dict, mesh: Mesh) -> dict:
    """Loads the weights that one run ended with; its adapters are merged into `params`.

    Args:
      workdir: the run's.
      model: its model.
      params: the weights that it started from; only their shapes count if it trained all of them.
      mesh: where to put them.
    """
    described = read_description(Path(workdir) / "checkpoints")["config"]
    trained, lora = _trained(Path(workdir), described, model, params, mesh)
    return _merged(params, trained, lora) if lora else trained


def description(start: Start, checkpoint: str, workdir: Path) -> dict[str, str]:
    """Says what a run started from, for its own checkpoints.

    Args:
      start: its start.
      checkpoint: the earlier run's workdir, if there is one.
      workdir: the run's own.
    """
    described = {"base": start.base, "identity": start.identity}
    if checkpoint:
        # From the directory that both share: they are found again when it moves.
        here, there = workdir.absolute(), Path(checkpoint).absolute()
        described["checkpoint"] = str(there.relative_to(os.path.commonpath([here, there])))
    return described


def lora_config(described: Any) -> LoraConfig:
    """The adapters of a config's part "lora"."""
    return LoraConfig(
        rank=described["rank"],
        alpha=described["alpha"],
        dropout=described["dropout"],
        targets=tuple(described["targets"]),
        layers=tuple(described["layers"] or ()) or None,
    )


def _base(config: Any, mesh: Mesh) -> Start:
    wanted = config.model
    if bool(wanted.name) == bool(wanted.preset):
        raise ValueError("give either model.name, or model.preset for fresh weights")
    if wanted.name:
        loaded = load_model(
            wanted.name, mesh=mesh, dtype=wanted.dtype, param_dtype=wanted.param_dtype
        )
        name = weights_fingerprint(loaded.params, dtype="bfloat16")
        return Start(loaded.config, loaded.params, loaded.tokenizer, name, name)
    if not wanted.tokenizer:
        raise ValueError("model.preset needs model.tokenizer: a tokenizer file or directory")
    tokenizer = load_tokenizer(wanted.tokenizer)
    model = preset(wanted.preset, dtype=wanted.dtype, param_dtype=wanted.param_dtype)
    if tokenizer.vocab_size > model.vocab_size:
        model = model.replace(vocab_size=tokenizer.vocab_size)
    elif tokenizer.vocab_size < model.vocab_size:
        model = model.replace(valid_vocab=tokenizer.vocab_size)
    # What is drawn differs by rounding from mesh to mesh: its name stands for it.
    name = f"{wanted.preset} with {model.vocab_size} tokens"
    params = init_params(model, jax.random.key(config.seed), mesh)
    return Start(model, params, tokenizer, name, f"{name}, seed {config.seed}")


def _after(workdir: Path, base: Start, mesh: Mesh) -> Start:
    """What the run of `workdir` ended with, if `base` is what the first of its line began with."""
    described = read_description(workdir / "checkpoints")["config"]
    recorded = described.get("start", {})  # checkpoints of before it was written have none
    begun, same = base, recorded.get("base", base.base) == base.base
    if described["lora"]["rank"]:
        before = described["model"]["checkpoint"]
        if before:
            begun = _after(_find(before, workdir, recorded), base, mesh)
        same = recorded.get("identity", begun.identity) == begun.identity
    if not same:
        raise ValueError(
            f"the run in {workdir} did not begin with the weights that this config names, but with "
            f"{_shown(described)}. Give the same model and, for adapters of fresh weights, the "
            "same seed; a run that it went on from must not have been trained further"
        )
    trained, lora = _trained(workdir, described, begun.config, begun.params, mesh)
    identity = weights_fingerprint(trained, dtype="bfloat16")
    if lora is None:
        return begun._replace(params=trained, identity=identity)
    identity = f"{begun.identity} + {lora.scale} {identity}"
    return begun._replace(
        params=_merged(begun.params, trained, lora),
        identity=hashlib.blake2b(identity.encode(), digest_size=16).hexdigest(),
    )


def _find(before: str, workdir: Path, recorded: Mapping[str, str]) -> Path:
    """Where the run that another went on from lies now."""
    tail = recorded.get("checkpoint", before)
    for above in workdir.absolute().parents:
        if (above / tail / "checkpoints").is_dir():
            return above / tail
    raise FileNotFoundError(
        f"the run in {workdir} trained adapters on what the run in {before} ended with, and that "
        "run is not there: put it back, or beside this one where it was"
    )


def _shown(described: Mapping[str, Any]) -> str:
    names = ("name", "preset", "checkpoint")
    found = [f"model.{k}={described['model'][k]}" for k in names if described["model"][k]]
    return ", ".join([*found, f"seed={described['seed']}"])


def _trained(
    workdir: Path, described: Mapping[str, Any], model: ModelConfig, params: dict, mesh: Mesh
) -> tuple[Any, LoraConfig | None]:
    """A run's arrays, and its adapters' config if that is what they are."""
    directory = workdir / "checkpoints"
    if not described["lora"]["rank"]:
        return load_weights(directory, abstract(params)), None
    lora = lora_config(described["lora"])
    adapters = init_adapters(model, lora, jax.random.key(0), mesh)
    return load_weights(directory, abstract(adapters)), lora


def _merged(params: dict, adapters: Any, lora: LoraConfig) -> dict:
    return jax.jit(
        lambda params, adapters: merge(params, adapters, lora),
        out_shardings=jax.tree.map(lambda x: x.sharding, params),
    )(params, adapters)
