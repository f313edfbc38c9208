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
from leco_jax.scoring.divergence import kl, kl_from_hidden
from leco_jax.scoring.presets import PRESETS, StepPreset
from leco_jax.scoring.step_scores import (
    StepState,
    heading_mask,
    scores,
    step_scores,
    step_state,
    update,
)
from leco_jax.scoring.types import StepScores, TokenStats, pad_to, to_host

__all__ = [
    "PRESETS",
    "StepPreset",
    "StepScores",
    "StepState",
    "TokenStats",
    "heading_mask",
    "kl",
    "kl_from_hidden",
    "pad_to",
    "pmapped",
    "score_steps",
    "score_steps_from_hidden",
    "scores",
    "step_scores",
    "step_state",
    "to_host",
    "token_stats",
    "token_stats_from_hidden",
    "update",
]
