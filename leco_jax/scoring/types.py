"""What the scoring functions return, and the options that they share."""

import dataclasses
import math
from typing import Any, NamedTuple

import jax

STATS = (
    "logprob",
    "entropy",
    "self_certainty",
    "max_logprob",
    "topk_logprob",
    "topk_logmass",
)
TOPK_STATS = frozenset({"topk_logprob", "topk_logmass"})
MAX_TOPK = 20
IMPLEMENTATIONS = ("auto", "xla", "pallas_tpu", "pallas_gpu", "reference")


class TokenStats(NamedTuple):
    """Per-token statistics, each `[..., T]` float32, or None where not asked for."""

    logprob: Any = None
    entropy: Any = None
    self_certainty: Any = None
    max_logprob: Any = None
    topk_logprob: Any = None
    topk_logmass: Any = None


class StepScores(NamedTuple):
    """Per-step scores, each `[..., num_steps]`: float32, and int32 for the length."""

    average: jax.Array
    divergence: jax.Array
    transition: jax.Array
    score: jax.Array
    length: jax.Array


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """The distribution and the statistics asked for; hashable, so static under jit.

    `valid_vocab` counts the ids of the whole vocabulary; under `axis_name` the arrays hold one
    shard of it.
    """

    stats: tuple[str, ...] = ("logprob",)
    soft_cap: float | None = None
    temperature: float = 1.0
    valid_vocab: int | None = None
    topk: int = MAX_TOPK
    axis_name: Any = None
    implementation: str = "auto"

    def __post_init__(self):
        unknown = [name for name in self.stats if name not in STATS]
        if unknown or not self.stats:
            raise ValueError(f"stats must name some of {STATS}; got {self.stats!r}")
        if self.soft_cap is not None and not 0 < self.soft_cap < math.inf:
            raise ValueError(f"soft_cap must be positive, or None for no cap; got {self.soft_cap}")
        if not 0 < self.temperature < math.inf:
            raise ValueError(
                f"temperature must be positive; got {self.temperature} (greedy decoding is scored "
                "with the temperature of the distribution you mean, usually 1.0)"
            )
        if not 1 <= self.topk <= MAX_TOPK:
            raise ValueError(f"topk must be in [1, {MAX_TOPK}]; got {self.topk}")
        if self.implementation not in IMPLEMENTATIONS:
            raise ValueError(
                f"implementation must be one of {IMPLEMENTATIONS}; got {self.implementation!r}"
            )

    @property
    def needs_dot(self) -> bool:
        return "entropy" in self.stats

    @property
    def needs_total(self) -> bool:
        return "self_certainty" in self.stats

    @property
    def needs_top(self) -> bool:
        return not TOPK_STATS.isdisjoint(self.stats)
