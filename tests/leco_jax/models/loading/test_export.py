"""Export to Hugging Face directories and to Orbax, and back."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors import safe_open

from leco_jax.examples import bundled_path
from leco_jax.models.architectures import preset
from leco_jax.models.config import RopeConfig
from leco_jax.models.llama import Llama
from leco_jax.models.loading import CheckpointError, load_model
from leco_jax.models.loading.export import export_huggingface
from leco_jax.models.loading.huggingface import load_huggingface
from leco_jax.models.loading.huggingface_config import config_json, huggingface_config
from leco_jax.models.loading.orbax import load_orbax, save_orbax
from leco_jax.models.sharding import make_mesh
from leco_jax.models.weights import nest, param_shardings, unstack_layers, weight_table
from leco_jax.text.tokenizer import load_tokenizer

SMALL = preset("tiny", vocab_size=640)
# One of each kind of weight, and of each way to say it in a config.json.
_GEMMA2 = SMALL.replace(
    scale_embedding=True, norm_plus_one=True, activation="gelu_tanh", norms="both",
    sliding_window=7, global_every=2, attention_soft_cap=2.0, logit_soft_cap=3.0,
)  # fmt: skip
CONFIGS = {
    "llama": SMALL.replace(tied=False, rope=RopeConfig(theta=5e5)),
    "llama, scaled": SMALL.replace(
        rope=RopeConfig(
            theta=5e5,
            scaling="llama3",
            factor=8.0,
            low_freq_factor=1.0,
            high_freq_factor=4.0,
            original_max_positions=128,
        )
    ),
    "llama, linear": SMALL.replace(rope=RopeConfig(scaling="linear", factor=2.0)),
    "llama, yarn": SMALL.replace(
        rope=RopeConfig(
            scaling="yarn",
            factor=4.0,
            beta_fast=4.0,
            attention_factor=1.3,
            original_max_positions=128,
        )
    ),
    "llama, biases": SMALL.replace(qkv_bias=True, o_bias=True),
    "mistral": SMALL.replace(sliding_window=7, num_kv_heads=1),
    "gemma": SMALL.replace(
        scale_embedding=True, norm_plus_one=True, activation="gelu_tanh", head_width=32
    ),
    "gemma2": _GEMMA2,
    "gemma2, scaled": _GEMMA2.replace(score_width=40, attention_soft_cap=None, logit_soft_cap=None),
    "gemma2, no window": _GEMMA2.replace(sliding_window=None, global_every=None),
    "gemma3_text": _GEMMA2.replace(
        qk_norm="head",
        num_layers=4,
        global_every=3,
        local_rope_theta=100.0,
        attention_soft_cap=None,
        rope=RopeConfig(theta=1e6, scaling="linear", factor=8.0),
    ),
    "qwen2": SMALL.replace(qkv_bias=True),
    "qwen2, every second": SMALL.replace(qkv_bias=True, sliding_window=7, global_every=2),
    "qwen2, window": SMALL.replace(qkv_bias=True, sliding_window=7),
    "olmo2": SMALL.replace(qk_norm="projection", norms="after", tied=False),
    "smollm3": SMALL.replace(num_layers=3, no_rope_every=2),
    "qwen3": SMALL.replace(qk_norm="head"),
    "qwen3, biases": SMALL.replace(qk_norm="head", qkv_bias=True, o_bias=True, tied=False),
}


@pytest.fixture(scope="module")
def tokenizer():
    return load_tokenizer(bundled_path("arithmetic-1m"))


def _params(config):
    """Weights drawn without a compilation for each model."""
    draw = np.random.default_rng(1)
    return nest(
        {
            path: jnp.asarray(draw.standard_normal(weight.shape, np.float32))
            for path, weight in weight_table(config).items()
        }
    )


def _equal(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        assert x.dtype == y.dtype
        np.testing.assert_array_equal(np.asarray(x, np.float32), np.asarray(y, np.float32))


@pytest.mark.parametrize("case", CONFIGS)
def test_a_round_trip_gives_the_same_model_bit_by_bit(tmp_path, case):
    config = CONFIGS[case]
    params = _params(config)
    export_huggingface(tmp_path, Llama(config, params=params))
    raw = json.loads((tmp_path / "config.json").read_text())
    assert raw["model_type"] == case.split(",")[0]
    assert huggingface_config(raw) == config
    _equal(load_huggingface(tmp_path, config), params)


def test_a_whole_model_comes_back_from_its_directory(tmp_path, tokenizer):
    params = _params(SMALL)
    export_huggingface(
        tmp_path / "new" / "model", Llama(SMALL, params=unstack_layers(params)), tokenizer
    )
    loaded = load_model(tmp_path / "new" / "model")
    assert loaded.config == SMALL
    _equal(loaded.params, params)
    text = "Question: Ada has 12 apples.\nAnswer:\n"
    assert loaded.tokenizer.encode(text) == tokenizer.encode(text)
    for name in ("bos_id", "eos_ids", "pad_id", "wants_bos", "special_ids", "vocab_size"):
        assert getattr(loaded.tokenizer, name) == getattr(tokenizer, name)
    said = json.loads((tmp_path / "new" / "model" / "generation_config.json").read_text())
    assert said == {"bos_token_id": 1, "eos_token_id": [2], "pad_token_id": 2}


def test_no_shard_is_larger_than_asked_for_and_the_index_names_all(tmp_path):
    params = _params(SMALL)
    export_huggingface(tmp_path, Llama(SMALL, params=params), shard_bytes=100_000)
    files = sorted(tmp_path.glob("*.safetensors"))
    assert files[0].name == f"model-00001-of-{len(files):05d}.safetensors"
    index = json.loads((tmp_path / "model.safetensors.index.json").read_text())
    total = 0
    for path in files:
        with safe_open(path, framework="numpy") as file:
            assert file.metadata() == {"format": "pt"}
            sizes = [file.get_tensor(name).nbytes for name in file.keys()]  # noqa: SIM118
            assert {index["weight_map"][name] for name in file.keys()} == {path.name}  # noqa: SIM118
        # The embedding alone is larger than a shard.
        assert sum(sizes) <= 100_000 or len(sizes) == 1
        total += sum(sizes)
    assert (
        index["metadata"]["total_size"] == total == 4 * sum(x.size for x in jax.tree.leaves(params))
    )
    _equal(load_huggingface(tmp_path, SMALL), params)


def test_weights_can_be_written_in_another_dtype(tmp_path):
    params = _params(SMALL)
    export_huggingface(tmp_path, Llama(SMALL, params=params), dtype="bfloat16")
    config = huggingface_config(json.loads((tmp_path / "config.json").read_text()))
    assert config.param_dtype == "bfloat16"
    _equal(load_huggingface(tmp_path, config), jax.tree.map(lambda x: x.astype("bfloat16"), params))
    with pytest.raises(ValueError, match="'int8' is not one of float32"):
        export_huggingface(tmp_path / "x", Llama(SMALL, params=params), dtype="int8")


@pytest.mark.heavy
def test_sharded_weights_are_written_like_whole_ones(tmp_path, tokenizer):
    mesh = make_mesh(data=1, fsdp=4, tensor=2)
    params = jax.device_put(_params(SMALL), param_shardings(SMALL, mesh))
    export_huggingface(tmp_path / "sharded", Llama(SMALL, params=params))
    export_huggingface(tmp_path / "whole", Llama(SMALL, params=_params(SMALL)))
    name = "model.safetensors"
    assert (tmp_path / "sharded" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()

    save_orbax(tmp_path / "orbax", Llama(SMALL, params=params), tokenizer)
    alone = load_orbax(tmp_path / "orbax", SMALL)
    _equal(alone, params)
    other = load_model(tmp_path / "orbax", mesh=make_mesh(data=2, fsdp=2, tensor=2))
    assert other.config == SMALL
    _equal(other.params, params)
    assert other.params["layers"]["q_proj"].sharding.spec == jax.P(None, "fsdp", "tensor", None)
    half = load_model(tmp_path / "orbax", dtype="bfloat16")
    assert half.params["embed"].dtype == jnp.bfloat16


def test_orbax_arrays_of_another_model_are_all_named(tmp_path, tokenizer):
    save_orbax(tmp_path, Llama(SMALL, params=_params(SMALL)), tokenizer)
    with pytest.raises(CheckpointError) as error:
        load_orbax(tmp_path, SMALL.replace(mlp_width=64, tied=False))
    assert str(error.value).splitlines()[1:] == [
        "    layers/down_proj: has (2, 128, 64), wants (2, 64, 64)",
        "    layers/gate_proj: has (2, 64, 128), wants (2, 64, 64)",
        "    layers/up_proj: has (2, 64, 128), wants (2, 64, 64)",
        "    unembed: has none, wants (640, 64)",
    ]
    with pytest.raises(FileExistsError, match="holds a model already"):
        save_orbax(tmp_path, Llama(SMALL, params=_params(SMALL)), tokenizer)


def test_a_model_in_the_way_is_not_overwritten(tmp_path):
    params = _params(SMALL)
    export_huggingface(tmp_path, Llama(SMALL, params=params))
    with pytest.raises(FileExistsError, match=r"holds config.json, model.safetensors already"):
        export_huggingface(tmp_path, Llama(SMALL, params=params))


def test_what_transformers_cannot_say_is_refused():
    with pytest.raises(CheckpointError, match=r"no architecture .* has logit_soft_cap"):
        config_json(SMALL.replace(logit_soft_cap=30.0))
    with pytest.raises(CheckpointError, match="has scale_embedding and nothing else"):
        config_json(SMALL.replace(scale_embedding=True))


def test_parameters_of_another_config_are_refused(tmp_path):
    params = _params(SMALL)
    with pytest.raises(CheckpointError, match=r"layers/gate_proj: has \(2, 64, 128\)"):
        export_huggingface(tmp_path, Llama(SMALL.replace(mlp_width=96), params=params))
