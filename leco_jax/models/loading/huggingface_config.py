"""Between a Hugging Face config.json and a ModelConfig; what is not supported is refused."""

import math
from collections.abc import Mapping
from typing import Any

from leco_jax.models.config import ModelConfig, RopeConfig
from leco_jax.models.loading.assemble import CheckpointError
from leco_jax.text.tokenizer import Tokenizer

# model_type -> what its config.json leaves out when it is the default.
_FAMILIES: dict[str, dict[str, Any]] = {
    "llama": {"max_position_embeddings": 2048},
    "mistral": {
        "max_position_embeddings": 131_072, "num_key_value_heads": 8, "sliding_window": 4096,
    },
    "gemma": {
        "max_position_embeddings": 8192, "num_key_value_heads": 16, "head_dim": 256,
        "hidden_act": "gelu_pytorch_tanh", "tie_word_embeddings": True,
    },
    "gemma2": {
        "max_position_embeddings": 8192, "num_key_value_heads": 4, "head_dim": 256,
        "hidden_activation": "gelu_pytorch_tanh", "tie_word_embeddings": True,
        "query_pre_attn_scalar": 256, "sliding_window": 4096, "sliding_window_pattern": 2,
        "attn_logit_softcapping": 50.0, "final_logit_softcapping": 30.0,
    },
    "gemma3_text": {
        "max_position_embeddings": 131_072, "num_key_value_heads": 4, "head_dim": 256,
        "hidden_activation": "gelu_pytorch_tanh", "tie_word_embeddings": True,
        "query_pre_attn_scalar": 256, "sliding_window": 4096, "sliding_window_pattern": 6,
        "rope_theta": 1_000_000.0, "rope_local_base_freq": 10_000.0,
    },
    "qwen2": {
        "max_position_embeddings": 32_768, "num_key_value_heads": 32, "attention_bias": True,
        "sliding_window": 4096,
    },
    "qwen3": {
        "max_position_embeddings": 32_768, "num_key_value_heads": 32, "head_dim": 128,
        "sliding_window": 4096,
    },
    "olmo2": {"max_position_embeddings": 2048, "rms_norm_eps": 1e-5},
    # Without long context it is a Llama or Mistral in other files, and is written as one.
    "phi3": {"max_position_embeddings": 4096, "rms_norm_eps": 1e-5},
    "smollm3": {
        "max_position_embeddings": 32_768, "num_key_value_heads": 4, "rope_theta": 2_000_000.0,
        "tie_word_embeddings": True, "no_rope_layer_interval": 4,
    },
}  # fmt: skip

# model_type -> what its name says and its config.json does not.
_GEMMA: dict[str, Any] = {"scale_embedding": True, "norm_plus_one": True}
_SAID_BY_NAME: dict[str, dict[str, Any]] = {
    "gemma": _GEMMA,
    "gemma2": _GEMMA | {"norms": "both"},
    "gemma3_text": _GEMMA | {"norms": "both", "qk_norm": "head"},
    "qwen3": {"qk_norm": "head"},
    "olmo2": {"qk_norm": "projection", "norms": "after"},
}

# Sizes that every config.json must give -> our names; and the settings of Llama 3's rope.
_SIZES = {
    "vocab_size": "vocab_size",
    "hidden_size": "width",
    "intermediate_size": "mlp_width",
    "num_hidden_layers": "num_layers",
    "num_attention_heads": "num_heads",
}
_LLAMA3 = {
    "factor": "factor",
    "low_freq_factor": "low_freq_factor",
    "high_freq_factor": "high_freq_factor",
    "original_max_position_embeddings": "original_max_positions",
}

_ACTIVATIONS = {
    "silu": "silu",
    "swish": "silu",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu_new": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
}

# Settings that would change the maths, with the values that do not.
_INERT: dict[str, tuple[Any, ...]] = {
    "mlp_bias": (False, None),
    "partial_rotary_factor": (1.0, 1, None),
    "rope_interleaved": (False, None),
    "use_bidirectional_attention": (False, None),
    "quantization_config": (None,),
}

