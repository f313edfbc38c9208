"""What a method does with checks of its chains' text, and with its own doubts about them."""

import dataclasses
from collections.abc import Sequence
from typing import Any, Literal

from leco_jax.configuration import check
from leco_jax.reasoning.chain_reader import Round
from leco_jax.text.checks import Failure, find_check

Confidence = Literal["mean_logprob", "min_logprob", "sum_logprob", "step_score"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Checks:
    """Checks that a method uses, and what for; none of it knows gold.

    Attributes:
      names: checks of `leco_jax.text.checks`, or one's own as `module:function`.
      gate: think again only about chains that a check flags, until one passes.
      cut: cut where the text fails, instead of where confidence is lowest.
      filter: choose among the chains that pass, or among all where none does.
      confidence: a gate by confidence, beside `gate` or alone: a chain is flagged too where this
        figure of it lies below `below`; `step_score` is its weakest step's.
      below: see `confidence`; nats, or a step score.
    """

    names: tuple[str, ...] = ()
    gate: bool = False
    cut: bool = False
    filter: bool = False
    confidence: Confidence | None = None
    below: float = 0.0

    def __post_init__(self):
        check(self)
        for name in self.names:
            find_check(name)
        uses = [use for use in ("gate", "cut", "filter") if getattr(self, use)]
        if uses and not self.names:
            raise ValueError(f"{uses[0]}=True needs a check: names=('arithmetic',)")
        if self.names and not uses:
            raise ValueError(f"names={self.names!r} have no use: set gate, cut or filter")

    @property
    def signal(self) -> str:
        """What is used beside the model: "model" (nothing) or "checks"."""
        return "checks" if self.names else "model"

    @property
    def gates(self) -> bool:
        """Whether a chain that nothing flags ends the thinking."""
        return self.gate or self.confidence is not None

    def failure(self, text: str) -> Failure | None:
        """The first span of a chain that fails a check."""
        failures = [failure for name in self.names if (failure := find_check(name)(text))]
        return min(failures, default=None, key=lambda failure: failure.start)

    def accepts(self, chain: Round) -> bool:
        """Whether there are gates and none of them flags a chain."""
        if not self.gates or (self.gate and self.failure(chain.text)):
            return False
        if self.confidence is None:
            return True
        if self.confidence == "step_score":
            figure = min((step.score for step in chain.steps), default=None)
        else:
            figure = getattr(chain, self.confidence)
        return figure is not None and figure >= self.below

    def filtered(self, rounds: Sequence[Round], answers: Sequence[Any]) -> list[Any]:
        """The answers of chains that pass, None in place of the others; all where none passes."""
        if not self.filter:
            return list(answers)
        passing = [
            None if self.failure(chain.text) else answer
            for chain, answer in zip(rounds, answers, strict=True)
        ]
        return list(answers) if all(answer is None for answer in passing) else passing
