"""GGUF files, written here as llama.cpp's converter writes them."""

import json

import gguf
import jax
import numpy as np
import pytest

from leco_jax.models.config import RopeConfig
from leco_jax.models.loading.assemble import CheckpointError
from leco_jax.models.loading.gguf import gguf_config, load_gguf, open_gguf
from leco_jax.models.loading.huggingface import load_huggingface
from leco_jax.models.loading.huggingface_config import huggingface_config
from leco_jax.models.rope import inverse_frequencies
from leco_jax.models.sharding import make_mesh

ARCHES = {"llama": gguf.MODEL_ARCH.LLAMA, "mistral": gguf.MODEL_ARCH.LLAMA}
ARCHES |= {"gemma": gguf.MODEL_ARCH.GEMMA, "qwen2": gguf.MODEL_ARCH.QWEN2}
ARCHES |= {"qwen3": gguf.MODEL_ARCH.QWEN3, "gemma2": gguf.MODEL_ARCH.GEMMA2}
ARCHES |= {"gemma3_text": gguf.MODEL_ARCH.GEMMA3, "olmo2": gguf.MODEL_ARCH.OLMO2}
ARCHES |= {"smollm3": gguf.MODEL_ARCH.SMOLLM3, "phi3": gguf.MODEL_ARCH.PHI3}
PERMUTED = (gguf.MODEL_ARCH.LLAMA, gguf.MODEL_ARCH.SMOLLM3)
F32 = gguf.GGMLQuantizationType.F32


def permute(x, heads):
    """What llama.cpp's converter does to the rows of queries and keys of its llama models."""
    return (
        x.reshape(heads, 2, x.shape[0] // heads // 2, *x.shape[1:]).swapaxes(1, 2).reshape(x.shape)
    )


def write_gguf(path, config, tensors, *, kind=F32, change=None, extra=None):
    """Converts a Hugging Face checkpoint; `change(writer)` adds metadata, `extra` tensors."""
    arch = ARCHES[config["model_type"]]
    writer = gguf.GGUFWriter(path, gguf.MODEL_ARCH_NAMES[arch])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_key_length(
        config.get("head_dim", config["hidden_size"] // config["num_attention_heads"])
    )
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    rope = config["rope_parameters"]
    writer.add_rope_freq_base(rope.get("full_attention", rope)["rope_theta"])
    if config.get("sliding_window"):
        writer.add_sliding_window(config["sliding_window"])
    if config.get("attn_logit_softcapping"):
        writer.add_attn_logit_softcapping(config["attn_logit_softcapping"])
    if config.get("final_logit_softcapping"):
        writer.add_final_logit_softcapping(config["final_logit_softcapping"])
    if change:
        change(writer)
    names = gguf.get_tensor_name_map(arch, config["num_hidden_layers"])
    for name, x in tensors.items():
        if arch in PERMUTED and "q_proj" in name:
            x = permute(x, config["num_attention_heads"])
        if arch in PERMUTED and "k_proj" in name:
            x = permute(x, config["num_key_value_heads"])
        if config["model_type"].startswith("gemma") and name.endswith("norm.weight"):
            x = x + 1
        stored = kind if x.ndim == 2 and x.shape[1] % 32 == 0 else F32
        writer.add_tensor(
            names.get_name(name, try_suffixes=(".weight", ".bias")),
            gguf.quants.quantize(x, stored),
            raw_dtype=stored,
        )
    for name, x in (extra or {}).items():
        writer.add_tensor(name, x)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.fixture
def convert(stored, tensors, tmp_path):
    """Function: case -> an open GGUF file of that model."""

    def make(case, *, drop=(), **options):
        values = {name: x for name, x in tensors(case).items() if name not in drop}
        path = write_gguf(tmp_path / f"{case}.gguf", stored[case]["config"], values, **options)
        return open_gguf(path)

    return make


@pytest.mark.parametrize(
    "case",
    [
        "tiny",
        "llama2_70b",
        "llama_biases",
        "mistral_7b",
        "gemma_2b",
        "qwen2_7b",
        "qwen3_8b",
        "gemma2_2b",
        "olmo2_grouped",
        "smollm3_3b",
        "phi3_mini",
        "phi4",
    ],
)
def test_gives_the_same_model_as_the_hugging_face_directory(case, convert, checkpoint):
    directory = checkpoint(case)
    config = huggingface_config(json.loads((directory / "config.json").read_text()))
    reader = convert(case)
    assert gguf_config(reader) == config
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=2e-7),
        load_gguf(reader, config),
        load_huggingface(directory, config),
    )


@pytest.mark.parametrize("kind", ["Q4_1", "Q8_0", "F16", "BF16", "Q5_0"])
def test_quantised_values(kind, convert, tensors):
    kind = gguf.GGMLQuantizationType[kind]
    reader = convert("llama2_7b", kind=kind)
    params = load_gguf(reader, gguf_config(reader))
    for path, name in (("embed", "embed_tokens"), ("v_proj", "layers.0.self_attn.v_proj")):
        x = tensors("llama2_7b")[f"model.{name}.weight"]
        want = gguf.quants.dequantize(gguf.quants.quantize(x, kind), kind)
        got = params[path] if path == "embed" else params["layers"][path][0].reshape(32, 32).T
        np.testing.assert_array_equal(got, want)
        assert 0 < np.abs(want - x).max() < 0.3


