"""Small checkpoints of every architecture, rebuilt from stored configs and shapes."""

import functools
import importlib.util
import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import save_file

from leco_jax.models import transformer
from leco_jax.models.attention import causal_attend
from leco_jax.models.sharding import RULES
from leco_jax.models.weights import nest, weight_table

TESTS = pathlib.Path(__file__).parents[2]


def load_script(path: pathlib.Path):
    """A module from a file that lies in no package."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def figures():
    """The module that defines the small models."""
    return load_script(TESTS / "parity" / "make_figures.py")


@pytest.fixture(scope="session")
def stored(figures):
    """Case -> {"config": what transformers wrote, "shapes": of its tensors}."""
    return json.loads(figures.CONFIGS.read_text())


@pytest.fixture(scope="session")
def tensors(figures, stored):
    """Function: case -> its tensors by Hugging Face name, float32."""

    def make(case: str) -> dict[str, np.ndarray]:
        gemma = stored[case]["config"]["model_type"].startswith("gemma")
        return {
            name: figures.random_tensor(name, tuple(shape), norm_plus_one=gemma)
            for name, shape in stored[case]["shapes"].items()
        }

    return make


@pytest.fixture
def checkpoint(stored, tensors, tmp_path):
    """Function: case -> a Hugging Face directory with its config and weights.

    `files` > 1 spreads the tensors over that many files with an index.
    """

    def write(case: str, *, files: int = 1, directory: pathlib.Path = tmp_path) -> pathlib.Path:
        directory = directory / case
        directory.mkdir()
        (directory / "config.json").write_text(json.dumps(stored[case]["config"]))
        values = tensors(case)
        if files == 1:
            save_file(values, directory / "model.safetensors")
            return directory
        weight_map = {}
        for i in range(files):
            name = f"model-{i + 1:05}-of-{files:05}.safetensors"
            part = dict(list(values.items())[i::files])
            save_file(part, directory / name)
            weight_map |= dict.fromkeys(part, name)
        index = {"metadata": {}, "weight_map": weight_map}
        (directory / "model.safetensors.index.json").write_text(json.dumps(index))
        return directory

    return write


@functools.partial(jax.jit, static_argnames=("config", "rules"))
def _logits(params, tokens, positions, segment_ids, *, config, rules):
    attend = causal_attend(positions, config, segment_ids_BT=segment_ids)
    hidden, _ = transformer.forward(
        params, tokens, positions, config=config, attend=attend, rules=dict(rules)
    )
    return transformer.logits(params, hidden, config=config)


@pytest.fixture(scope="session")
def run():
    """Function: (params, config, tokens) -> logits of whole rows, compiled once for each shape."""

    def logits(params, config, tokens, *, segment_ids=None, positions=None, rules=RULES):
        tokens = jnp.asarray(tokens)
        if positions is None:
            positions = jnp.broadcast_to(jnp.arange(tokens.shape[1]), tokens.shape)
        rules = tuple(rules.items())
        return _logits(params, tokens, positions, segment_ids, config=config, rules=rules)

    return logits


@pytest.fixture(scope="session")
def random_params():
    """Function: config -> parameters in which nothing is zero or one; costs no compilation."""

    def make(config, seed=0):
        rng = np.random.default_rng(seed)
        flat = {}
        for path, weight in weight_table(config).items():
            values = rng.standard_normal(weight.shape)
            if path.endswith("norm"):
                values = 0.1 * values + (0.0 if config.norm_plus_one else 1.0)
            else:
                values *= 0.2
            flat[path] = jnp.asarray(values, config.param_dtype)
        return nest(flat)

    return make
