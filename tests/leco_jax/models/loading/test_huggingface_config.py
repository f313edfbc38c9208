"""config.json in its old and new spellings; what is not supported is refused, all at once."""

import pytest

from leco_jax.models.architectures import PRESETS
from leco_jax.models.config import RopeConfig
from leco_jax.models.loading.assemble import CheckpointError
from leco_jax.models.loading.huggingface_config import huggingface_config

LLAMA = {
    "model_type": "llama",
    "vocab_size": 128,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
}

# As published with each model (the keys that bear on the maths).
PUBLISHED = {
    "smollm2_135m": {
        "model_type": "llama", "attention_bias": False, "hidden_act": "silu", "hidden_size": 576,
        "intermediate_size": 1536, "max_position_embeddings": 8192, "mlp_bias": False,
        "num_attention_heads": 9, "num_hidden_layers": 30, "num_key_value_heads": 3,
        "pretraining_tp": 1, "rms_norm_eps": 1e-05, "rope_interleaved": False,
        "rope_scaling": None, "rope_theta": 100000, "tie_word_embeddings": True,
        "torch_dtype": "bfloat16", "vocab_size": 49152,
    },
    "llama3_8b": {
        "model_type": "llama", "attention_bias": False, "hidden_act": "silu", "hidden_size": 4096,
        "intermediate_size": 14336, "max_position_embeddings": 8192, "num_attention_heads": 32,
        "num_hidden_layers": 32, "num_key_value_heads": 8, "pretraining_tp": 1,
        "rms_norm_eps": 1e-05, "rope_scaling": None, "rope_theta": 500000.0,
        "tie_word_embeddings": False, "torch_dtype": "bfloat16", "vocab_size": 128256,
    },
    "mistral_7b": {
        "model_type": "mistral", "hidden_act": "silu", "hidden_size": 4096,
        "intermediate_size": 14336, "max_position_embeddings": 32768, "num_attention_heads": 32,
        "num_hidden_layers": 32, "num_key_value_heads": 8, "rms_norm_eps": 1e-05,
        "rope_theta": 10000.0, "sliding_window": 4096, "tie_word_embeddings": False,
        "torch_dtype": "bfloat16", "vocab_size": 32000,
    },
    "gemma_2b": {
        "model_type": "gemma", "attention_bias": False, "head_dim": 256, "hidden_act": "gelu",
        "hidden_size": 2048, "intermediate_size": 16384, "max_position_embeddings": 8192,
        "num_attention_heads": 8, "num_hidden_layers": 18, "num_key_value_heads": 1,
        "rms_norm_eps": 1e-06, "rope_scaling": None, "rope_theta": 10000.0,
        "torch_dtype": "bfloat16", "vocab_size": 256000,
    },
    "qwen2_7b": {
        "model_type": "qwen2", "hidden_act": "silu", "hidden_size": 3584,
        "intermediate_size": 18944, "max_position_embeddings": 131072, "max_window_layers": 28,
        "num_attention_heads": 28, "num_hidden_layers": 28, "num_key_value_heads": 4,
        "rms_norm_eps": 1e-06, "rope_theta": 1000000.0, "sliding_window": 131072,
        "tie_word_embeddings": False, "torch_dtype": "bfloat16", "use_sliding_window": False,
        "vocab_size": 152064,
    },
    "gemma2_27b": {
        "model_type": "gemma2", "attention_bias": False, "attn_logit_softcapping": 50.0,
        "final_logit_softcapping": 30.0, "head_dim": 128, "hidden_act": "gelu_pytorch_tanh",
        "hidden_activation": "gelu_pytorch_tanh", "hidden_size": 4608, "intermediate_size": 36864,
        "max_position_embeddings": 8192, "num_attention_heads": 32, "num_hidden_layers": 46,
        "num_key_value_heads": 16, "query_pre_attn_scalar": 144, "rms_norm_eps": 1e-06,
        "rope_theta": 10000.0, "sliding_window": 4096, "torch_dtype": "bfloat16",
        "vocab_size": 256000,
    },
    "gemma3_1b": {
        "model_type": "gemma3_text", "attention_bias": False, "attn_logit_softcapping": None,
        "final_logit_softcapping": None, "head_dim": 256, "hidden_activation": "gelu_pytorch_tanh",
        "hidden_size": 1152, "intermediate_size": 6912, "max_position_embeddings": 32768,
        "num_attention_heads": 4, "num_hidden_layers": 26, "num_key_value_heads": 1,
        "query_pre_attn_scalar": 256, "rms_norm_eps": 1e-06, "rope_local_base_freq": 10000,
        "rope_scaling": None, "rope_theta": 1000000, "sliding_window": 512,
        "sliding_window_pattern": 6, "torch_dtype": "bfloat16", "vocab_size": 262144,
    },
    "olmo2_7b": {
        "model_type": "olmo2", "attention_bias": False, "hidden_act": "silu", "hidden_size": 4096,
        "intermediate_size": 11008, "max_position_embeddings": 4096, "num_attention_heads": 32,
        "num_hidden_layers": 32, "num_key_value_heads": 32, "rms_norm_eps": 1e-06,
        "rope_scaling": None, "rope_theta": 500000, "tie_word_embeddings": False,
        "torch_dtype": "bfloat16", "vocab_size": 100352,
    },
    "smollm3_3b": {
        "model_type": "smollm3", "attention_bias": False, "hidden_act": "silu",
        "hidden_size": 2048, "intermediate_size": 11008, "layer_types": ["full_attention"] * 36,
        "max_position_embeddings": 65536, "max_window_layers": 28, "mlp_bias": False,
        "no_rope_layer_interval": 4, "no_rope_layers": [1, 1, 1, 0] * 9,
        "num_attention_heads": 16, "num_hidden_layers": 36, "num_key_value_heads": 4,
        "rms_norm_eps": 1e-06, "rope_scaling": None, "rope_theta": 5000000.0,
        "sliding_window": None, "torch_dtype": "bfloat16", "use_sliding_window": False,
        "vocab_size": 128256,
    },
    "phi3_mini": {
        "model_type": "phi3", "attention_bias": False, "attention_dropout": 0.0,
        "embd_pdrop": 0.0, "hidden_act": "silu", "hidden_size": 3072, "intermediate_size": 8192,
        "max_position_embeddings": 4096, "num_attention_heads": 32, "num_hidden_layers": 32,
        "num_key_value_heads": 32, "original_max_position_embeddings": 4096, "resid_pdrop": 0.0,
        "rms_norm_eps": 1e-05, "rope_scaling": None, "rope_theta": 10000.0,
        "sliding_window": 2047, "tie_word_embeddings": False, "torch_dtype": "bfloat16",
        "vocab_size": 32064,
    },
    "phi4": {
        "model_type": "phi3", "attention_bias": False, "hidden_act": "silu", "hidden_size": 5120,
        "intermediate_size": 17920, "max_position_embeddings": 16384, "num_attention_heads": 40,
        "num_hidden_layers": 40, "num_key_value_heads": 10, "rms_norm_eps": 1e-05,
        "original_max_position_embeddings": 16384, "rope_scaling": None, "rope_theta": 250000,
        "sliding_window": None, "tie_word_embeddings": False, "torch_dtype": "bfloat16",
        "vocab_size": 100352,
    },
    "llama32_1b": {
        "model_type": "llama", "attention_bias": False, "head_dim": 64, "hidden_act": "silu",
        "hidden_size": 2048, "intermediate_size": 8192, "max_position_embeddings": 131072,
        "mlp_bias": False, "num_attention_heads": 32, "num_hidden_layers": 16,
        "num_key_value_heads": 8, "pretraining_tp": 1, "rms_norm_eps": 1e-05,
        "rope_scaling": {
            "factor": 32.0, "high_freq_factor": 4.0, "low_freq_factor": 1.0,
            "original_max_position_embeddings": 8192, "rope_type": "llama3",
        },
        "rope_theta": 500000.0, "tie_word_embeddings": True, "torch_dtype": "bfloat16",
        "vocab_size": 128256,
    },
    "mistral_7b_v03": {
        "model_type": "mistral", "hidden_act": "silu", "hidden_size": 4096,
        "intermediate_size": 14336, "max_position_embeddings": 32768, "num_attention_heads": 32,
        "num_hidden_layers": 32, "num_key_value_heads": 8, "rms_norm_eps": 1e-05,
        "rope_theta": 1000000.0, "sliding_window": None, "tie_word_embeddings": False,
        "torch_dtype": "bfloat16", "vocab_size": 32768,
    },
    "qwen25_500m": {
        "model_type": "qwen2", "hidden_act": "silu", "hidden_size": 896,
        "intermediate_size": 4864, "max_position_embeddings": 32768, "max_window_layers": 24,
        "num_attention_heads": 14, "num_hidden_layers": 24, "num_key_value_heads": 2,
        "rms_norm_eps": 1e-06, "rope_theta": 1000000.0, "sliding_window": 32768,
        "tie_word_embeddings": True, "torch_dtype": "bfloat16", "use_sliding_window": False,
        "vocab_size": 151936,
    },
    "qwen3_8b": {
        "model_type": "qwen3", "attention_bias": False, "head_dim": 128, "hidden_act": "silu",
        "hidden_size": 4096, "intermediate_size": 12288, "max_position_embeddings": 40960,
        "max_window_layers": 36, "num_attention_heads": 32, "num_hidden_layers": 36,
        "num_key_value_heads": 8, "rms_norm_eps": 1e-06, "rope_scaling": None,
        "rope_theta": 1000000, "sliding_window": None, "tie_word_embeddings": False,
        "torch_dtype": "bfloat16", "use_sliding_window": False, "vocab_size": 151936,
    },
}  # fmt: skip


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_configs_give_the_presets(name):
    want = PRESETS[name].replace(valid_vocab=None)
    if name == "smollm2_135m":  # ours to run in float32, saved in bfloat16
        want = want.replace(dtype="bfloat16", param_dtype="bfloat16")
    assert huggingface_config(PUBLISHED[name]) == want


