"""The two variants of LeCo's step scores: the paper's, and the published program's."""

import dataclasses
from typing import Literal

import jax.numpy as jnp

from leco_jax.scoring.step_scores import StepState, scores, step_state, update
from leco_jax.scoring.types import MAX_TOPK, StepScores, TokenStats


@dataclasses.dataclass(frozen=True, kw_only=True)
class StepPreset:
    """What makes up a step's score; hashable, so static under jit.

    Attributes:
      tau: exponent of the divergence.
      heading_tokens: tokens of the transition score, counted after the label.
      label: "exclude" or "include" a step's label in average and divergence.
      renormalise_topk: score p / (sum of the k largest p) in place of p; None scores p.
      score_eos: the EOS that ends a chain belongs to its last step.
    """

    tau: float = 0.3
    heading_tokens: int = 3
    label: Literal["exclude", "include"] = "exclude"
    renormalise_topk: int | None = None
    score_eos: bool = False

    def __post_init__(self):
        if self.label not in ("exclude", "include"):
            raise ValueError(f'label must be "exclude" or "include"; got {self.label!r}')

    @property
    def stats(self) -> tuple[str, ...]:
        """The token statistics that the scores are made of."""
        return ("logprob",) if self.renormalise_topk is None else ("logprob", "topk_logmass")

    @property
    def topk(self) -> int:
        """`topk` of those statistics."""
        return MAX_TOPK if self.renormalise_topk is None else self.renormalise_topk

    def logprob(self, stats: TokenStats):
        """The log-probability that is scored, from `token_stats(stats=.stats, topk=.topk)`."""
        if self.renormalise_topk is None:
            return stats.logprob
        # At least −1e30: in a row without a finite logit −inf − (−inf) would be NaN.
        return jnp.minimum(stats.logprob - jnp.maximum(stats.topk_logmass, -1e30), 0.0)

    def step_scores(
        self, logprob, step_ids, in_label=None, *, num_steps: int, heading=None
    ) -> StepScores:
        """Scores steps; the heading begins after the label also where the label is scored.

        Args:
          logprob: `[..., T]` log-probability, renormalised already if the preset asks for it.
          step_ids: `[..., T]` integers, −1 where a token is not scored.
          in_label: `[..., T]` bool, tokens inside their line's label; None for none.
          num_steps: how many steps to return.
          heading: `[..., T]` bool, overrides the preset's count of tokens.

        Returns:
          StepScores `[..., num_steps]`.
        """
        state = self.step_state(jnp.shape(logprob)[:-1], num_steps=num_steps)
        return scores(update(state, logprob, step_ids, in_label=in_label, heading=heading))

    def step_state(self, batch_shape: tuple[int, ...] = (), *, num_steps: int) -> StepState:
        """The state of `scoring.update` before the first token; see `scoring.step_state`."""
        return step_state(
            batch_shape,
            num_steps=num_steps,
            tau=self.tau,
            heading_tokens=self.heading_tokens,
            label=self.label,
        )


PRESETS = {
    "paper": StepPreset(),
    "official_code": StepPreset(
        tau=1 / 3, heading_tokens=5, label="include", renormalise_topk=5, score_eos=True
    ),
}


def resolve(preset: str | StepPreset | None, **parts) -> StepPreset:
    """A preset by name, as given, or made of those parts that are not None, else the paper's."""
    parts = {name: value for name, value in parts.items() if value is not None}
    if preset is None:
        return StepPreset(**parts)
    if parts:
        raise ValueError(f"preset={preset!r} already fixes {', '.join(parts)}; pass one of them")
    if isinstance(preset, StepPreset):
        return preset
    if preset not in PRESETS:
        raise ValueError(f"preset must be one of {tuple(PRESETS)} or a StepPreset; got {preset!r}")
    return PRESETS[preset]
