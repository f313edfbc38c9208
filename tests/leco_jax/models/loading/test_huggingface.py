"""Hugging Face directories: one file or many, and everything that can be wrong with them."""

import json

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from leco_jax.models.loading.assemble import CheckpointError
from leco_jax.models.loading.huggingface import load_huggingface, read_json, safetensors_files
from leco_jax.models.loading.huggingface_config import huggingface_config
from leco_jax.models.sharding import make_mesh


def load(directory, **options):
    config = huggingface_config(read_json(directory / "config.json"))
    return load_huggingface(directory, config, **options)


def edit(directory, change):
    """Rewrites a checkpoint's only file after `change(tensors)`."""
    tensors = load_file(directory / "model.safetensors")
    change(tensors)
    save_file(tensors, directory / "model.safetensors")


def test_many_files_equal_one(checkpoint, tmp_path):
    (tmp_path / "many").mkdir()
    many = checkpoint("qwen2_7b", files=3, directory=tmp_path / "many")
    assert len(safetensors_files(many)) == 3
    jax.tree.map(np.testing.assert_array_equal, load(many), load(checkpoint("qwen2_7b")))


@pytest.mark.heavy
def test_loads_straight_onto_a_mesh(checkpoint, run, figures):
    directory = checkpoint("llama2_7b")
    config = huggingface_config(read_json(directory / "config.json"))
    mesh = make_mesh(data=2, fsdp=2, tensor=2)
    params = load_huggingface(directory, config, mesh=mesh)
    assert params["layers"]["q_proj"].addressable_shards[0].data.shape == (2, 16, 2, 8)
    with jax.set_mesh(mesh), np.load(figures.LOGITS) as file:
        got = run(params, config, file["tokens"])
        np.testing.assert_allclose(got, file["llama2_7b"], atol=1e-4)


def test_bfloat16_files(checkpoint):
    directory = checkpoint("tiny")
    want = load(directory)
    edit(directory, lambda t: t.update({k: v.astype(ml_dtypes.bfloat16) for k, v in t.items()}))
    got = load(directory)
    assert got["embed"].dtype == jnp.float32
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(a, b.astype(jnp.bfloat16)), got, want)


def test_all_wrong_tensors_are_listed(checkpoint):
    directory = checkpoint("llama2_7b")

    def change(tensors):
        del tensors["lm_head.weight"]
        tensors["model.norm.weight"] = np.ones(31, np.float32)
        tensors["model.layers.0.self_attn.q_proj.bias"] = np.ones(32, np.float32)

    edit(directory, change)
    with pytest.raises(CheckpointError) as caught:
        load(directory)
    for part in (
        "llama2_7b",
        "1 missing:\n    lm_head.weight",
        "1 extra:\n    model.layers.0.self_attn.q_proj.bias",
        "1 mis-shaped:\n    model.norm.weight: has [31], wants [32]",
    ):
        assert part in str(caught.value)


def test_computed_and_doubled_tensors_are_ignored(checkpoint):
    directory = checkpoint("tiny")
    want = load(directory)

    def change(tensors):
        tensors["model.layers.0.self_attn.rotary_emb.inv_freq"] = np.ones(4, np.float32)
        tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"]

    edit(directory, change)
    jax.tree.map(np.testing.assert_array_equal, load(directory), want)


def test_files_that_the_index_names_are_missing(checkpoint):
    directory = checkpoint("tiny", files=3)
    for i in (1, 3):
        (directory / f"model-0000{i}-of-00003.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"00001-of-00003\.safetensors, model-00003-of"):
        load(directory)


def test_no_safetensors(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no \*\.safetensors file$"):
        safetensors_files(tmp_path)
    (tmp_path / "pytorch_model.bin").touch()
    with pytest.raises(FileNotFoundError, match=r"pytorch_model\.bin must be converted"):
        safetensors_files(tmp_path)


def test_files_with_other_names_are_found_without_an_index(checkpoint):
    directory = checkpoint("tiny")
    want = load(directory)
    (directory / "model.safetensors").rename(directory / "weights.safetensors")
    jax.tree.map(np.testing.assert_array_equal, load(directory), want)


@pytest.mark.parametrize("size", [0, 5, 300])
def test_cut_file(checkpoint, size):
    directory = checkpoint("tiny")
    path = directory / "model.safetensors"
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(CheckpointError, match=r"model\.safetensors: no readable safetensors"):
        load(directory)


@pytest.mark.parametrize("text", ["{", "[]", "\xff"])
def test_bad_json(tmp_path, text):
    (tmp_path / "config.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(CheckpointError, match=r"config\.json"):
        read_json(tmp_path / "config.json")


def test_index_without_a_map(tmp_path):
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}}))
    with pytest.raises(CheckpointError, match="weight_map"):
        safetensors_files(tmp_path)
