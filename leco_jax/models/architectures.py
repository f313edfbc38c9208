"""Architectures by name. Sizes are those of the published configurations."""

import dataclasses
from typing import Any

from leco_jax.models.config import ModelConfig, RopeConfig

_SIZES = [field.name for field in dataclasses.fields(ModelConfig)][:7]  # V, D, F, L, N, K, H
_BFLOAT16 = {"param_dtype": "bfloat16", "dtype": "bfloat16"}


def _model(*sizes: int, **settings: Any) -> ModelConfig:
    return ModelConfig(**(settings | dict(zip(_SIZES, sizes, strict=True))))


_LLAMA2 = _model(32_000, 4096, 11_008, 32, 32, 32, 128, **_BFLOAT16)
_LLAMA3 = _model(
    128_256, 4096, 14_336, 32, 32, 8, 128,
    rope=RopeConfig(theta=500_000.0), max_positions=8192, **_BFLOAT16,
)  # fmt: skip
_LLAMA3_70B = _LLAMA3.replace(width=8192, mlp_width=28_672, num_layers=80, num_heads=64)


def _llama3_rope(factor: float) -> RopeConfig:
    return RopeConfig(theta=500_000.0, scaling="llama3", factor=factor)


_LLAMA3_LONG = {"rope": _llama3_rope(8.0), "max_positions": 131_072}
_GEMMA2 = _model(
    256_000, 2304, 9216, 26, 8, 4, 256,
    norm_eps=1e-6, activation="gelu_tanh", tied=True, scale_embedding=True, norm_plus_one=True,
    norms="both", sliding_window=4096, global_every=2, attention_soft_cap=50.0,
    logit_soft_cap=30.0, max_positions=8192, **_BFLOAT16,
)  # fmt: skip
# The embedding is padded from 151_646 tokens.
_QWEN2 = _model(
    152_064, 3584, 18_944, 28, 28, 4, 128,
    norm_eps=1e-6, rope=RopeConfig(theta=1_000_000.0), qkv_bias=True, max_positions=131_072,
    valid_vocab=151_646, **_BFLOAT16,
)  # fmt: skip
# The embedding is padded from 151_669 tokens.
_QWEN3 = _model(
    151_936, 4096, 12_288, 36, 32, 8, 128,
    norm_eps=1e-6, rope=RopeConfig(theta=1_000_000.0), qk_norm="head", max_positions=40_960,
    valid_vocab=151_669, **_BFLOAT16,
)  # fmt: skip

PRESETS: dict[str, ModelConfig] = {
    # For tests and dry runs: every size small, grouped-query attention, float32.
    "tiny": _model(256, 64, 128, 2, 4, 2, 16, tied=True, max_positions=512),
    # The bundled reasoner of configs/sft_arithmetic.py: 1.4 million parameters.
    "arithmetic_1m": _model(640, 128, 384, 6, 4, 4, 32, tied=True, max_positions=1024),
    # The weak model of configs/w2s_demo.py: 0.5 million parameters.
    "arithmetic_500k": _model(640, 96, 288, 4, 4, 4, 24, tied=True, max_positions=1024),
    "smollm2_135m": _model(
        49_152, 576, 1536, 30, 9, 3, 64,
        rope=RopeConfig(theta=100_000.0), tied=True, max_positions=8192,
    ),
    "phi3_mini": _model(
        32_064, 3072, 8192, 32, 32, 32, 96, sliding_window=2047, **_BFLOAT16,
    ),
    "phi4": _model(
        100_352, 5120, 17_920, 40, 40, 10, 128,
        rope=RopeConfig(theta=250_000.0), max_positions=16_384, **_BFLOAT16,
    ),
    "smollm3_3b": _model(
        128_256, 2048, 11_008, 36, 16, 4, 128,
        norm_eps=1e-6, rope=RopeConfig(theta=5_000_000.0), no_rope_every=4, tied=True,
        max_positions=65_536, **_BFLOAT16,
    ),
    "llama2_7b": _LLAMA2,
    "llama2_13b": _model(32_000, 5120, 13_824, 40, 40, 40, 128, **_BFLOAT16),
    "llama2_70b": _model(32_000, 8192, 28_672, 80, 64, 8, 128, **_BFLOAT16),
    "llama3_8b": _LLAMA3,
    "llama3_70b": _LLAMA3_70B,
    "llama31_8b": _LLAMA3.replace(**_LLAMA3_LONG),
    "llama31_70b": _LLAMA3_70B.replace(**_LLAMA3_LONG),
    "llama32_1b": _model(
        128_256, 2048, 8192, 16, 32, 8, 64,
        rope=_llama3_rope(32.0), tied=True, max_positions=131_072, **_BFLOAT16,
    ),
    # v0.1: the one whose published configuration has the sliding window.
    "mistral_7b": _model(
        32_000, 4096, 14_336, 32, 32, 8, 128,
        sliding_window=4096, max_positions=32_768, **_BFLOAT16,
    ),
    "mistral_7b_v03": _model(
        32_768, 4096, 14_336, 32, 32, 8, 128,
        rope=RopeConfig(theta=1_000_000.0), max_positions=32_768, **_BFLOAT16,
    ),
    "gemma_2b": _model(
        256_000, 2048, 16_384, 18, 8, 1, 256,
        norm_eps=1e-6, activation="gelu_tanh", tied=True, scale_embedding=True,
        norm_plus_one=True, max_positions=8192, **_BFLOAT16,
    ),
    "gemma2_2b": _GEMMA2,
    "gemma2_27b": _GEMMA2.replace(
        width=4608, mlp_width=36_864, num_layers=46, num_heads=32, num_kv_heads=16, head_width=128,
        score_width=144,
    ),
    "gemma3_1b": _GEMMA2.replace(
        vocab_size=262_144, width=1152, mlp_width=6912, num_heads=4, num_kv_heads=1,
        rope=RopeConfig(theta=1_000_000.0), local_rope_theta=10_000.0, qk_norm="head",
        sliding_window=512, global_every=6, attention_soft_cap=None, logit_soft_cap=None,
        max_positions=32_768,
    ),
    "qwen2_7b": _QWEN2,
    # Its tokenizer has 19 tokens more.
    "qwen25_7b": _QWEN2.replace(valid_vocab=151_665),
    "qwen25_500m": _QWEN2.replace(
        vocab_size=151_936, width=896, mlp_width=4864, num_layers=24, num_heads=14, num_kv_heads=2,
        head_width=64, tied=True, max_positions=32_768, valid_vocab=151_665,
    ),
    "qwen3_600m": _QWEN3.replace(
        width=1024, mlp_width=3072, num_layers=28, num_heads=16, tied=True
    ),
    "qwen3_8b": _QWEN3,
    "olmo2_7b": _model(
        100_352, 4096, 11_008, 32, 32, 32, 128,
        norm_eps=1e-6, rope=RopeConfig(theta=500_000.0), qk_norm="projection", norms="after",
        **_BFLOAT16,
    ),
}  # fmt: skip


def preset(name: str, **changes) -> ModelConfig:
    """The preset called `name`, with some fields changed; ValueError lists the names there are."""
    if name not in PRESETS:
        raise ValueError(f"no preset {name!r}; there are: {', '.join(sorted(PRESETS))}")
    return PRESETS[name].replace(**changes)