# TPUs have no float16; bfloat16 keeps its range.
_DTYPES = {"float32": "float32", "bfloat16": "bfloat16", "float16": "bfloat16"}


def huggingface_config(raw: Mapping[str, Any]) -> ModelConfig:
    """The model that a parsed config.json describes, old spelling or new.

    Both dtypes are the checkpoint's; float16 becomes bfloat16, nothing said is float32.

    Raises:
      CheckpointError: an unknown model_type, or settings that this library does not implement (all
        listed).
    """
    family = raw.get("model_type")
    if family not in _FAMILIES:
        raise CheckpointError(
            f"config.json: model_type {family!r} is not supported; supported: "
            + ", ".join(_FAMILIES)
        )
    missing = [key for key in _SIZES if raw.get(key) is None]
    if missing:
        raise CheckpointError(f"config.json: {', '.join(missing)} missing")
    cfg = {**_FAMILIES[family], **raw}
    problems = [
        f"{key}={cfg[key]!r}"
        for key, inert in _INERT.items()
        if key in cfg and cfg[key] not in inert
    ]
    if family != "gemma2" and cfg.get("attn_logit_softcapping") is not None:
        # Only Gemma 2 caps scores: transformers ignores the key elsewhere.
        problems.append(f"attn_logit_softcapping={cfg['attn_logit_softcapping']!r}")
    activation = _activation(cfg, problems)
    rope, local_rope_theta = _ropes(cfg, problems)
    sliding_window, global_every = _windows(cfg, problems)
    no_rope_every = _no_rope_every(cfg, problems)
    saved = str(cfg.get("dtype") or cfg.get("torch_dtype") or "float32").removeprefix("torch.")
    if saved not in _DTYPES:
        problems.append(f"dtype={saved!r}")
    heads = cfg["num_attention_heads"]
    if cfg.get("head_dim") is None and cfg["hidden_size"] % heads:
        problems.append(f"hidden_size={cfg['hidden_size']} is not a multiple of {heads} heads")
    if problems:
        raise CheckpointError(
            f"config.json of a {family} model: not supported: " + "; ".join(problems)
        )
    head_width = cfg.get("head_dim") or cfg["hidden_size"] // heads
    score_width = cfg.get("query_pre_attn_scalar")
    return ModelConfig(
        **{field: cfg[key] for key, field in _SIZES.items()},
        num_kv_heads=cfg.get("num_key_value_heads") or heads,
        head_width=head_width,
        norm_eps=float(cfg.get("rms_norm_eps", 1e-6)),
        rope=rope,
        activation=activation,
        tied=bool(cfg.get("tie_word_embeddings", False)),
        qkv_bias=bool(cfg.get("attention_bias", False)),
        # Qwen2 has its three biases always and this one never.
        o_bias=family != "qwen2" and bool(cfg.get("attention_bias", False)),
        sliding_window=sliding_window,
        global_every=global_every,
        no_rope_every=no_rope_every,
        local_rope_theta=None if sliding_window is None else local_rope_theta,
        attention_soft_cap=cfg.get("attn_logit_softcapping"),
        score_width=None if score_width in (None, head_width) else int(score_width),
        logit_soft_cap=cfg.get("final_logit_softcapping"),
        max_positions=cfg["max_position_embeddings"],
        param_dtype=_DTYPES[saved],
        dtype=_DTYPES[saved],
        **_SAID_BY_NAME.get(family, {}),
    )


def _activation(cfg: Mapping[str, Any], problems: list[str]) -> Any:
    name = cfg.get("hidden_activation") or cfg.get("hidden_act", "silu")
    if cfg["model_type"] == "gemma" and name == "gelu":
        # Gemma's first configs say "gelu" and mean the approximation that it was trained with.
        name = "gelu_pytorch_tanh"
    if name not in _ACTIVATIONS:
        problems.append(f"hidden_act={name!r}")
    return _ACTIVATIONS.get(name)


