"""Models from GGUF files (llama.cpp), quantised or not."""

import dataclasses
import os
from pathlib import Path
from typing import Any, BinaryIO, Literal

import gguf
import numpy as np
from jax.sharding import Mesh

from leco_jax.models.config import ModelConfig, RopeConfig
from leco_jax.models.loading.assemble import (
    CheckpointError,
    Fix,
    Index,
    SplitSource,
    TensorSource,
    assemble,
    check_tensors,
)
from leco_jax.models.rope import inverse_frequencies
from leco_jax.models.sharding import RULES, Rules
from leco_jax.models.weights import Params, weight_table
from leco_jax.storage.files import local_copy
from leco_jax.storage.paths import as_path

_ROPE_FREQS = "rope_freqs.weight"

_GEMMA: dict[str, Any] = {
    "activation": "gelu_tanh", "scale_embedding": True, "norm_plus_one": True,
}  # fmt: skip
# Architecture -> what its name says and its metadata do not.
_ARCHITECTURES: dict[str, dict[str, Any]] = {
    "llama": {},
    "gemma": _GEMMA,
    "gemma2": _GEMMA | {"norms": "both", "global_every": 2},
    "gemma3": _GEMMA
    | {"norms": "both", "qk_norm": "head", "global_every": 6, "local_rope_theta": 10_000.0},
    "qwen2": {},
    "qwen3": {"qk_norm": "head"},
    "olmo2": {"qk_norm": "projection", "norms": "after"},
    "smollm3": {"no_rope_every": 4},
    "phi3": {},
}
_PHI3_STACKS = {
    "blk.{}.attn_qkv.weight": ("layers/q_proj", "layers/k_proj", "layers/v_proj"),
    "blk.{}.ffn_up.weight": ("layers/gate_proj", "layers/up_proj"),
}


def open_gguf(path: str | Path) -> gguf.GGUFReader:
    """Opens a GGUF file without reading its tensors; CheckpointError if it is damaged."""
    path = as_path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such GGUF file")
    try:
        with local_copy(path) as local:  # it stays while the reader maps it
            with local.open("rb") as file:
                _check_lengths(file, local.stat().st_size)
            return gguf.GGUFReader(local)
    except (ValueError, IndexError, KeyError, OverflowError, TypeError) as error:
        raise CheckpointError(f"{path}: no readable GGUF file ({error})") from error


# Bytes of a metadata value by its type; strings and arrays have lengths of their own.
_VALUE_BYTES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
_STRING, _ARRAY = 8, 9


def _check_lengths(file: BinaryIO, size: int) -> None:
    """Refuses metadata that claims to be longer than the file: the reader would never end.

    Source: the GGUF specification, versions 2 and 3; bytes in either order.
    """
    if file.read(4) != b"GGUF":
        raise ValueError("it does not begin with GGUF")
    version = file.read(4)
    order: Literal["little", "big"] = "little" if version[:2] != b"\0\0" else "big"

    def number(width: int) -> int:
        data = file.read(width)
        if len(data) < width:
            raise ValueError("its metadata is cut short")
        return int.from_bytes(data, order)

    def skip(length: int) -> None:
        if length > size - file.tell():
            raise ValueError("a length in its metadata goes beyond the end of the file")
        file.seek(length, os.SEEK_CUR)

    def skip_values(kind: int, count: int) -> None:
        if kind != _STRING:
            skip(count * _VALUE_BYTES[kind])
        else:
            for _ in range(count):
                skip(number(8))

    num_tensors, num_values = number(8), number(8)
    for _ in range(num_values):
        skip(number(8))
        kind = number(4)
        if kind == _ARRAY:
            skip_values(number(4), number(8))
        else:
            skip_values(kind, 1)
    for _ in range(num_tensors):
        skip(number(8))
        skip(number(4) * 8 + 12)  # sizes, type and offset


