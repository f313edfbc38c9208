"""Writes a model as a Hugging Face directory: config, safetensors shards, tokenizer."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils

from leco_jax.models.config import ModelConfig
from leco_jax.models.llama import Llama
from leco_jax.models.loading.assemble import CheckpointError
from leco_jax.models.weights import Params, stack_layers, weight_table
from leco_jax.storage.files import replacing, write_json
from leco_jax.text.tokenizer import Tokenizer

_DTYPES = {"float32": "F32", "bfloat16": "BF16", "float16": "F16"}
_ARCHITECTURES = {"llama": "Llama", "mistral": "Mistral", "gemma": "Gemma", "qwen2": "Qwen2"}


def export_huggingface(
    directory: str | Path,
    model: Llama,
    tokenizer: Tokenizer | None = None,
    *,
    dtype: str | None = None,
    shard_bytes: int = 5_000_000_000,
) -> None:
    """Writes what `load_model` and transformers' `from_pretrained` read.

    Weights may be sharded over devices and hosts: one layer's weight at a time is gathered and
    written, by process 0. Every process must call this.

    Args:
      directory: made if need be; must not hold another model.
      model: the model, stacked or unstacked, its adapters merged.
      tokenizer: writes the tokenizer's files and generation_config.json too.
      dtype: of the weights in the files: "float32", "bfloat16" or "float16"; default:
        `config.param_dtype`.
      shard_bytes: largest file, in bytes; a larger tensor has a file of its own.

    Raises:
      CheckpointError: no architecture of transformers does what `config` says.
      FileExistsError: `directory` holds a model already.
      ValueError: an unknown dtype, or adapters that are not merged.
    """
    directory, config = Path(directory), model.config
    dtype = dtype or config.param_dtype
    if dtype not in _DTYPES:
        raise ValueError(f"dtype {dtype!r} is none of {', '.join(_DTYPES)}")
    described = config_json(config, dtype=dtype, tokenizer=tokenizer)
    held = [p.name for p in sorted(directory.glob("*")) if p.suffix in (".safetensors", ".json")]
    if held:
        raise FileExistsError(f"{directory}: holds {', '.join(held[:3])} already; name a new place")
    lead = jax.process_index() == 0
    if lead:
        directory.mkdir(parents=True, exist_ok=True)
    tensors = list(_tensors(config, stacked_params(model), jnp.dtype(dtype)))
    _write_weights(directory, tensors, _DTYPES[dtype], shard_bytes, lead=lead)
    if lead:
        if tokenizer is not None:
            tokenizer.save(directory)
            write_json(directory / "generation_config.json", tokenizer.generation_config())
        # Last: a directory with a config is a whole model.
        write_json(directory / "config.json", described)


def stacked_params(model: Llama) -> Params:
    """A model's weights as files hold them: stacked, without adapters.

    Raises:
      ValueError: the model has adapters.
    """
    if model.lora is not None:
        raise ValueError("the model has adapters: call its merge_adapters() before it is written")
    return stack_layers(model.params)


def config_json(
    config: ModelConfig, *, dtype: str | None = None, tokenizer: Tokenizer | None = None
) -> dict[str, Any]:
    """The config.json of a model, the inverse of `huggingface_config`.

    Raises:
      CheckpointError: no architecture of transformers does what `config` says.
    """
    family = _family(config)
    raw: dict[str, Any] = {
        "architectures": [f"{_ARCHITECTURES[family]}ForCausalLM"],
        "model_type": family,
        "vocab_size": config.vocab_size,
        "hidden_size": config.width,
        "intermediate_size": config.mlp_width,
        "num_hidden_layers": config.num_layers,
        "num_attention_heads": config.num_heads,
        "num_key_value_heads": config.num_kv_heads,
        "head_dim": config.head_width,
        "hidden_act": "silu" if config.activation == "silu" else "gelu_pytorch_tanh",
        "rms_norm_eps": config.norm_eps,
        "rope_theta": config.rope.theta,
        "max_position_embeddings": config.max_positions,
        "tie_word_embeddings": config.tied,
        "dtype": dtype or config.param_dtype,
    }
    rope = config.rope
    if rope.scaling == "linear":
        raw["rope_scaling"] = {"rope_type": "linear", "factor": rope.factor}
    elif rope.scaling == "llama3":
        raw["rope_scaling"] = {
            "rope_type": "llama3",
            "factor": rope.factor,
            "low_freq_factor": rope.low_freq_factor,
            "high_freq_factor": rope.high_freq_factor,
            "original_max_position_embeddings": rope.original_max_positions,
        }
    if family == "gemma":
        raw["hidden_activation"] = raw["hidden_act"]
    if family == "llama":
        raw["attention_bias"] = config.qkv_bias
    if family == "mistral":
        raw["sliding_window"] = config.sliding_window
    if family == "qwen2":
        raw["use_sliding_window"] = config.sliding_window is not None
        if config.sliding_window is not None:
            raw |= {"sliding_window": config.sliding_window, "max_window_layers": 0}
    if tokenizer is not None:
        raw |= tokenizer.generation_config()
    return raw


def _family(config: ModelConfig) -> str:
    """The simplest architecture of transformers that does what the config says."""
    c = config
    says = {
        "scale_embedding": c.scale_embedding,
        "norm_plus_one": c.norm_plus_one,
        "qkv_bias": c.qkv_bias,
        "o_bias": c.o_bias,
        "sliding_window": c.sliding_window is not None,
        "logit_soft_cap": c.logit_soft_cap is not None,
    }
    families = {
        (): "llama",
        ("qkv_bias", "o_bias"): "llama",
        ("sliding_window",): "mistral",
        ("qkv_bias",): "qwen2",
        ("qkv_bias", "sliding_window"): "qwen2",
        ("scale_embedding", "norm_plus_one"): "gemma",
    }
    features = tuple(name for name, has in says.items() if has)
    if features not in families:
        raise CheckpointError(
            f"no architecture of transformers has {' and '.join(features)} and nothing else of "
            f"{', '.join(says)}; keep the model in Orbax's format"
        )
    return families[features]


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
        shape = tuple(
            math.prod(config.sizes[letter] for letter in group)
            for group in weight.stored.split(",")
        )
        in_layers = weight.dims.startswith("L")
        for layer in range(config.num_layers) if in_layers else (None,):

            def read(leaf=leaf, layer=layer, order=order, shape=shape) -> np.ndarray:
                part = _to_host(leaf if layer is None else leaf[layer])
                return part.transpose(order).reshape(shape).astype(dtype)

            name = weight.hf if layer is None else weight.hf.format(layer)
            yield _Tensor(name, shape, math.prod(shape) * dtype.itemsize, read)


def _to_host(x: jax.Array) -> np.ndarray:
    if isinstance(x, jax.Array) and not x.is_fully_addressable:
        return np.asarray(multihost_utils.process_allgather(x, tiled=True))
    return np.asarray(x)


def _write_weights(
    directory: Path, tensors: list[_Tensor], dtype: str, shard_bytes: int, *, lead: bool
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
        _write_safetensors(directory / name, shard, dtype, lead=lead)
        weight_map |= {tensor.name: name for tensor in shard}
    if lead and len(shards) > 1:
        total = sum(tensor.nbytes for tensor in tensors)
        index = {"metadata": {"total_size": total}, "weight_map": weight_map}
        write_json(directory / "model.safetensors.index.json", index)


def _write_safetensors(path: Path, tensors: list[_Tensor], dtype: str, *, lead: bool) -> None:
    """Writes one file, holding one tensor at a time: length, JSON header, raw values."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    start = 0
    for tensor in tensors:
        stop = start + tensor.nbytes
        header[tensor.name] = {
            "dtype": dtype,
            "shape": list(tensor.shape),
            "data_offsets": [start, stop],
        }
        start = stop
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # values begin at a multiple of eight
    if not lead:
        for tensor in tensors:
            tensor.read()  # takes part in the gathering
        return
    with replacing(path) as draft, draft.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for tensor in tensors:
            file.write(np.ascontiguousarray(tensor.read()).tobytes())
