"""`load_model`: one call for a name, a directory or a file."""

import json

import gguf
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tokenizers
from tokenizers import decoders, models, pre_tokenizers

from leco_jax.models.architectures import preset
from leco_jax.models.loading import CheckpointError, load_model
from leco_jax.models.loading.gguf import gguf_config, open_gguf
from leco_jax.models.sharding import make_mesh

PIECES = [*"abcdefgh", "ab", "<end>"]


@pytest.fixture
def directory(checkpoint):
    """A Hugging Face directory with a tokenizer of ten tokens."""
    directory = checkpoint("tiny")
    vocab = {piece: i for i, piece in enumerate(PIECES)}
    tokenizer = tokenizers.Tokenizer(models.BPE(vocab=vocab, merges=[("a", "b")]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([tokenizers.AddedToken("<end>", special=True)])
    tokenizer.save(str(directory / "tokenizer.json"))
    (directory / "tokenizer_config.json").write_text(json.dumps({"eos_token": "<end>"}))
    return directory


def write_gguf(path, stored, values):
    config = stored["config"]
    writer = gguf.GGUFWriter(path, "qwen2")
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(PIECES)
    writer.add_token_types([1] * 9 + [3])
    writer.add_token_merges(["a b"])
    writer.add_eos_token_id(9)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.QWEN2, config["num_hidden_layers"])
    for name, x in values.items():
        writer.add_tensor(names.get_name(name, try_suffixes=(".weight", ".bias")), x)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_directory(directory):
    model = load_model(directory)
    assert model.tokenizer.encode("abc") == [8, 2]
    assert model.tokenizer.eos_ids == (9,)
    assert model.config.vocab_size == 64
    assert model.config.valid_vocab == 10  # the other rows are padding
    assert model.params["embed"].shape == (64, 32)


def test_gguf_file_and_directory_with_one(stored, tensors, tmp_path):
    path = write_gguf(tmp_path / "model.gguf", stored["qwen2_7b"], tensors("qwen2_7b"))
    for where in (path, tmp_path):
        model = load_model(where)
        assert model.tokenizer.encode("abc") == [8, 2]
        assert model.config.valid_vocab == 10
        np.testing.assert_array_equal(
            model.params["layers"]["q_bias"][1].reshape(-1),
            tensors("qwen2_7b")["model.layers.1.self_attn.q_proj.bias"],
        )


def test_dtypes(directory):
    plain = load_model(directory)
    assert (plain.config.dtype, plain.params["embed"].dtype) == ("float32", jnp.float32)
    both = load_model(directory, dtype="bfloat16")
    assert (both.config.dtype, both.params["embed"].dtype) == ("bfloat16", jnp.bfloat16)
    mixed = load_model(directory, dtype="bfloat16", param_dtype="float32")
    assert (mixed.config.dtype, mixed.params["embed"].dtype) == ("bfloat16", jnp.float32)


def test_layers_one_by_one(directory):
    stacked, listed = (load_model(directory, unstacked=u).params for u in (False, True))
    assert [layer["q_proj"].shape for layer in listed["layers"]] == [
        stacked["layers"]["q_proj"].shape[1:]
    ] * len(stacked["layers"]["q_proj"])
    np.testing.assert_array_equal(listed["layers"][1]["q_proj"], stacked["layers"]["q_proj"][1])


def test_mesh(directory):
    model = load_model(directory, mesh=make_mesh(data=2, fsdp=2, tensor=2))
    assert model.params["embed"].sharding.spec == jax.P("tensor", "fsdp")


def test_unknown_name(tmp_path):
    with pytest.raises(FileNotFoundError, match="no model of that name; names: smollm2-135m-inst"):
        load_model("smollm3")
    with pytest.raises(FileNotFoundError, match=r"neither a config\.json"):
        load_model(tmp_path)


def test_bad_config_is_said_before_weights_are_read(directory):
    raw = json.loads((directory / "config.json").read_text())
    (directory / "config.json").write_text(json.dumps(raw | {"mlp_bias": True}))
    (directory / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match="mlp_bias"):
        load_model(directory)


def test_smollm2_scores_a_text_as_transformers_does(fetched_smollm2, figures, run):
    figures_of = json.loads(figures.SMOLLM2.read_text())
    model = load_model(fetched_smollm2)
    ids = model.tokenizer.encode(figures.TEXT, allow_special=True)
    assert ids == figures_of["tokens"]
    tokens = np.asarray([ids])
    got = figures.token_logprobs(np.asarray(run(model.params, model.config, tokens)), tokens)
    np.testing.assert_allclose(got[0], figures_of["logprobs"], atol=1e-4)


def test_smollm2_is_its_preset(fetched_smollm2):
    assert gguf_config(open_gguf(fetched_smollm2)) == preset("smollm2_135m")