def test_defaults_that_configs_leave_out():
    config = huggingface_config(LLAMA)
    assert (config.num_kv_heads, config.head_width, config.norm_eps) == (4, 16, 1e-6)
    assert (config.max_positions, config.tied, config.dtype) == (2048, False, "float32")
    assert config.rope == RopeConfig(theta=10_000.0)
    gemma = huggingface_config(LLAMA | {"model_type": "gemma", "num_attention_heads": 16})
    assert (gemma.tied, gemma.head_width, gemma.num_kv_heads) == (True, 256, 16)
    mistral = huggingface_config(LLAMA | {"model_type": "mistral", "num_attention_heads": 8})
    assert (mistral.sliding_window, mistral.num_kv_heads) == (4096, 8)


LLAMA31 = {
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}
YARN = {"type": "yarn", "factor": 4.0}
SCALED = RopeConfig(theta=5e5, scaling="llama3", factor=8.0, original_max_positions=8192)


@pytest.mark.parametrize(
    ("settings", "rope"),
    [
        ({"rope_theta": 5e5, "rope_scaling": {"rope_type": "llama3", **LLAMA31}}, SCALED),
        (
            {"rope_parameters": {"rope_type": "llama3", "rope_theta": 5e5, **LLAMA31}},
            SCALED,
        ),
        (
            {"rope_theta": 5e5, "rope_scaling": {"type": "linear", "factor": 4}},
            RopeConfig(theta=5e5, scaling="linear", factor=4.0),
        ),
        ({"rope_parameters": {"rope_type": "default", "rope_theta": 7.0}}, RopeConfig(theta=7.0)),
        ({"rope_theta": 9.0, "rope_parameters": {"rope_type": "default"}}, RopeConfig(theta=9.0)),
        ({"rope_theta": 9.0, "rope_scaling": None}, RopeConfig(theta=9.0)),
        (
            {"rope_scaling": YARN | {"original_max_position_embeddings": 32_768}},
            RopeConfig(scaling="yarn", factor=4.0, original_max_positions=32_768),
        ),
        (
            {"rope_scaling": YARN | {"attention_factor": 1.5, "beta_fast": 16}},
            RopeConfig(
                scaling="yarn",
                factor=4.0,
                original_max_positions=2048,
                beta_fast=16.0,
                attention_factor=1.5,
            ),
        ),
        (
            {"rope_scaling": YARN | {"mscale": 1.0, "mscale_all_dim": 1.0}},
            RopeConfig(
                scaling="yarn", factor=4.0, original_max_positions=2048, attention_factor=1.0
            ),
        ),
    ],
)
def test_rope_spellings(settings, rope):
    assert huggingface_config(LLAMA | settings).rope == rope


