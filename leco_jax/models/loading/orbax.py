"""Models in Orbax's format: config.json and tokenizer files, and the parameters in `params`.

Each process writes and reads its own shards, whatever the mesh was when they were written.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from orbax.checkpoint import v1 as ocp

from leco_jax.models.config import ModelConfig
from leco_jax.models.llama import Llama
from leco_jax.models.loading.assemble import CheckpointError
from leco_jax.models.loading.export import stacked_params
from leco_jax.models.loading.huggingface_config import config_json
from leco_jax.models.sharding import RULES, Rules
from leco_jax.models.weights import Params, abstract_params
from leco_jax.storage.files import write_json
from leco_jax.storage.paths import as_path
from leco_jax.text.tokenizer import Tokenizer

PARAMS = "params"


def save_orbax(directory: str | Path, model: Llama, tokenizer: Tokenizer) -> None:
    """Writes a model that `load_model` reads, its adapters merged; every process must call this.

    Raises:
      FileExistsError: `directory` holds a model already.
      ValueError: the model has adapters.
    """
    directory = as_path(directory).absolute()
    if (directory / PARAMS).exists() or (directory / "config.json").exists():
        raise FileExistsError(f"{directory}: holds a model already; name a new place")
    directory.mkdir(parents=True, exist_ok=True)
    ocp.save(os.fspath(directory / PARAMS), stacked_params(model))
    tokenizer.save(directory)
    write_json(directory / "generation_config.json", tokenizer.generation_config())
    write_json(directory / "config.json", config_json(model.config, tokenizer=tokenizer))


def load_orbax(
    directory: str | Path, config: ModelConfig, *, mesh: Mesh | None = None, rules: Rules = RULES
) -> Params:
    """The parameters below a directory that `save_orbax` wrote, cast to `config.param_dtype`.

    Raises:
      CheckpointError: the arrays are not those of the model, or hold NaN or infinity.
    """
    path = as_path(directory).absolute() / PARAMS
    wanted = abstract_params(config, mesh, rules)
    _check(path, wanted)
    if mesh is None:
        device = jnp.zeros(()).sharding  # the default device
        wanted = jax.tree.map(
            lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=device), wanted
        )
    params = ocp.load(os.fspath(path), wanted)
    finite = jax.jit(lambda tree: jax.tree.map(lambda x: jnp.isfinite(x).all(), tree))(params)
    for key, flag in jax.tree_util.tree_leaves_with_path(finite):
        if not flag:
            name = jax.tree_util.keystr(key, simple=True, separator="/")
            raise CheckpointError(f"{path}: {name} holds NaN or infinity: the model is damaged")
    return params


def _check(path: Path, wanted: Params) -> None:
    """Refuses other arrays by name; Orbax itself would name none, and only some at once."""

    def shapes(tree: Any) -> dict[str, tuple[int, ...]]:
        leaves = jax.tree_util.tree_leaves_with_path(tree)
        return {jax.tree_util.keystr(p, simple=True, separator="/"): x.shape for p, x in leaves}

    stored, wants = shapes(ocp.metadata(os.fspath(path)).metadata), shapes(wanted)
    wrong = [
        f"    {name}: has {stored.get(name, 'none')}, wants {wants.get(name, 'none')}"
        for name in sorted({*stored, *wants})
        if stored.get(name) != wants.get(name)
    ]
    if wrong:
        raise CheckpointError(
            f"{path}: not the parameters of the model that config.json describes\n"
            + "\n".join(wrong)
        )
