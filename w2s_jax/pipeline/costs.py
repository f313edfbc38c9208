"""What the stages of a pipeline take at most, in tokens and floating-point operations."""

import dataclasses
from typing import Any

from leco_jax.models.config import ModelConfig
from w2s_jax.flops import train_flops_per_token
from w2s_jax.pipeline.graph import Cost


@dataclasses.dataclass(frozen=True, kw_only=True)
class TextSizes:
    """Mean tokens of a question's prompt and of its solution, by the gold solutions."""

    prompt: float
    solution: float


def generation_cost(
    model: ModelConfig,
    sizes: TextSizes,
    *,
    questions: int,
    samples: int = 1,
    max_new_tokens: int,
    demonstrations: int = 0,
) -> Cost:
    """Bounds generation: prompts are computed once for all samples, demonstrations once for all.

    Every answer is taken to be as long as allowed.
    """
    prefix = demonstrations * (sizes.prompt + sizes.solution)
    tokens = prefix + questions * (sizes.prompt + samples * max_new_tokens)
    seen = int(prefix + sizes.prompt + max_new_tokens)
    return Cost(tokens, tokens * train_flops_per_token(model, seen) / 3)


def training_cost(model: ModelConfig, sizes: TextSizes, *, rows: int, config: Any) -> Cost:
    """Bounds training on so many rows (pairs count twice in `rows`), without padding."""
    length = min(config.data.length, sizes.prompt + sizes.solution)
    tokens = rows * length * config.run.epochs
    if config.run.num_steps:
        tokens = config.run.num_steps * config.data.batch * config.data.length
    return Cost(tokens, tokens * train_flops_per_token(model, int(length)))