def _ropes(cfg: Mapping[str, Any], problems: list[str]) -> tuple[RopeConfig, float | None]:
    """The rotary embedding, and the base of that of layers with a window if it is another."""
    # New configs keep the base among the parameters; old ones beside "rope_scaling".
    params = dict(cfg.get("rope_parameters") or cfg.get("rope_scaling") or {})
    if cfg["model_type"] != "gemma3_text":
        return _rope(cfg, params, problems), None
    local = params.get("sliding_attention") or {}
    if local.get("rope_type", "default") != "default":
        problems.append(f"rope type {local['rope_type']!r} in layers with a window")
    theta = float(local.get("rope_theta") or cfg["rope_local_base_freq"])
    return _rope(cfg, params.get("full_attention", params), problems), theta


def _rope(cfg: Mapping[str, Any], params: Mapping[str, Any], problems: list[str]) -> RopeConfig:
    theta = params.get("rope_theta") or cfg.get("rope_theta") or 10_000.0
    kind = params.get("rope_type") or params.get("type") or "default"
    if any(isinstance(value, Mapping) for value in params.values()):
        problems.append(f"rope_parameters={params!r}: one set per layer type")
    elif params.get("partial_rotary_factor", 1.0) != 1.0:
        problems.append(f"partial_rotary_factor={params['partial_rotary_factor']!r}")
    elif kind == "default":
        return RopeConfig(theta=float(theta))
    elif kind == "linear" and "factor" in params:
        return RopeConfig(theta=float(theta), scaling="linear", factor=float(params["factor"]))
    elif kind == "llama3":
        absent = [key for key in _LLAMA3 if key not in params]
        if not absent:
            scaling: dict[str, Any] = {field: float(params[k]) for k, field in _LLAMA3.items()}
            scaling["original_max_positions"] = int(scaling["original_max_positions"])
            return RopeConfig(theta=float(theta), scaling="llama3", **scaling)
        problems.append(f"rope type 'llama3' without {', '.join(absent)}")
    elif kind == "yarn" and "factor" in params and params.get("truncate", True) is True:
        if "long_factor" in params:
            problems.append(f"rope type 'longrope' under the name of 'yarn' ({params!r})")
        before = params.get("original_max_position_embeddings") or cfg["max_position_embeddings"]
        return RopeConfig(
            theta=float(theta),
            scaling="yarn",
            factor=float(params["factor"]),
            original_max_positions=int(before),
            beta_fast=float(params.get("beta_fast") or 32.0),
            beta_slow=float(params.get("beta_slow") or 1.0),
            attention_factor=_attention_factor(params),
        )
    else:
        problems.append(f"rope type {kind!r} ({params!r}); supported: {', '.join(_ROPES)}")
    return RopeConfig()


_ROPES = ("default", "linear", "llama3", "yarn")


def _attention_factor(params: Mapping[str, Any]) -> float | None:
    """YaRN's, given or made of two; None: the usual one."""
    given, above, below = (params.get(k) for k in ("attention_factor", "mscale", "mscale_all_dim"))
    if given is None and above and below:
        ln = math.log(max(float(params["factor"]), 1.0))
        return (0.1 * above * ln + 1.0) / (0.1 * below * ln + 1.0)
    return None if given is None else float(given)


