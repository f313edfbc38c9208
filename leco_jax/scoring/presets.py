"""The two variants of LeCo's step scores: the paper's, and the published program's."""

import dataclasses

import jax.numpy as jnp

from leco_jax.scoring.steps import heading_mask, step_scores
from leco_jax.scoring.types import StepScores


@dataclasses.dataclass(frozen=True, kw_only=True)
class StepPreset:
    """What makes up a step's score; hashable, so static under jit.

    Attributes:
        tau: exponent of the divergence.
        heading_tokens: tokens of the transition score, counted after the label.
        label: "exclude" or "include" a step's label in average and divergence.
        renormalise_topk: score `p / (sum of the k largest p)` in place of p; None scores p.
        score_eos: the EOS that ends a chain belongs to its last step.
    """

    tau: float = 0.3
    heading_tokens: int = 3
    label: str = "exclude"
    renormalise_topk: int | None = None
    score_eos: bool = False

    def step_scores(self, logprob, step_ids, in_label, *, num_steps: int) -> StepScores:
        """Scores steps; the heading begins after the label also where the label is scored.

        Args:
            logprob: `[..., T]` log-probability, renormalised already if the preset asks for it.
            step_ids: `[..., T]` int32, −1 where a token is not scored.
            in_label: `[..., T]` bool, tokens inside their line's label.
            num_steps: how many steps to return.
        """
        body_ids = jnp.where(in_label, -1, step_ids)
        heading = heading_mask(body_ids, num_steps=num_steps, heading_tokens=self.heading_tokens)
        return step_scores(logprob, step_ids, num_steps=num_steps, tau=self.tau, heading=heading)


# Source: arXiv 2403.19094 and the program published with it; where they differ, see each field.
PRESETS = {
    "paper": StepPreset(),
    "official_code": StepPreset(
        tau=1 / 3, heading_tokens=5, label="include", renormalise_topk=5, score_eos=True
    ),
}
