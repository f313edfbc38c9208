"""How many floating-point operations training a token takes, and what chips can do."""

from leco_jax.models.config import ModelConfig
from leco_jax.models.weights import weight_table

# Dense bfloat16 FLOP/s of one chip as its maker states them.
PEAK_FLOPS = {
    "TPU v4": 275e12,
    "TPU v5 lite": 197e12,
    "TPU v5e": 197e12,
    "TPU v5": 459e12,
    "TPU v5p": 459e12,
    "TPU v6 lite": 918e12,
    "TPU v6e": 918e12,
    "NVIDIA H100 80GB HBM3": 989e12,
    "NVIDIA H200": 989e12,
}


def peak_flops(device_kind: str, stated: float | None = None) -> float | None:
    """Gives the peak to state MFU against: the one stated, else the table's, else None."""
    return stated if stated else PEAK_FLOPS.get(device_kind)


def train_flops_per_token(config: ModelConfig, length: int, *, adapters: int = 0) -> float:
    """Counts model FLOPs of training on one token in a row of `length` tokens.

    `6·(weights in matrix products) + 6·L·N·H·T`: two per weight forward and four backward;
    attention's two products over the T/2 tokens that a causal token sees on average. A frozen
    weight takes four, for its own gradient is not computed. Recomputed activations are not counted
    (this is MFU, not hardware utilisation), nor is the embedding's lookup.
    Source: PaLM, Chowdhery et al. 2022, appendix B, halved for causality.

    Args:
      config: the model.
      length: positions of a row (T).
      adapters: weights of the adapters if these alone are trained; 0: all weights are.
    """
    weights = 0
    for path, weight in weight_table(config).items():
        matrix = path == "unembed" or path.endswith("_proj") or (path == "embed" and config.tied)
        if matrix:
            size = 1
            for dim in weight.shape:
                size *= dim
            weights += size
    attention = config.num_layers * config.num_heads * config.head_width * length
    products = 4.0 * weights + 6.0 * adapters if adapters else 6.0 * weights
    return products + 6.0 * attention
