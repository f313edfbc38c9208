"""What a model is: one frozen dataclass that is static under jit."""

import dataclasses
import math
from typing import Literal, get_args

import jax.numpy as jnp

Activation = Literal["silu", "gelu_tanh"]
Norms = Literal["before", "after", "both"]
QkNorm = Literal["none", "head", "projection"]
RopeScaling = Literal["none", "linear", "llama3", "yarn"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class RopeConfig:
    """Rotary position embedding."""

    theta: float = 10_000.0  # base of the frequencies
    # "none", "linear" (positions divided by `factor`), "llama3" or "yarn" (low frequencies divided
    # by `factor`, high ones kept, those between blended)
    scaling: RopeScaling = "none"
    factor: float = 1.0  # how far the context was stretched
    # "llama3": wavelengths above `original_max_positions` / this are fully scaled
    low_freq_factor: float = 1.0
    # "llama3": wavelengths below `original_max_positions` / this are kept
    high_freq_factor: float = 4.0
    original_max_positions: int = 8192  # "llama3" and "yarn": context length before stretching
    beta_fast: float = 32.0  # "yarn": pairs that turn more often in the original context are kept
    beta_slow: float = 1.0  # "yarn": pairs that turn less often are fully scaled
    # "yarn": queries and keys are multiplied by this; None: 0.1 ln(factor) + 1
    attention_factor: float | None = None

    def __post_init__(self):
        if self.scaling not in get_args(RopeScaling):
            raise ValueError(
                f"rope scaling {self.scaling!r} is not one of {', '.join(get_args(RopeScaling))}"
            )
        if not (0 < self.theta < math.inf and 0 < self.factor < math.inf):
            raise ValueError(f"rope theta {self.theta} and factor {self.factor} must be positive")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """A decoder-only transformer of the LLaMA family."""

    vocab_size: int  # rows of the embedding (V)
    width: int  # model width (D)
    mlp_width: int  # MLP width (F)
    num_layers: int  # layers (L)
    num_heads: int  # query heads (N)
    num_kv_heads: int  # key/value heads (K); divides `num_heads`
    head_width: int  # width of a head (H); need not be `width / num_heads`
    norm_eps: float = 1e-5  # added to the mean square in RMSNorm
    rope: RopeConfig = RopeConfig()  # rotary embedding
    # the gate's nonlinearity: "silu" (SwiGLU) or "gelu_tanh" (GeGLU)
    activation: Activation = "silu"
    tied: bool = False  # the unembedding is the embedding
    qkv_bias: bool = False  # query, key and value projections have biases (Qwen2)
    o_bias: bool = False  # the attention's output projection has a bias
    # RMSNorm of queries and keys before the rotary embedding: "head" of each head alone (Qwen3),
    # "projection" of all heads together
    qk_norm: QkNorm = "none"
    norms: Norms = "before"  # RMSNorm before attention and MLP, after them, or both (Gemma 2)
    # a token sees itself and `sliding_window - 1` tokens before it; None: all
    sliding_window: int | None = None
    # n: every n-th layer sees all tokens, without the window; None: no layer does
    global_every: int | None = None
    # base of the rotary embedding, not scaled, of layers with the window; None: `rope` (Gemma 3)
    local_rope_theta: float | None = None
    no_rope_every: int | None = None  # n: every n-th layer has no rotary embedding (SmolLM3)
    attention_soft_cap: float | None = None  # c in c * tanh(scores / c); None: no cap
    # attention's scores are divided by the square root of this; None: of `head_width`
    score_width: int | None = None
    scale_embedding: bool = False  # multiply embeddings by sqrt(width) (Gemma)
    norm_plus_one: bool = False  # RMSNorm multiplies by 1 + weight (Gemma)
    logit_soft_cap: float | None = None  # c in c * tanh(logits / c); None: no cap
    max_positions: int = 4096  # longest sequence that the model was trained for
    # ids from here on are padding of the vocabulary and never tokens; None: all valid
    valid_vocab: int | None = None
    param_dtype: str = "float32"  # dtype in which weights are kept
    dtype: str = "float32"  # dtype of activations and matrix products

    def __post_init__(self):
        sizes = ("vocab_size", "width", "mlp_width", "num_layers", "num_heads", "num_kv_heads")
        for name in (*sizes, "head_width", "max_positions"):
            if not _is_positive_int(getattr(self, name)):
                raise ValueError(f"{name}={getattr(self, name)!r} must be an integer of at least 1")
        if not 0 <= self.norm_eps < math.inf:
            raise ValueError(f"norm_eps={self.norm_eps} must be finite and not negative")
        if self.num_heads % self.num_kv_heads:
            raise ValueError(
                f"num_heads={self.num_heads} is not a multiple of num_kv_heads={self.num_kv_heads}"
            )
        if self.head_width % 2:
            raise ValueError(f"head_width={self.head_width} must be even: rotary pairs")
        if self.activation not in ("silu", "gelu_tanh"):
            raise ValueError(f"activation {self.activation!r} is neither 'silu' nor 'gelu_tanh'")
        for name, kinds in (("qk_norm", QkNorm), ("norms", Norms)):
            if getattr(self, name) not in get_args(kinds):
                raise ValueError(
                    f"{name} {getattr(self, name)!r} is not one of {', '.join(get_args(kinds))}"
                )
        if self.sliding_window is not None and not _is_positive_int(self.sliding_window):
            raise ValueError(f"sliding_window={self.sliding_window} must be None or at least 1")
        for name in ("global_every", "no_rope_every", "score_width"):
            value = getattr(self, name)
            if value is not None and not _is_positive_int(value):
                raise ValueError(f"{name}={value!r} must be None or an integer of at least 1")
        for name in ("logit_soft_cap", "attention_soft_cap", "local_rope_theta"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise ValueError(f"{name}={value} must be None or positive")
        for name in ("global_every", "local_rope_theta"):
            if getattr(self, name) is not None and self.sliding_window is None:
                raise ValueError(f"{name}={getattr(self, name)} without a sliding_window")
        if self.valid_vocab is not None and not 1 <= self.valid_vocab <= self.vocab_size:
            raise ValueError(f"valid_vocab={self.valid_vocab} lies outside 1..{self.vocab_size}")
        for name in ("param_dtype", "dtype"):
            if not _is_floating(getattr(self, name)):
                raise ValueError(f"{name}={getattr(self, name)!r} is not a floating-point dtype")

    @property
    def sizes(self) -> dict[str, int]:
        """Size of each shape letter."""
        return {
            "V": self.vocab_size,
            "D": self.width,
            "F": self.mlp_width,
            "L": self.num_layers,
            "N": self.num_heads,
            "K": self.num_kv_heads,
            "G": self.num_heads // self.num_kv_heads,
            "H": self.head_width,
        }

    @property
    def layer_windows(self) -> tuple[int | None, ...]:
        """The window of each layer, None where it sees all tokens."""
        every = self.global_every or self.num_layers + 1
        return tuple(
            None if (i + 1) % every == 0 else self.sliding_window for i in range(self.num_layers)
        )

    @property
    def layer_ropes(self) -> tuple[RopeConfig | None, ...]:
        """The rotary embedding of each layer, None where it has none."""
        local = self.rope
        if self.local_rope_theta is not None:
            local = RopeConfig(theta=self.local_rope_theta)
        ropes = [self.rope if window is None else local for window in self.layer_windows]
        every = self.no_rope_every or self.num_layers + 1
        return tuple(None if (i + 1) % every == 0 else rope for i, rope in enumerate(ropes))

    def replace(self, **changes) -> "ModelConfig":
        """A copy with some fields changed."""
        return dataclasses.replace(self, **changes)


def _is_positive_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _is_floating(dtype: str) -> bool:
    try:
        return bool(jnp.issubdtype(jnp.dtype(dtype), jnp.floating))
    except TypeError:  # no dtype at all
        return False