MISTRAL = LLAMA | {"model_type": "mistral", "num_key_value_heads": 2}
QWEN2 = LLAMA | {"model_type": "qwen2", "num_key_value_heads": 2}
GEMMA2 = LLAMA | {"model_type": "gemma2"}
THREE = {"num_hidden_layers": 3}


@pytest.mark.parametrize(
    ("raw", "window"),
    [
        (MISTRAL | {"sliding_window": 7}, 7),
        (MISTRAL | {"sliding_window": None}, None),
        (LLAMA | {"sliding_window": 7}, None),
        (QWEN2 | {"sliding_window": 7}, None),
        (QWEN2 | {"sliding_window": 7, "use_sliding_window": False}, None),
        (QWEN2 | {"sliding_window": 7, "use_sliding_window": True, "max_window_layers": 0}, 7),
        (QWEN2 | {"sliding_window": 7, "use_sliding_window": True, "max_window_layers": 4}, None),
        (
            QWEN2
            | {"sliding_window": 7, "use_sliding_window": True}
            | {"layer_types": ["sliding_attention"] * 4},
            7,
        ),
        (GEMMA2 | {"layer_types": ["full_attention"] * 4}, None),
        (GEMMA2 | {"layer_types": ["sliding_attention"] * 4}, 4096),
    ],
)
def test_sliding_window(raw, window):
    config = huggingface_config(raw)
    assert (config.sliding_window, config.global_every) == (window, None)


