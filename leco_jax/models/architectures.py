"""Architectures by name. Sizes are those of the published configurations."""

from leco_jax.models.config import ModelConfig, RopeConfig

_LLAMA2 = ModelConfig(
    vocab_size=32_000,
    width=4096,
    mlp_width=11_008,
    num_layers=32,
    num_heads=32,
    num_kv_heads=32,
    head_width=128,
    norm_eps=1e-5,
    max_positions=4096,
    param_dtype="bfloat16",
    dtype="bfloat16",
)

_LLAMA3 = _LLAMA2.replace(
    vocab_size=128_256,
    mlp_width=14_336,
    num_kv_heads=8,
    rope=RopeConfig(theta=500_000.0),
    max_positions=8192,
)

PRESETS: dict[str, ModelConfig] = {
    # For tests and dry runs: every size small, grouped-query attention, float32.
    "tiny": ModelConfig(
        vocab_size=256,
        width=64,
        mlp_width=128,
        num_layers=2,
        num_heads=4,
        num_kv_heads=2,
        head_width=16,
        tied=True,
        max_positions=512,
    ),
    # The bundled reasoner of configs/sft_arithmetic.py: 1.4 million parameters.
    "arithmetic_1m": ModelConfig(
        vocab_size=640,
        width=128,
        mlp_width=384,
        num_layers=6,
        num_heads=4,
        num_kv_heads=4,
        head_width=32,
        tied=True,
        max_positions=1024,
    ),
    # The weak model of configs/w2s_demo.py: 0.5 million parameters.
    "arithmetic_500k": ModelConfig(
        vocab_size=640,
        width=96,
        mlp_width=288,
        num_layers=4,
        num_heads=4,
        num_kv_heads=4,
        head_width=24,
        tied=True,
        max_positions=1024,
    ),
    "smollm2_135m": ModelConfig(
        vocab_size=49_152,
        width=576,
        mlp_width=1536,
        num_layers=30,
        num_heads=9,
        num_kv_heads=3,
        head_width=64,
        norm_eps=1e-5,
        rope=RopeConfig(theta=100_000.0),
        tied=True,
        max_positions=8192,
    ),
    "llama2_7b": _LLAMA2,
    "llama2_13b": _LLAMA2.replace(
        width=5120, mlp_width=13_824, num_layers=40, num_heads=40, num_kv_heads=40
    ),
    "llama2_70b": _LLAMA2.replace(
        width=8192, mlp_width=28_672, num_layers=80, num_heads=64, num_kv_heads=8
    ),
    "llama3_8b": _LLAMA3,
    "llama3_70b": _LLAMA3.replace(width=8192, mlp_width=28_672, num_layers=80, num_heads=64),
    # v0.1: the one whose published configuration has the sliding window.
    "mistral_7b": _LLAMA2.replace(
        mlp_width=14_336, num_kv_heads=8, sliding_window=4096, max_positions=32_768
    ),
    "gemma_2b": ModelConfig(
        vocab_size=256_000,
        width=2048,
        mlp_width=16_384,
        num_layers=18,
        num_heads=8,
        num_kv_heads=1,
        head_width=256,
        norm_eps=1e-6,
        activation="gelu_tanh",
        tied=True,
        scale_embedding=True,
        norm_plus_one=True,
        max_positions=8192,
        param_dtype="bfloat16",
        dtype="bfloat16",
    ),
    # The embedding is padded from 151_646 tokens.
    "qwen2_7b": ModelConfig(
        vocab_size=152_064,
        width=3584,
        mlp_width=18_944,
        num_layers=28,
        num_heads=28,
        num_kv_heads=4,
        head_width=128,
        norm_eps=1e-6,
        rope=RopeConfig(theta=1_000_000.0),
        qkv_bias=True,
        max_positions=131_072,
        valid_vocab=151_646,
        param_dtype="bfloat16",
        dtype="bfloat16",
    ),
}


def preset(name: str, **changes) -> ModelConfig:
    """The preset called `name`, with some fields changed.

    Raises:
      ValueError: no such preset; the message lists those there are.
    """
    if name not in PRESETS:
        raise ValueError(f"no preset {name!r}; there are: {', '.join(sorted(PRESETS))}")
    return PRESETS[name].replace(**changes)
