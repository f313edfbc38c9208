"""Small models of every architecture: their definition, and the figures that transformers gives.

`python tests/parity/make_figures.py` (extra `parity`) writes the figures that
tests/leco_jax/models/loading/test_figures.py holds our models to without torch. The weights are
drawn by name from a seeded numpy generator, so that only configs, shapes and logits are stored.
"""

import json
import pathlib
import zlib
from typing import Any

import numpy as np

DATA = pathlib.Path(__file__).parents[1] / "leco_jax" / "models" / "data"
CONFIGS = DATA / "small_models.json"
LOGITS = DATA / "small_models.npz"
SMOLLM2 = DATA / "smollm2.json"

TEXT = (
    "<|im_start|>user\nNatalia sold clips to 48 of her friends in April, and then she sold half as "
    "many clips in May. How many clips did Natalia sell altogether in April and May?<|im_end|>\n"
    "<|im_start|>assistant\nIn May she sold 48 / 2 = 24 clips.\nIn total she sold 48 + 24 = 72."
)
TOKENS = np.random.default_rng(0).integers(0, 64, (1, 20))

_LLAMA = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "head_dim": 8,
    "max_position_embeddings": 128,
    "rms_norm_eps": 1e-5,
}
_LLAMA3_ROPE = {
    "rope_type": "llama3",
    "rope_theta": 500_000.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
}


def _theta(theta: float) -> dict[str, Any]:
    return {"rope_parameters": {"rope_type": "default", "rope_theta": theta}}


_GEMMA2 = _LLAMA | {
    "num_key_value_heads": 2,
    "head_dim": 16,
    "rms_norm_eps": 1e-6,
    "sliding_window": 6,
    "layer_types": ["sliding_attention", "full_attention"],
    # Small enough to bend the scores and logits of random weights.
    "attn_logit_softcapping": 2.0,
    "final_logit_softcapping": 3.0,
}


def _gemma3_ropes(**of_global_layers: Any) -> dict[str, Any]:
    return {
        "sliding_attention": {"rope_type": "default", "rope_theta": 10_000.0},
        "full_attention": {"rope_theta": 1_000_000.0, **of_global_layers},
    }


# Its heads share out the width.
_OLMO2 = {name: value for name, value in _LLAMA.items() if name != "head_dim"}
_OLMO2 |= {"rms_norm_eps": 1e-6} | _theta(500_000.0)
# The defaults of Phi-3 and SmolLM3 lie beyond 64.
_IDS = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}

