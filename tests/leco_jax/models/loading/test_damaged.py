"""Damaged models: each is refused by one clear message, and never by anything else."""

import contextlib
import json
import math
import shutil
import time

import gguf
import jax
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from leco_jax.examples import bundled_path
from leco_jax.models.architectures import preset
from leco_jax.models.llama import Llama
from leco_jax.models.loading import CheckpointError, load_model
from leco_jax.models.loading.export import export_huggingface
from leco_jax.models.loading.orbax import save_orbax
from leco_jax.models.weights import weight_table
from leco_jax.text.tokenizer import load_tokenizer

CONFIG = preset("tiny", vocab_size=640, num_layers=1, width=32, mlp_width=48, head_width=8)
WEIGHTS = "model.safetensors"
SLOWEST = 1.0  # seconds of the process, for a damaged model


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    directory = tmp_path_factory.mktemp("whole") / "model"
    tokenizer = load_tokenizer(bundled_path("arithmetic-1m"))
    export_huggingface(directory, Llama(CONFIG, rngs=jax.random.key(0)), tokenizer)
    return directory


@pytest.fixture
def copy(whole, tmp_path):
    return shutil.copytree(whole, tmp_path / "copy")


def change(directory, name, value):
    tensors = load_file(directory / WEIGHTS)
    tensors[name] = value(tensors[name])
    save_file(tensors, directory / WEIGHTS)


def with_nan(x):
    x = x.copy()
    x.flat[5] = np.nan
    return x


@pytest.mark.heavy
def test_the_first_weight_that_is_not_finite_is_named(copy):
    name = "model.layers.0.mlp.up_proj.weight"
    change(copy, name, with_nan)
    with pytest.raises(CheckpointError, match=f"tensor {name} holds NaN or infinity"):
        load_model(copy)


def test_a_weight_of_an_orbax_model_that_is_not_finite_is_named(tmp_path):
    model = Llama(CONFIG, rngs=jax.random.key(0))
    model.layers["q_proj"][...] = model.layers["q_proj"][...].at[0, 0, 0, 0].set(np.inf)
    save_orbax(tmp_path / "model", model, load_tokenizer(bundled_path("arithmetic-1m")))
    with pytest.raises(CheckpointError, match="layers/q_proj holds NaN or infinity"):
        load_model(tmp_path / "model")


@pytest.mark.parametrize("dtype", ["int64", "bool"])
def test_weights_that_are_not_of_floating_point_are_refused(copy, dtype):
    change(copy, "model.norm.weight", lambda x: x.astype(dtype))
    with pytest.raises(CheckpointError, match=rf"model.norm.weight is stored as {dtype}"):
        load_model(copy)


@pytest.mark.parametrize("name", ["../{}", "/etc/{}", "a/../../{}"])
def test_shards_lie_inside_the_directory(copy, name):
    shard = name.format(WEIGHTS)
    shutil.copy(copy / WEIGHTS, copy.parent / WEIGHTS)
    index = {"weight_map": dict.fromkeys(load_file(copy / WEIGHTS), shard)}
    (copy / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(CheckpointError, match="names files outside the directory"):
        load_model(copy)


@pytest.mark.heavy
def test_a_tokenizer_with_more_ids_than_the_embedding_has_rows_is_refused(tmp_path):
    small = CONFIG.replace(vocab_size=600)
    tokenizer = load_tokenizer(bundled_path("arithmetic-1m"))
    export_huggingface(tmp_path / "a", Llama(small, rngs=jax.random.key(0)), tokenizer)
    with pytest.raises(CheckpointError, match="tokenizer has 640 ids and the embedding 600 rows"):
        load_model(tmp_path / "a")


@pytest.mark.slow
def test_damaged_directories_give_one_clear_message(whole, tmp_path):
    draw = np.random.default_rng(0)
    config = json.loads((whole / "config.json").read_text())
    values = (None, -1, 0, 10**9, 1.5, "x", [], {}, True, float("nan"))
    cases = [("config.json", json.dumps(config | {k: v})) for k in config for v in values]
    for name in ("config.json", WEIGHTS):
        data = (whole / name).read_bytes()
        for i in range(60):
            cut = data[: int(draw.integers(len(data)))]
            flipped = bytearray(data)
            for at in draw.integers(min(len(data), 2000), size=3):
                flipped[at] = int(draw.integers(256))
            cases.append((name, cut if i % 2 else bytes(flipped)))
    assert len(cases) >= 100
    shutil.copytree(whole, tmp_path / "model")
    for name, content in cases:
        content = content.encode() if isinstance(content, str) else content
        (tmp_path / "model" / name).write_bytes(content)
        # Some changes change nothing that counts; what is refused is refused by these alone.
        with contextlib.suppress(CheckpointError, FileNotFoundError):
            load_model(tmp_path / "model")
        shutil.copy(whole / name, tmp_path / "model" / name)


def write_gguf(path):
    pieces = [*"abcdefgh", "ab", "<end>"]
    config = CONFIG.replace(vocab_size=len(pieces), qkv_bias=True)
    writer = gguf.GGUFWriter(path, "qwen2")
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
    draw = np.random.default_rng(0)
    for weight in weight_table(config).values():
        shape = [math.prod(config.sizes[d] for d in g) for g in weight.stored.split(",")]
        writer.add_tensor(weight.gguf.format(0), draw.standard_normal(shape, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def attack_gguf(path, count):
    """Loads `count` mutated copies; returns how many were refused."""
    write_gguf(path)
    load_model(path)
    data = path.read_bytes()
    head = data.index(b"blk.0") + 1600  # metadata and the tensors' names, shapes and offsets
    draw = np.random.default_rng(1)
    refused = 0
    for i in range(count):
        mutated = bytearray(data)
        if i % 5 == 0:
            mutated = mutated[: int(draw.integers(len(data)))]
        else:
            for at in draw.integers(head, size=1 + i % 3):
                mutated[at] = int(draw.choice([0, 1, 127, 255]) if i % 2 else draw.integers(256))
        path.write_bytes(mutated)
        began = time.process_time()
        try:
            load_model(path)
        except CheckpointError:
            refused += 1
        assert time.process_time() - began < SLOWEST, i
    return refused


def test_mutated_gguf_files_give_one_clear_message(tmp_path):
    assert attack_gguf(tmp_path / "model.gguf", 60) > 30


@pytest.mark.slow
def test_very_many_mutated_gguf_files_give_one_clear_message(tmp_path):
    assert attack_gguf(tmp_path / "model.gguf", 1_500) > 1_000


def test_a_length_beyond_the_end_of_a_gguf_file_is_refused_at_once(tmp_path):
    # Once the reader went on for ever, taking memory as it did.
    path = tmp_path / "model.gguf"
    write_gguf(path)
    data = path.read_bytes()
    at = data.index(b"tokenizer.ggml.token_type") + len("tokenizer.ggml.token_type") + 8
    path.write_bytes(data[:at] + (2**40).to_bytes(8, "little") + data[at + 8 :])
    with pytest.raises(CheckpointError, match="beyond the end of the file"):
        load_model(path)