@pytest.mark.parametrize(
    ("raw", "every"),
    [
        (GEMMA2, 2),
        (GEMMA2 | {"layer_types": ["sliding_attention"] * 2 + ["full_attention"]} | THREE, 3),
        (GEMMA2 | {"model_type": "gemma3_text", "sliding_window_pattern": 3}, 3),
        (GEMMA2 | {"model_type": "gemma3_text", "num_hidden_layers": 7}, 6),
        (
            QWEN2
            | {"use_sliding_window": True}
            | {"layer_types": ["sliding_attention", "full_attention"] * 2},
            2,
        ),
    ],
)
def test_layers_without_the_window(raw, every):
    config = huggingface_config(raw)
    assert (config.sliding_window, config.global_every) == (4096, every)


def test_layers_without_rope():
    smollm3 = LLAMA | {"model_type": "smollm3"}
    assert huggingface_config(smollm3).no_rope_every == 4
    assert huggingface_config(smollm3 | {"no_rope_layers": [1, 0, 1, 0]}).no_rope_every == 2
    assert huggingface_config(smollm3 | {"no_rope_layers": [1, 1, 1, 1]}).no_rope_every is None
    with pytest.raises(CheckpointError, match="no_rope_layers that are not every n-th"):
        huggingface_config(smollm3 | {"no_rope_layers": [1, 0, 1, 1]})


def test_gemma_3_has_two_rotary_embeddings():
    gemma3 = GEMMA2 | {"model_type": "gemma3_text"}
    linear = {"rope_type": "linear", "factor": 8.0}
    old = {"rope_theta": 5e5, "rope_local_base_freq": 2e4, "rope_scaling": linear}
    new = {
        "full_attention": linear | {"rope_theta": 5e5},
        "sliding_attention": {"rope_type": "default", "rope_theta": 2e4},
    }
    for settings in (old, {"rope_parameters": new}):
        config = huggingface_config(gemma3 | settings)
        assert config.rope == RopeConfig(theta=5e5, scaling="linear", factor=8.0)
        assert config.local_rope_theta == 2e4
    config = huggingface_config(gemma3)
    assert (config.rope.theta, config.local_rope_theta) == (1e6, 1e4)
    bad = {"rope_parameters": new | {"sliding_attention": linear}}
    with pytest.raises(CheckpointError, match="rope type 'linear' in layers with a window"):
        huggingface_config(gemma3 | bad)