def _windows(cfg: Mapping[str, Any], problems: list[str]) -> tuple[int | None, int | None]:
    """The window, and after how many layers with it one without comes; None: none does."""
    family, count, window = cfg["model_type"], cfg["num_hidden_layers"], cfg.get("sliding_window")
    if family in ("qwen2", "qwen3") and not cfg.get("use_sliding_window", False):
        window = None
    if window is None or family not in _WITH_WINDOWS:
        return None, None  # the others ignore the key
    kinds = cfg.get("layer_types")
    if not kinds:
        # By Qwen's rule layers from max_window_layers on slide, by Gemma's all but every n-th.
        first = cfg.get("max_window_layers", 28) if family in ("qwen2", "qwen3") else 0
        every = cfg.get("sliding_window_pattern") or count + 1
        kinds = [_KINDS[i >= first and (i + 1) % every != 0] for i in range(count)]
    if set(kinds) == {"sliding_attention"}:
        return window, None
    if set(kinds) == {"full_attention"}:
        return None, None
    every = [*kinds, "full_attention"].index("full_attention") + 1
    if list(kinds) != [_KINDS[(i + 1) % every != 0] for i in range(count)]:
        problems.append(
            "sliding_window in some layers only, and not in all but every n-th (layer_types, "
            "max_window_layers)"
        )
    return window, every


def _no_rope_every(cfg: Mapping[str, Any], problems: list[str]) -> int | None:
    """After how many layers one without a rotary embedding comes; None: none does."""
    if cfg["model_type"] != "smollm3":
        return None
    if cfg.get("use_sliding_window", False) and cfg.get("sliding_window") is not None:
        problems.append("sliding_window in some layers only (use_sliding_window)")
    count, rotated = cfg["num_hidden_layers"], cfg.get("no_rope_layers")
    if not rotated:
        return cfg["no_rope_layer_interval"]
    if all(rotated[:count]):
        return None
    every = list(rotated).index(0) + 1
    if [bool(x) for x in rotated[:count]] != [(i + 1) % every != 0 for i in range(count)]:
        problems.append("no_rope_layers that are not every n-th")
    return every


_WITH_WINDOWS = ("mistral", "gemma2", "gemma3_text", "qwen2", "qwen3", "phi3")
# Kinds of layers without and with a window.
_KINDS = ("full_attention", "sliding_attention")


def config_json(
    config: ModelConfig, *, dtype: str | None = None, tokenizer: Tokenizer | None = None
) -> dict[str, Any]:
    """The config.json of a model, the inverse of `huggingface_config`.

    Raises:
      CheckpointError: no architecture of transformers does what `config` says.
    """
    family = _family(config)
    raw: dict[str, Any] = {
        "architectures": [f"{_CLASSES.get(family, family.capitalize())}ForCausalLM"],
        "model_type": family,
        **{key: getattr(config, field) for key, field in _SIZES.items()},
        "num_key_value_heads": config.num_kv_heads,
        "head_dim": config.head_width,
        "hidden_act": "silu" if config.activation == "silu" else "gelu_pytorch_tanh",
        "rms_norm_eps": config.norm_eps,
        "rope_theta": config.rope.theta,
        "max_position_embeddings": config.max_positions,
        "tie_word_embeddings": config.tied,
        "dtype": dtype or config.param_dtype,
    }
    rope = config.rope
    if rope.scaling == "linear":
        raw["rope_scaling"] = {"rope_type": "linear", "factor": rope.factor}
    elif rope.scaling == "llama3":
        scaling = {key: getattr(rope, field) for key, field in _LLAMA3.items()}
        raw["rope_scaling"] = {"rope_type": "llama3", **scaling}
    elif rope.scaling == "yarn":
        raw["rope_scaling"] = {
            "rope_type": "yarn",
            "factor": rope.factor,
            "original_max_position_embeddings": rope.original_max_positions,
            "beta_fast": rope.beta_fast,
            "beta_slow": rope.beta_slow,
        }
        if rope.attention_factor is not None:
            raw["rope_scaling"]["attention_factor"] = rope.attention_factor
    if family.startswith("gemma"):
        raw["hidden_activation"] = raw["hidden_act"]
    if family in ("gemma2", "gemma3_text"):
        raw |= {
            "query_pre_attn_scalar": config.score_width or config.head_width,
            "attn_logit_softcapping": config.attention_soft_cap,
            "final_logit_softcapping": config.logit_soft_cap,
            # transformers wants a number even where no layer has the window.
            "sliding_window": config.sliding_window or config.max_positions,
        }
    if config.local_rope_theta is not None:
        raw["rope_local_base_freq"] = config.local_rope_theta
    if config.no_rope_every is not None:
        raw["pad_token_id"] = None  # or it is an id of SmolLM3's own vocabulary
        raw["no_rope_layers"] = [int(rope is not None) for rope in config.layer_ropes]
    if family in ("gemma2", "gemma3_text") or config.global_every is not None:
        raw["layer_types"] = [_KINDS[window is not None] for window in config.layer_windows]
    if family in ("llama", "qwen3"):
        raw["attention_bias"] = config.qkv_bias
    if family == "mistral":
        raw["sliding_window"] = config.sliding_window
    if family in ("qwen2", "qwen3"):
        raw["use_sliding_window"] = config.sliding_window is not None
        if config.sliding_window is not None:
            raw |= {"sliding_window": config.sliding_window, "max_window_layers": 0}
    if tokenizer is not None:
        raw |= tokenizer.generation_config()
    return raw


