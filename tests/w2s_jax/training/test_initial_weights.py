"""Models from one format to another, and what a training run ended with."""

import math

import gguf
import jax
import numpy as np
import pytest

from leco_jax.configuration import build
from leco_jax.examples import bundled_path
from leco_jax.models import lora as lo
from leco_jax.models.architectures import preset
from leco_jax.models.llama import Llama
from leco_jax.models.loading import LoadedModel, load_model
from leco_jax.models.loading.export import export_huggingface
from leco_jax.models.loading.orbax import save_orbax
from leco_jax.models.sharding import make_mesh
from leco_jax.models.weights import weight_table
from leco_jax.text.tokenizer import load_tokenizer
from w2s_jax.training.checkpoints import load_weights
from w2s_jax.training.initial_weights import read_model
from w2s_jax.training.job import run_job
from w2s_jax.training.job_config import TrainingConfig, training_config

CONFIG = preset("tiny", vocab_size=640, num_layers=3)


@pytest.fixture(scope="module")
def mesh():
    return make_mesh(fsdp=-1)


@pytest.fixture(scope="module")
def model():
    return LoadedModel(
        Llama(CONFIG, rngs=jax.random.key(0)), load_tokenizer(bundled_path("arithmetic-1m"))
    )


def _write(directory, model, form=export_huggingface):
    form(directory, model.model, model.tokenizer)


def _same(a, b):
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        np.testing.assert_array_equal(np.asarray(x, np.float32), np.asarray(y, np.float32))


@pytest.mark.heavy
def test_huggingface_to_orbax_and_back(tmp_path, model, mesh):
    _write(tmp_path / "a", model)
    _write(tmp_path / "b", read_model(str(tmp_path / "a"), mesh), save_orbax)
    _write(tmp_path / "c", read_model(str(tmp_path / "b"), mesh))
    for name in ("model.safetensors", "config.json", "tokenizer.model", "tokenizer_config.json"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "c" / name).read_bytes()
    half = read_model(str(tmp_path / "b"), mesh, dtype="bfloat16")
    assert half.config.param_dtype == "bfloat16"
    _same(half.params, jax.tree.map(lambda x: x.astype("bfloat16"), model.params))


def test_gguf_to_huggingface(tmp_path, mesh):
    pieces = [*"abcdefgh", "ab", "<end>"]
    config = preset("tiny", vocab_size=len(pieces), qkv_bias=True)
    writer = gguf.GGUFWriter(tmp_path / "model.gguf", "qwen2")
    writer.add_embedding_length(config.width)
    writer.add_feed_forward_length(config.mlp_width)
    writer.add_block_count(config.num_layers)
    writer.add_head_count(config.num_heads)
    writer.add_head_count_kv(config.num_kv_heads)
    writer.add_layer_norm_rms_eps(config.norm_eps)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(pieces)
    writer.add_token_types([1] * 9 + [3])
    writer.add_token_merges(["a b"])
    writer.add_eos_token_id(9)
    writer.add_chat_template("{{ messages[0].content }}<end>")
    draw = np.random.default_rng(0)
    for path, weight in weight_table(config).items():
        for layer in range(config.num_layers) if path.startswith("layers") else (0,):
            groups = [[config.sizes[d] for d in g] for g in weight.stored.split(",")]
            values = draw.standard_normal([math.prod(g) for g in groups], np.float32)
            writer.add_tensor(weight.gguf.format(layer), values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()

    read = read_model(str(tmp_path / "model.gguf"), mesh)
    _write(tmp_path / "hf", read)
    again = load_model(tmp_path / "hf")
    assert again.config == read.config
    _same(again.params, read.params)
    assert again.tokenizer.encode("abc<end>", allow_special=True) == [8, 2, 9]
    for name in ("eos_ids", "bos_id", "pad_id", "special_ids", "chat_template", "wants_bos"):
        assert getattr(again.tokenizer, name) == getattr(read.tokenizer, name)


def test_a_training_run_with_adapters_gives_the_merged_model(tmp_path, model, mesh):
    _write(tmp_path / "start", model)
    (tmp_path / "data.jsonl").write_text('{"prompt": "1 + 1 =", "completion": " 2"}\n' * 8)
    config = training_config()
    config.model.name = str(tmp_path / "start")
    config.data.source = str(tmp_path / "data.jsonl")
    config.data.length = 16
    config.lora.rank = 2
    config.lora.layers = (0, 2)
    config.optimizer.learning_rate = 0.1
    config.run.num_steps = 2
    run_job(build(TrainingConfig, config), tmp_path / "run")

    found = read_model(str(tmp_path / "run"), mesh)
    lora = lo.LoraConfig(rank=2, layers=(0, 2))
    shapes = jax.eval_shape(lambda: lo.init_adapters(CONFIG, lora, jax.random.key(0)))
    whole = jax.sharding.NamedSharding(mesh, jax.P())
    shapes = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=whole), {"adapters": shapes}
    )
    adapters = load_weights(tmp_path / "run" / "checkpoints", shapes)["adapters"]
    assert np.any(np.asarray(adapters["q_proj"]["b"]) != 0)
    merged = lo.merge(model.params, adapters, lora)
    for name, x in found.params["layers"].items():
        np.testing.assert_allclose(x, merged["layers"][name], atol=1e-6)
        changed = [bool(np.any(x[i] != model.params["layers"][name][i])) for i in range(3)]
        assert changed == ([True, False, True] if name.endswith("proj") else [False] * 3)
    half = read_model(str(tmp_path / "run"), mesh, dtype="bfloat16")
    assert half.config.dtype == "bfloat16"
    assert half.params["embed"].dtype == "bfloat16"