class GgufSource:
    """The tensors of a GGUF file, dequantised as they are read."""

    def __init__(self, reader: gguf.GGUFReader):
        self._tensors = {tensor.name: tensor for tensor in reader.tensors}
        # GGUF names the fastest axis first.
        self.shapes = {
            name: tuple(int(n) for n in reversed(tensor.shape))
            for name, tensor in self._tensors.items()
        }

    def read(self, name: str, index: Index) -> np.ndarray:
        """A part of a tensor, float32 unless stored in another plain type."""
        tensor = self._tensors[name]
        # Blocks of quantised values lie within a row, so rows can be taken before dequantising.
        values = gguf.dequantize(tensor.data[index[0]], tensor.tensor_type)
        return values[(slice(None), *index[1:])]


def gguf_config(reader: gguf.GGUFReader) -> ModelConfig:
    """The model that a GGUF file's metadata describes; float32 parameters and activations.

    Raises:
      CheckpointError: an unknown architecture or setting; the message lists everything that is
        wrong.
    """
    fields = {
        name: field.contents()
        for name, field in reader.fields.items()
        if not name.startswith("tokenizer.")  # long, and none of the model's business
    }
    arch = fields.get("general.architecture")
    if arch not in _ARCHITECTURES:
        raise CheckpointError(
            f"GGUF architecture {arch!r} is not supported; supported (Mistral is a llama): "
            + ", ".join(_ARCHITECTURES)
        )

    def get(name, default=None):
        return fields.get(f"{arch}.{name}", default)

    required = (
        "embedding_length", "feed_forward_length", "block_count", "attention.head_count",
        "attention.layer_norm_rms_epsilon",
    )  # fmt: skip
    problems = [f"{arch}.{name} is missing" for name in required if get(name) is None]
    problems += [
        f"{arch}.{name} differs from layer to layer"
        for name in ("feed_forward_length", "attention.head_count", "attention.head_count_kv")
        if isinstance(get(name), list)
    ]
    shapes = {t.name: tuple(int(n) for n in reversed(t.shape)) for t in reader.tensors}
    if "token_embd.weight" not in shapes:
        problems.append("tensor token_embd.weight, which gives the vocabulary's size, is missing")
    if problems:
        raise CheckpointError("GGUF metadata: " + "; ".join(problems))

    heads = get("attention.head_count")
    head_width = get("attention.key_length", get("embedding_length") // heads)
    if get("attention.value_length", head_width) != head_width:
        problems.append(f"{arch}.attention.value_length differs from the keys'")
    if get("rope.dimension_count", head_width) != head_width:
        problems.append(f"{arch}.rope.dimension_count rotates only a part of each head")
    if get("expert_count", 0):
        problems.append(f"{arch}.expert_count: mixtures of experts are not supported")
    window = get("attention.sliding_window", 4096 if arch == "gemma2" else None) or None
    said = _ARCHITECTURES[arch]
    if window is None and "global_every" in said:
        problems.append(f"{arch}.attention.sliding_window is missing")
    if window is not None and arch == "olmo2":
        problems.append("olmo2.attention.sliding_window: OLMo 3 is not supported")
    for name, key in (
        ("global_every", "attention.sliding_window_pattern"),
        ("local_rope_theta", "rope.freq_base_swa"),
    ):
        if get(key, said.get(name)) != said.get(name):
            problems.append(f"{arch}.{key} {get(key)!r} is not {said.get(name)!r}")
    scaling = get("rope.scaling.type", "none")
    factor = float(get("rope.scaling.factor", get("rope.scale_linear", 1.0)))
    if scaling not in ("none", "linear"):
        problems.append(f"{arch}.rope.scaling.type {scaling!r} is neither 'none' nor 'linear'")
    if problems:
        raise CheckpointError("GGUF metadata: " + "; ".join(problems))

    rope = RopeConfig(theta=float(get("rope.freq_base", 10_000.0)))
    if scaling == "linear":
        rope = dataclasses.replace(rope, scaling="linear", factor=factor)
    if _ROPE_FREQS in shapes:
        rope = _llama3_rope(reader, rope, head_width)
    return ModelConfig(
        vocab_size=shapes["token_embd.weight"][0],
        width=get("embedding_length"),
        mlp_width=get("feed_forward_length"),
        num_layers=get("block_count"),
        num_heads=heads,
        num_kv_heads=get("attention.head_count_kv", heads),
        head_width=head_width,
        # Stored in float32: 1e-5 and not 9.999999747378752e-06.
        norm_eps=float(str(np.float32(get("attention.layer_norm_rms_epsilon")))),
        rope=rope,
        tied="output.weight" not in shapes,
        qkv_bias="blk.0.attn_q.bias" in shapes,
        o_bias="blk.0.attn_output.bias" in shapes,
        sliding_window=window,
        attention_soft_cap=get("attn_logit_softcapping"),
        score_width=_score_width(arch, get("block_count"), get("embedding_length") // heads),
        logit_soft_cap=get("final_logit_softcapping"),
        max_positions=get("context_length", 4096),
        **said,
    )


def _score_width(arch: str, layers: int, width_per_head: int) -> int | None:
    """What attention is scaled by where it is not the head's width; no metadata say it."""
    largest = {"gemma2": 46, "gemma3": 62}  # llama.cpp knows the 27B models by their layers
    return width_per_head if largest.get(arch) == layers else None


def _llama3_rope(reader: gguf.GGUFReader, plain: RopeConfig, head_width: int) -> RopeConfig:
    """The Llama-3 scaling behind `rope_freqs.weight`, the factors that divide the frequencies.

    What they were made of is the same for every released Llama 3 but for the largest factor.
    """
    stored = GgufSource(reader).read(_ROPE_FREQS, (slice(None),))
    # Low and high factor and the original context are RopeConfig's defaults: 1, 4 and 8192.
    rope = RopeConfig(theta=plain.theta, scaling="llama3", factor=float(stored.max()))
    factors = inverse_frequencies(plain, head_width) / inverse_frequencies(rope, head_width)
    if stored.shape != factors.shape or not np.allclose(stored, factors, rtol=1e-4):
        raise CheckpointError(
            f"GGUF tensor {_ROPE_FREQS}: these factors are not those of Llama 3, and others are "
            "not supported"
        )
    return rope


def load_gguf(
    reader: gguf.GGUFReader,
    config: ModelConfig,
    *,
    mesh: Mesh | None = None,
    rules: Rules = RULES,
    where: str = "GGUF file",
) -> Params:
    """The parameters in a GGUF file; `where` is what messages call it.

    Raises:
      CheckpointError: missing, extra or mis-shaped tensors, all listed.
    """
    names = {path: weight.gguf for path, weight in weight_table(config).items()}
    arch = reader.fields["general.architecture"].contents()
    source: TensorSource = GgufSource(reader)
    if arch == "phi3":
        source = SplitSource(source, config, names, _PHI3_STACKS)
    check_tensors(config, names, source.shapes, where=where, ignored=(_ROPE_FREQS,))
    return assemble(config, names, source, mesh=mesh, rules=rules, fixes=_fixes(arch, config))


def _fixes(arch: str, config: ModelConfig) -> dict[str, Fix]:
    """What llama.cpp's converter changes in the weights of an architecture, undone."""
    if arch in ("llama", "smollm3"):
        rotated = ("q_proj", "k_proj", "q_bias", "k_bias")
        return {f"layers/{name}": _split_pairs for name in rotated}
    if arch.startswith("gemma"):
        # It adds the one of (1 + w).
        return {
            path: lambda part: part - 1 for path in weight_table(config) if path.endswith("norm")
        }
    return {}


def _split_pairs(part: Any) -> Any:
    """Undoes that pairs (i, i + H/2) of a head were made neighbours (2i, 2i + 1)."""
    pairs = part.reshape(*part.shape[:-1], part.shape[-1] // 2, 2)
    return pairs.swapaxes(-1, -2).reshape(part.shape)
