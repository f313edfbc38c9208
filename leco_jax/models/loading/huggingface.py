"""Models from Hugging Face directories: config.json and safetensors files."""

import json
import math
import operator
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np
from jax.sharding import Mesh

from leco_jax.models.config import ModelConfig
from leco_jax.models.loading.assemble import (
    CheckpointError,
    Index,
    SplitSource,
    assemble,
    check_tensors,
)
from leco_jax.models.sharding import RULES, Rules
from leco_jax.models.weights import Params, weight_table
from leco_jax.storage.files import Ranges, open_ranges, parse_json
from leco_jax.storage.paths import as_path

_INDEX = "model.safetensors.index.json"
# First parts of paths that leave a directory.
_OUTSIDE = (("/",), ("..",))
# Old checkpoints store what the rotary embedding computes.
_COMPUTED = re.compile(r"rotary_emb\.inv_freq$")
# What Phi-3 stacks.
_STACKS = {
    "model.layers.{}.self_attn.qkv_proj.weight": (
        "layers/q_proj",
        "layers/k_proj",
        "layers/v_proj",
    ),
    "model.layers.{}.mlp.gate_up_proj.weight": ("layers/gate_proj", "layers/up_proj"),
}


class SafetensorsSource:
    """The tensors of one or many safetensors files, read by ranges."""

    def __init__(self, files: list[Path], *, open_ranges: Callable[[Path], Ranges] = open_ranges):
        """Reads the files' headers."""
        self._tensors: dict[str, _Stored] = {}
        for path in files:
            try:
                self._tensors |= _header(open_ranges(path))
            except (ValueError, KeyError, TypeError, OSError) as error:
                raise CheckpointError(f"{path}: no readable safetensors file ({error})") from error
        self.shapes = {name: tensor.shape for name, tensor in self._tensors.items()}

    def read(self, name: str, index: Index) -> np.ndarray:
        """A part of a tensor, in the dtype in which it is stored; its rows are read whole."""
        file, start, dtype, shape = self._tensors[name]
        if dtype is None:
            raise CheckpointError(f"tensor {name} is of a dtype that NumPy does not know")
        if not shape:
            return np.frombuffer(file.read(start, dtype.itemsize), dtype).reshape(())
        first, stop, _ = index[0].indices(shape[0])
        row = math.prod(shape[1:]) * dtype.itemsize
        data = file.read(start + first * row, (stop - first) * row)
        return np.frombuffer(data, dtype).reshape(-1, *shape[1:])[(slice(None), *index[1:])]


class _Stored(NamedTuple):
    """Where a tensor lies; its dtype is None if NumPy has no such."""

    file: Ranges
    start: int
    dtype: np.dtype | None
    shape: tuple[int, ...]


_DTYPES: dict[str, Any] = {
    "F64": np.float64, "F32": np.float32, "F16": np.float16, "BF16": ml_dtypes.bfloat16,
    "F8_E4M3": ml_dtypes.float8_e4m3fn, "F8_E5M2": ml_dtypes.float8_e5m2, "BOOL": np.bool_,
    "I64": np.int64, "I32": np.int32, "I16": np.int16, "I8": np.int8,
    "U64": np.uint64, "U32": np.uint32, "U16": np.uint16, "U8": np.uint8,
}  # fmt: skip


def _header(file: Ranges) -> dict[str, _Stored]:
    """The tensors of a file: 8 bytes, the length of a JSON text, which is followed by the values.

    Raises:
      ValueError, KeyError, TypeError: it is no such file, or is cut short.
    """
    if file.size < 8:
        raise ValueError("it is too short")
    length = int.from_bytes(file.read(0, 8), "little")
    begin = 8 + length
    if begin > file.size:
        raise ValueError("its header is longer than the file")
    header = parse_json(bytes(file.read(8, length)))
    header.pop("__metadata__", None)
    found, ends = {}, [0]
    for name, entry in header.items():
        shape = tuple(map(operator.index, entry["shape"]))
        start, stop = map(operator.index, entry["data_offsets"])
        own = _DTYPES.get(entry["dtype"])
        dtype = None if own is None else np.dtype(own)
        if min((0, *shape)) < 0 or not 0 <= start <= stop:
            raise ValueError(f"{name} has a negative size")
        if dtype is not None and stop - start != math.prod(shape) * dtype.itemsize:
            raise ValueError(f"{name} has {stop - start} bytes, which is not its shape's size")
        found[name] = _Stored(file, begin + start, dtype, shape)
        ends.append(stop)
    if begin + max(ends) != file.size:
        raise ValueError(f"it has {file.size} bytes, and its header says {begin + max(ends)}")
    return found


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file; CheckpointError if it holds something else."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise CheckpointError(f"{path}: not valid JSON ({error})") from error
    if not isinstance(value, dict):
        raise CheckpointError(f"{path}: a JSON object was expected, not a {type(value).__name__}")
    return value


def safetensors_files(directory: Path) -> list[Path]:
    """The files that hold a model's weights.

    Raises:
      FileNotFoundError: there are none, or some that the index names are not there (all listed).
    """
    if (directory / _INDEX).is_file():
        weight_map = read_json(directory / _INDEX).get("weight_map")
        if not isinstance(weight_map, dict):
            raise CheckpointError(f"{directory / _INDEX}: has no weight_map")
        names = sorted({str(name) for name in weight_map.values()})
        outside = [name for name in names if Path(os.path.normpath(name)).parts[:1] in _OUTSIDE]
        if outside:
            raise CheckpointError(
                f"{directory / _INDEX}: names files outside the directory: {', '.join(outside)}"
            )
        files = [directory / name for name in names]
        absent = [path.name for path in files if not path.is_file()]
        if absent:
            raise FileNotFoundError(
                f"{directory}: {_INDEX} names files that are not there: {', '.join(absent)}"
            )
        return files
    if (directory / "model.safetensors").is_file():
        return [directory / "model.safetensors"]
    files = sorted(directory.glob("*.safetensors"))
    if not files:
        other = sorted(path.name for path in directory.glob("*.bin"))
        hint = f"; {', '.join(other)} must be converted to safetensors first" if other else ""
        raise FileNotFoundError(f"{directory}: no *.safetensors file{hint}")
    return files


def load_huggingface(
    directory: str | Path,
    config: ModelConfig,
    *,
    mesh: Mesh | None = None,
    rules: Rules = RULES,
) -> Params:
    """The parameters in safetensors files; each device's part is read from its own ranges.

    Raises:
      FileNotFoundError: files are missing.
      CheckpointError: missing, extra or mis-shaped tensors, all listed.
    """
    directory = as_path(directory)
    names = {path: weight.hf for path, weight in weight_table(config).items()}
    files = SafetensorsSource(safetensors_files(directory))
    source = SplitSource(files, config, names, _STACKS)
    ignored = [name for name in source.shapes if _COMPUTED.search(name)]
    if config.tied:
        ignored.append("lm_head.weight")  # some savers write the embedding twice
    check_tensors(config, names, source.shapes, where=str(directory), ignored=ignored)
    return assemble(config, names, source, mesh=mesh, rules=rules)
