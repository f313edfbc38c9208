"""Statistics of tokens and scores of steps, from logits or hidden states, in one pass.

Needs jax alone. Every function is pure, runs under jit, vmap, grad, `shard_map` and `pmap`, and
takes any batch rank; the meanings are in each docstring.
"""

from leco_jax.scoring.api import (
    score_steps,
    score_steps_from_hidden,
    token_stats,
    token_stats_from_hidden,
)
from leco_jax.scoring.steps import heading_mask, step_scores
from leco_jax.scoring.types import StepScores, TokenStats

__all__ = [
    "StepScores",
    "TokenStats",
    "heading_mask",
    "score_steps",
    "score_steps_from_hidden",
    "step_scores",
    "token_stats",
    "token_stats_from_hidden",
]
