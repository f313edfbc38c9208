"""Models from Hugging Face directories: config.json and safetensors files."""

import json
import os
import re
from pathlib import Path
from typing import Any

import numpy as np
from jax.sharding import Mesh
from safetensors import SafetensorError, safe_open

from leco_jax.models.config import ModelConfig
from leco_jax.models.loading.assemble import CheckpointError, Index, assemble, check_tensors
from leco_jax.models.sharding import RULES, Rules
from leco_jax.models.weights import Params, weight_table

_INDEX = "model.safetensors.index.json"
# First parts of paths that leave a directory.
_OUTSIDE = (("/",), ("..",))
# Old checkpoints store what the rotary embedding computes.
_COMPUTED = re.compile(r"rotary_emb\.inv_freq$")


class SafetensorsSource:
    """The tensors of one or many safetensors files, read by ranges."""

    def __init__(self, files: list[Path]):
        self._files: dict[str, Any] = {}
        self.shapes: dict[str, tuple[int, ...]] = {}
        for path in files:
            try:
                file = safe_open(path, framework="numpy")
            except (SafetensorError, OSError) as error:
                raise CheckpointError(f"{path}: no readable safetensors file ({error})") from error
            for name in file.keys():  # noqa: SIM118  (not a dict)
                self._files[name] = file
                self.shapes[name] = tuple(file.get_slice(name).get_shape())

    def read(self, name: str, index: Index) -> np.ndarray:
        """A part of a tensor, in the dtype in which it is stored."""
        return self._files[name].get_slice(name)[index]


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
    directory = Path(directory)
    source = SafetensorsSource(safetensors_files(directory))
    names = {path: weight.hf for path, weight in weight_table(config).items()}
    ignored = [name for name in source.shapes if _COMPUTED.search(name)]
    if config.tied:
        ignored.append("lm_head.weight")  # some savers write the embedding twice
    check_tensors(config, names, source.shapes, where=str(directory), ignored=ignored)
    return assemble(config, names, source, mesh=mesh, rules=rules)