@pytest.mark.parametrize(
    ("settings", "dtype"),
    [
        ({"torch_dtype": "float16"}, "bfloat16"),
        ({"dtype": "bfloat16"}, "bfloat16"),
        ({"dtype": None, "torch_dtype": "float32"}, "float32"),
        ({"torch_dtype": "torch.bfloat16"}, "bfloat16"),
    ],
)
def test_dtype_spellings(settings, dtype):
    config = huggingface_config(LLAMA | settings)
    assert (config.dtype, config.param_dtype) == (dtype, dtype)


def test_biases():
    assert not huggingface_config(LLAMA).qkv_bias
    both = huggingface_config(LLAMA | {"attention_bias": True})
    assert (both.qkv_bias, both.o_bias) == (True, True)
    qwen = huggingface_config(QWEN2)
    assert (qwen.qkv_bias, qwen.o_bias) == (True, False)


def test_soft_caps():
    assert huggingface_config(LLAMA | {"final_logit_softcapping": 30.0}).logit_soft_cap == 30.0
    gemma2 = huggingface_config(GEMMA2)
    assert (gemma2.attention_soft_cap, gemma2.logit_soft_cap) == (50.0, 30.0)
    off = {"attn_logit_softcapping": None, "final_logit_softcapping": None}
    gemma2 = huggingface_config(GEMMA2 | off)
    assert (gemma2.attention_soft_cap, gemma2.logit_soft_cap) == (None, None)


def test_score_width():
    assert huggingface_config(GEMMA2).score_width is None  # 256, as the head's width
    assert huggingface_config(GEMMA2 | {"query_pre_attn_scalar": 224}).score_width == 224


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"model_type": "mixtral"}, "model_type 'mixtral' is not supported; supported: llama, mis"),
        ({"model_type": None}, "model_type None"),
        ({"hidden_size": None}, "hidden_size missing"),
        (
            {"rope_scaling": {"rope_type": "yarn", "factor": 4.0, "truncate": False}},
            "rope type 'yarn'.*supported: default, linear, llama3, yarn",
        ),
        (
            {"rope_scaling": {"type": "yarn", "factor": 4.0, "long_factor": [1.0]}},
            "rope type 'longrope' under the name of 'yarn'",
        ),
        (
            {"model_type": "phi3", "rope_scaling": {"type": "longrope", "long_factor": [1.0]}},
            "rope type 'longrope'",
        ),
        ({"model_type": "phi3", "partial_rotary_factor": 0.75}, "partial_rotary_factor=0.75"),
        ({"rope_scaling": {"type": "dynamic", "factor": 4.0}}, "rope type 'dynamic'"),
        ({"rope_scaling": {"rope_type": "llama3", "factor": 8.0}}, "without low_freq_factor, high"),
        ({"rope_scaling": {"rope_type": "linear"}}, "rope type 'linear'"),
        ({"rope_parameters": {"full_attention": {"rope_theta": 1.0}}}, "one set per layer type"),
        ({"rope_parameters": {"partial_rotary_factor": 0.5}}, "partial_rotary_factor=0.5"),
        ({"hidden_act": "relu"}, "hidden_act='relu'"),
        ({"hidden_act": "gelu"}, "hidden_act='gelu'"),
        ({"mlp_bias": True}, "mlp_bias=True"),
        ({"quantization_config": {"bits": 4}}, "quantization_config"),
        ({"attn_logit_softcapping": 50.0}, "attn_logit_softcapping=50.0"),
        ({"rope_interleaved": True}, "rope_interleaved=True"),
        ({"torch_dtype": "float8_e4m3fn"}, "dtype='float8_e4m3fn'"),
        ({"num_attention_heads": 5}, "hidden_size=64 is not a multiple of 5 heads"),
        (
            {"model_type": "qwen2", "use_sliding_window": True, "max_window_layers": 2},
            "sliding_window in some layers only",
        ),
    ],
)
def test_unsupported_settings_are_named(settings, named):
    with pytest.raises(CheckpointError, match=named):
        huggingface_config(LLAMA | {"num_key_value_heads": 4} | settings)


def test_all_unsupported_settings_are_in_one_error():
    bad = {"mlp_bias": True, "hidden_act": "relu", "rope_scaling": {"type": "yarn"}}
    with pytest.raises(CheckpointError) as caught:
        huggingface_config(LLAMA | bad)
    for part in ("mlp_bias=True", "hidden_act='relu'", "rope type 'yarn'"):
        assert part in str(caught.value)