def _family(config: ModelConfig) -> str:
    """The simplest architecture of transformers that does what the config says."""
    c = config
    says = {
        "scale_embedding": c.scale_embedding,
        "norm_plus_one": c.norm_plus_one,
        "qkv_bias": c.qkv_bias,
        "o_bias": c.o_bias,
        "qk_norm of heads": c.qk_norm == "head",
        "qk_norm of projections": c.qk_norm == "projection",
        "norms both before and after": c.norms == "both",
        "norms after": c.norms == "after",
        "sliding_window": c.sliding_window is not None,
        "global_every": c.global_every is not None,
        "local_rope_theta": c.local_rope_theta is not None,
        "no_rope_every": c.no_rope_every is not None,
        "attention_soft_cap": c.attention_soft_cap is not None,
        "score_width": c.score_width is not None,
        "logit_soft_cap": c.logit_soft_cap is not None,
    }
    features = {name for name, has in says.items() if has}
    for family, always, at_times in _FORMS:
        if always <= features <= always | at_times:
            return family
    raise CheckpointError(
        f"no architecture of transformers has {' and '.join(sorted(features))} and nothing else of "
        f"{', '.join(says)}; keep the model in Orbax's format"
    )


_BIASES = {"qkv_bias", "o_bias"}
_WINDOW = {"sliding_window"}
_WINDOWS = {"sliding_window", "global_every"}
_GEMMA1 = {"scale_embedding", "norm_plus_one"}
_GEMMA2 = {*_GEMMA1, "norms both before and after"}
_SCALES = {"logit_soft_cap", "score_width"}

# Family, the features that its models always have, and those that they have at times; the simplest
# first.
_FORMS: list[tuple[str, set[str], set[str]]] = [
    ("llama", set(), set()),
    ("llama", _BIASES, set()),
    ("mistral", _WINDOW, set()),
    ("qwen2", {"qkv_bias"}, _WINDOWS),
    ("gemma", _GEMMA1, set()),
    ("gemma2", _GEMMA2, {*_WINDOWS, *_SCALES, "attention_soft_cap"}),
    # It has two rotary embeddings wherever it has windows.
    ("gemma3_text", {*_GEMMA2, "qk_norm of heads"}, _SCALES),
    ("gemma3_text", {*_GEMMA2, "qk_norm of heads", "local_rope_theta"}, _WINDOWS | _SCALES),
    ("qwen3", {"qk_norm of heads"}, _WINDOWS),
    ("qwen3", {"qk_norm of heads", *_BIASES}, _WINDOWS),
    ("olmo2", {"qk_norm of projections", "norms after"}, set()),
    ("smollm3", {"no_rope_every"}, set()),
]

# Families whose classes are not called as they are.
_CLASSES = {"gemma3_text": "Gemma3", "smollm3": "SmolLM3"}