def test_sharded_equals_whole(convert):
    reader = convert("llama2_7b", kind=gguf.GGMLQuantizationType.Q8_0)
    config = gguf_config(reader)
    mesh = make_mesh(data=2, fsdp=2, tensor=2)
    sharded = load_gguf(reader, config, mesh=mesh)
    assert sharded["layers"]["q_proj"].sharding.spec == jax.P(None, "fsdp", "tensor", None)
    jax.tree.map(np.testing.assert_array_equal, sharded, load_gguf(reader, config))


@pytest.mark.parametrize(("case", "layers"), [("gemma3_1b", 6), ("gemma2_27b", 46)])
def test_what_llama_cpp_knows_by_the_architecture(case, layers, stored, tmp_path):
    """Gemma 3's pattern of 6 layers, and by how much the 27B models scale attention."""
    config = {**stored[case]["config"], "num_hidden_layers": layers}
    tensors = {"model.embed_tokens.weight": np.zeros((64, 32), np.float32)}
    got = gguf_config(open_gguf(write_gguf(tmp_path / "model.gguf", config, tensors)))
    if case == "gemma3_1b":
        assert (got.global_every, got.sliding_window, got.local_rope_theta) == (6, 6, 10_000.0)
        assert (got.rope.theta, got.score_width) == (1_000_000.0, None)
    else:
        assert (got.global_every, got.score_width) == (2, 32 // 4)


def test_linear_rope_scaling(convert):
    def change(writer):
        writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(4.0)

    rope = gguf_config(convert("llama2_7b", change=change)).rope
    assert rope == RopeConfig(theta=10_000.0, scaling="linear", factor=4.0)


@pytest.mark.parametrize("factor", [8.0, 32.0])
def test_llama3_rope_is_recognised_by_its_factors(convert, factor):
    want = RopeConfig(theta=500_000.0, scaling="llama3", factor=factor)
    plain = inverse_frequencies(RopeConfig(theta=500_000.0), 8)
    factors = (plain / inverse_frequencies(want, 8)).astype(np.float32)
    reader = convert("llama3_8b", extra={"rope_freqs.weight": factors})
    config = gguf_config(reader)
    assert config.rope == want
    load_gguf(reader, config)  # and is no extra tensor


def test_other_rope_factors_are_refused(convert):
    odd = np.array([1.0, 3.0, 5.0, 8.0], np.float32)
    with pytest.raises(CheckpointError, match=r"rope_freqs\.weight"):
        gguf_config(convert("llama3_8b", extra={"rope_freqs.weight": odd}))


def test_all_wrong_tensors_are_listed(convert):
    reader = convert(
        "llama2_7b",
        drop=["model.norm.weight", "model.layers.1.mlp.up_proj.weight"],
        extra={"blk.0.ffn_gate_inp.weight": np.ones((2, 32), np.float32)},
    )
    with pytest.raises(CheckpointError) as caught:
        load_gguf(reader, gguf_config(reader).replace(mlp_width=50), where="model.gguf")
    lines = str(caught.value).splitlines()
    assert lines[0].startswith("model.gguf: ")
    assert "    output_norm.weight" in lines
    assert "    blk.1.ffn_up.weight" in lines
    assert "    blk.0.ffn_gate_inp.weight" in lines
    assert "    blk.0.ffn_down.weight: has [32, 48], wants [32, 50]" in lines
    assert "    blk.1.ffn_gate.weight: has [48, 32], wants [50, 32]" in lines


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda w: w.add_expert_count(8), "expert_count"),
        (lambda w: w.add_sliding_window_pattern(4), "sliding_window_pattern 4 is not None"),
        (lambda w: w.add_value_length(4), "value_length"),
        (lambda w: w.add_rope_dimension_count(4), "dimension_count"),
        (lambda w: w.add_rope_scaling_type(gguf.RopeScalingType.YARN), "'yarn'"),
    ],
)
def test_unsupported_settings_are_named(convert, change, named):
    with pytest.raises(CheckpointError, match=named):
        gguf_config(convert("llama2_7b", change=change))


def test_unknown_architecture(tmp_path):
    writer = gguf.GGUFWriter(tmp_path / "x.gguf", "mamba")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    with pytest.raises(
        CheckpointError, match=r"'mamba' is not supported; supported .*: llama, gemma"
    ):
        gguf_config(open_gguf(tmp_path / "x.gguf"))


def test_missing_metadata_is_listed(tmp_path):
    writer = gguf.GGUFWriter(tmp_path / "x.gguf", "llama")
    writer.add_block_count(2)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    with pytest.raises(CheckpointError, match=r"embedding_length is missing.*token_embd\.weight"):
        gguf_config(open_gguf(tmp_path / "x.gguf"))


@pytest.mark.parametrize("content", [b"", b"GGUF", b"not a model at all"])
def test_not_a_gguf_file(tmp_path, content):
    (tmp_path / "x.gguf").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"x\.gguf: no readable GGUF file"):
        open_gguf(tmp_path / "x.gguf")


def test_cut_file(convert, tmp_path):
    convert("tiny")
    path = tmp_path / "tiny.gguf"
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(CheckpointError, match=r"tiny\.gguf: no readable GGUF file"):
        open_gguf(path)


def test_no_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"absent\.gguf"):
        open_gguf(tmp_path / "absent.gguf")
