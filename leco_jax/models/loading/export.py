"""Writes a model as a Hugging Face directory: config, safetensors shards, tokenizer."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from safetensors.numpy import save_file

from leco_jax.models.config import ModelConfig
from leco_jax.models.llama import Llama
from leco_jax.models.loading.assemble import CheckpointError, stored_shape
from leco_jax.models.loading.huggingface_config import config_json
from leco_jax.models.weights import Params, stack_layers, weight_table
from leco_jax.storage.files import replacing, write_json
from leco_jax.storage.paths import as_path
from leco_jax.text.tokenizer import Tokenizer

_DTYPES = ("float32", "bfloat16", "float16")


def export_huggingface(
    directory: str | Path,
    model: Llama,
    tokenizer: Tokenizer | None = None,
    *,
    dtype: str | None = None,
    shard_bytes: int = 5_000_000_000,
) -> None:
    """Writes what `load_model` and transformers' `from_pretrained` read.

    Weights may be sharded over devices and hosts: every process must call this, and process 0
    gathers and writes one file at a time.

    Args:
      directory: made if need be; must not hold another model.
      model: the model, stacked or unstacked, its adapters merged.
      tokenizer: writes the tokenizer's files and generation_config.json too.
      dtype: of the weights: "float32", "bfloat16" or "float16"; default: `config.param_dtype`.
      shard_bytes: largest file, in bytes; a larger tensor has a file of its own.

    Raises:
      CheckpointError: no architecture of transformers does what `config` says.
      FileExistsError: `directory` holds a model already.
      ValueError: an unknown dtype, or adapters that are not merged.
    """
    directory, config = as_path(directory), model.config
    dtype = dtype or config.param_dtype
    if dtype not in _DTYPES:
        raise ValueError(f"dtype {dtype!r} is not one of {', '.join(_DTYPES)}")
    described = config_json(config, dtype=dtype, tokenizer=tokenizer)
    held = [p.name for p in sorted(directory.glob("*")) if p.suffix in (".safetensors", ".json")]
    if held:
        raise FileExistsError(f"{directory}: holds {', '.join(held[:3])} already; name a new place")
    lead = jax.process_index() == 0
    if lead:
        directory.mkdir(parents=True, exist_ok=True)
    tensors = list(_tensors(config, stacked_params(model), jnp.dtype(dtype)))
    _write_weights(directory, tensors, shard_bytes, lead=lead)
    if lead:
        if tokenizer is not None:
            tokenizer.save(directory)
            write_json(directory / "generation_config.json", tokenizer.generation_config())
        # Last: a directory with a config is a whole model.
        write_json(directory / "config.json", described)


def stacked_params(model: Llama) -> Params:
    """A model's weights as files hold them: stacked; ValueError if it has adapters."""
    if model.lora is not None:
        raise ValueError("the model has adapters: call its merge_adapters() before it is written")
    return stack_layers(model.params)


class _Tensor(NamedTuple):
    """One tensor of the files: its name, shape and bytes, and how to get its values."""

    name: str
    shape: tuple[int, ...]
    nbytes: int
    read: Callable[[], np.ndarray]


def _tensors(config: ModelConfig, params: Params, dtype: jnp.dtype) -> Iterator[_Tensor]:
    for path, weight in weight_table(config).items():
        leaf: Any = params
        for key in path.split("/"):
            leaf = leaf[key]
        if tuple(leaf.shape) != weight.shape:
            raise CheckpointError(f"{path}: has {tuple(leaf.shape)}, wants {weight.shape}")
        dims = weight.dims.removeprefix("L")
        letters = weight.stored.replace(",", "")
        order = [dims.index(letter) for letter in letters]
        shape = stored_shape(weight, config)
        in_layers = weight.dims.startswith("L")
        for layer in range(config.num_layers) if in_layers else (None,):

            def read(leaf=leaf, layer=layer, order=order, shape=shape) -> np.ndarray:
                part = _to_host(leaf if layer is None else leaf[layer])
                return np.ascontiguousarray(part.transpose(order).reshape(shape), dtype)

            name = weight.hf if layer is None else weight.hf.format(layer)
            yield _Tensor(name, shape, math.prod(shape) * dtype.itemsize, read)


def _to_host(x: jax.Array) -> np.ndarray:
    if isinstance(x, jax.Array) and not x.is_fully_addressable:
        return np.asarray(multihost_utils.process_allgather(x, tiled=True))
    return np.asarray(x)


def _write_weights(
    directory: Path, tensors: list[_Tensor], shard_bytes: int, *, lead: bool
) -> None:
    shards: list[list[_Tensor]] = [[]]
    for tensor in tensors:
        size = sum(t.nbytes for t in shards[-1])
        if shards[-1] and size + tensor.nbytes > shard_bytes:
            shards.append([])
        shards[-1].append(tensor)
    weight_map: dict[str, str] = {}
    for i, shard in enumerate(shards, start=1):
        name = "model.safetensors"
        if len(shards) > 1:
            name = f"model-{i:05d}-of-{len(shards):05d}.safetensors"
        weight_map |= {tensor.name: name for tensor in shard}
        if not lead:
            for tensor in shard:
                tensor.read()  # takes part in the gathering
            continue
        with replacing(directory / name) as draft:
            values = {tensor.name: tensor.read() for tensor in shard}
            save_file(values, draft, metadata={"format": "pt"})
    if lead and len(shards) > 1:
        total = sum(tensor.nbytes for tensor in tensors)
        index = {"metadata": {"total_size": total}, "weight_map": weight_map}
        write_json(directory / "model.safetensors.index.json", index)