# name -> (model_type, settings). One case carries the name of each preset and has its architecture;
# the others are variants that real checkpoints use.
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "tiny": ("llama", _LLAMA | {"num_key_value_heads": 2, "tie_word_embeddings": True}),
    "smollm2_135m": (
        "llama",
        _LLAMA
        | {"hidden_size": 24, "num_attention_heads": 3, "num_key_value_heads": 1}
        | {"tie_word_embeddings": True}
        | _theta(100_000.0),
    ),
    "llama2_7b": ("llama", _LLAMA),
    "llama2_13b": ("llama", _LLAMA | {"hidden_size": 40, "num_attention_heads": 5}
                   | {"num_key_value_heads": 5}),
    "llama2_70b": ("llama", _LLAMA | {"num_attention_heads": 8, "num_key_value_heads": 1}),
    "llama3_8b": ("llama", _LLAMA | {"num_key_value_heads": 1} | _theta(500_000.0)),
    "llama3_70b": (
        "llama",
        _LLAMA | {"num_attention_heads": 8, "num_key_value_heads": 1} | _theta(500_000.0),
    ),
    "mistral_7b": ("mistral", _LLAMA | {"num_key_value_heads": 1, "sliding_window": 6}),
    "gemma_2b": (
        "gemma",
        _LLAMA
        | {"num_key_value_heads": 1, "head_dim": 16, "rms_norm_eps": 1e-6}
        | {"hidden_act": "gelu_pytorch_tanh"},
    ),
    "gemma2_2b": ("gemma2", _GEMMA2 | {"query_pre_attn_scalar": 16}),
    "gemma2_27b": ("gemma2", _GEMMA2 | {"query_pre_attn_scalar": 40}),
    "gemma3_1b": (
        "gemma3_text",
        _GEMMA2
        | {"query_pre_attn_scalar": 16, "num_hidden_layers": 3, "num_key_value_heads": 1}
        | {"attn_logit_softcapping": None, "final_logit_softcapping": None}
        | {"layer_types": ["sliding_attention", "sliding_attention", "full_attention"]}
        | {"rope_parameters": _gemma3_ropes(rope_type="default")},
    ),
    "gemma3_scaled": (
        "gemma3_text",
        _GEMMA2
        | {"query_pre_attn_scalar": 24, "attn_logit_softcapping": None}
        | {"rope_parameters": _gemma3_ropes(rope_type="linear", factor=4.0)},
    ),
    "qwen2_7b": (
        "qwen2",
        _LLAMA | {"num_key_value_heads": 2, "rms_norm_eps": 1e-6} | _theta(1_000_000.0),
    ),
    "qwen3_600m": (
        "qwen3",
        _LLAMA
        | {"num_key_value_heads": 2, "rms_norm_eps": 1e-6, "tie_word_embeddings": True}
        | _theta(1_000_000.0),
    ),
    "qwen3_8b": (
        "qwen3",
        _LLAMA
        | {"num_key_value_heads": 1, "head_dim": 16, "rms_norm_eps": 1e-6}
        | _theta(1_000_000.0),
    ),
    "qwen3_yarn": (
        "qwen3",
        _LLAMA
        | {"num_key_value_heads": 2, "head_dim": 16, "max_position_embeddings": 512}
        | {
            "rope_parameters": {
                "rope_type": "yarn", "rope_theta": 10_000.0, "factor": 4.0, "beta_fast": 4.0,
                "original_max_position_embeddings": 128,
            }
        },
    ),
    "olmo2_7b": ("olmo2", _OLMO2),
    "olmo2_grouped": ("olmo2", _OLMO2 | {"num_key_value_heads": 2}),
    "smollm3_3b": (
        "smollm3",
        _LLAMA
        | {"num_key_value_heads": 1, "rms_norm_eps": 1e-6, "tie_word_embeddings": True}
        | {"num_hidden_layers": 4}
        | _IDS
        | _theta(5_000_000.0),
    ),
    "phi3_mini": ("phi3", _LLAMA | _IDS | {"sliding_window": 6}),
    "phi4": ("phi3", _LLAMA | _IDS | {"num_key_value_heads": 2} | _theta(250_000.0)),
    "llama31_8b": ("llama", _LLAMA | {"num_key_value_heads": 2, "rope_parameters": _LLAMA3_ROPE}),
    "llama31_70b": (
        "llama",
        _LLAMA
        | {"num_attention_heads": 8, "num_key_value_heads": 2, "rope_parameters": _LLAMA3_ROPE},
    ),
    "llama32_1b": (
        "llama",
        _LLAMA
        | {"num_key_value_heads": 1, "tie_word_embeddings": True}
        | {"rope_parameters": _LLAMA3_ROPE | {"factor": 32.0}},
    ),
    "mistral_7b_v03": (
        "mistral",
        _LLAMA | {"num_key_value_heads": 1, "sliding_window": None} | _theta(1_000_000.0),
    ),
    "qwen25_7b": (
        "qwen2",
        _LLAMA | {"num_key_value_heads": 1, "rms_norm_eps": 1e-6} | _theta(1_000_000.0),
    ),
    "qwen25_500m": (
        "qwen2",
        _LLAMA
        | {"num_key_value_heads": 2, "rms_norm_eps": 1e-6, "tie_word_embeddings": True}
        | _theta(1_000_000.0),
    ),
    "llama_linear_rope": (
        "llama",
        _LLAMA | {"rope_parameters": {"rope_type": "linear", "rope_theta": 1e4, "factor": 4.0}},
    ),
    "llama_biases": ("llama", _LLAMA | {"attention_bias": True}),
    "mistral_no_window": ("mistral", _LLAMA | {"num_key_value_heads": 2, "sliding_window": None}),
    "qwen2_window": (
        "qwen2",
        _LLAMA
        | {"num_key_value_heads": 2, "tie_word_embeddings": True}
        | {"use_sliding_window": True, "sliding_window": 6, "max_window_layers": 0},
    ),
}  # fmt: skip


