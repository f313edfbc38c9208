"""Statistics of tokens and scores of steps, from logits or hidden states, in one pass.

Needs jax alone. Every function is pure, runs under jit, vmap, grad, `shard_map` and `pmap`, and
takes any batch rank; the meanings are in each docstring.
"""

from leco_jax.scoring import pmapped
from leco_jax.scoring.api import (
    score_steps,
    score_steps_from_hidden,
    token_stats,
    token_stats_from_hidden,
)
from leco_jax.scoring.presets import PRESETS, StepPreset
from leco_jax.scoring.step_scores import heading_mask, step_scores
from leco_jax.scoring.types import StepScores, TokenStats, to_host

__all__ = [
    "PRESETS",
    "StepPreset",
    "StepScores",
    "TokenStats",
    "heading_mask",
    "pmapped",
    "score_steps",
    "score_steps_from_hidden",
    "step_scores",
    "to_host",
    "token_stats",
    "token_stats_from_hidden",
]