def random_tensor(name: str, shape: tuple[int, ...], *, norm_plus_one: bool) -> np.ndarray:
    """A weight that depends on its name and shape alone, float32."""
    values = np.random.default_rng(zlib.crc32(name.encode())).standard_normal(shape)
    if name.endswith("norm.weight"):
        values = 0.3 * values + (0.0 if norm_plus_one else 1.0)
    elif name.endswith(".bias"):
        values *= 0.5
    else:
        # Larger than any initialiser: a wrong rope, mask or layout must show in the logits.
        values *= 1.5 / shape[-1] ** 0.5
    return values.astype(np.float32)


def reference_model(case: str):
    """The transformers model of a case, with the weights of `random_tensor`."""
    import torch
    import transformers

    model_type, settings = CASES[case]
    config = transformers.AutoConfig.for_model(model_type, **settings, dtype="float32")
    model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="eager")
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            values = random_tensor(
                name, tuple(parameter.shape), norm_plus_one=model_type.startswith("gemma")
            )
            parameter.copy_(torch.from_numpy(values))
    return model.eval()


def gguf_model(path: pathlib.Path):
    """A GGUF file as transformers reads it: its own names, dequantising and un-permuting."""
    import transformers
    from transformers.modeling_gguf_pytorch_utils import load_gguf_checkpoint

    settings = load_gguf_checkpoint(path)["config"]
    model_type = settings.pop("model_type")
    config = transformers.AutoConfig.for_model(model_type, **settings, dtype="float32")
    model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="eager")
    tensors = load_gguf_checkpoint(path, return_tensors=True, model_to_load=model)["tensors"]
    absent, extra = model.load_state_dict(tensors, strict=False)
    assert not extra
    assert set(absent) <= {"lm_head.weight"}
    model.tie_weights()
    return model.eval()


def reference_logits(model, tokens_BT: np.ndarray) -> np.ndarray:
    """What transformers computes [B, T, V], in the model's dtype."""
    import torch

    with torch.no_grad():
        return model(torch.from_numpy(tokens_BT)).logits.numpy()


def token_logprobs(logits_BTV: np.ndarray, tokens_BT: np.ndarray) -> np.ndarray:
    """Log-probability of every token but the first, float64 [B, T - 1]."""
    x = logits_BTV[:, :-1].astype(np.float64)
    x -= x.max(-1, keepdims=True)
    x -= np.log(np.exp(x).sum(-1, keepdims=True))
    return np.take_along_axis(x, tokens_BT[:, 1:, None], axis=-1)[..., 0]


def write_smollm2() -> None:
    """Writes what transformers, in float64, thinks of each token of `TEXT`."""
    from leco_jax.models.loading.fetch import MODELS, fetch
    from leco_jax.text.tokenizer import load_tokenizer

    path = fetch(MODELS["smollm2-135m-instruct"])
    tokens = np.asarray([load_tokenizer(path).encode(TEXT, allow_special=True)])
    logprobs = token_logprobs(reference_logits(gguf_model(path).double(), tokens), tokens)
    figures = {"tokens": tokens[0].tolist(), "logprobs": logprobs[0].round(6).tolist()}
    SMOLLM2.write_text(json.dumps(figures) + "\n")


def main() -> None:
    """Writes the figure files."""
    configs, logits = {}, {}
    for case in CASES:
        model = reference_model(case)
        shapes = {name: list(p.shape) for name, p in model.named_parameters()}
        config = {k: v for k, v in model.config.to_diff_dict().items() if not k.startswith("_")}
        configs[case] = {"config": config, "shapes": shapes}
        logits[case] = reference_logits(model, TOKENS)
    DATA.mkdir(exist_ok=True)
    lines = [f"{json.dumps(case)}: {json.dumps(value)}" for case, value in configs.items()]
    CONFIGS.write_text("{\n" + ",\n".join(lines) + "\n}\n")
    np.savez_compressed(LOGITS, tokens=TOKENS, **logits)
    write_smollm2()
    print(f"{len(configs)} cases; {CONFIGS.stat().st_size + LOGITS.stat().st_size} bytes")


if __name__ == "__main__":
    main()
