"""DeepConf online: chains without confidence are ended, and drawing ends when the others agree.

Source: arXiv 2508.15260. The offline filters, over stored samples, are rules of
`leco_jax.evaluation.stored_votes`.
"""

import dataclasses
import math
from collections.abc import Generator

from leco_jax.configuration import at_least
from leco_jax.decoding.engine import Engine
from leco_jax.decoding.request import Chain
from leco_jax.decoding.watch import (
    LOW_CONFIDENCE,
    ConfidenceFloor,
    confidence_floor,
    lowest_confidence,
)
from leco_jax.reasoning.chain_reader import ChainReader
from leco_jax.reasoning.question import Question, Result
from leco_jax.reasoning.samples import Samples, SamplingConfig
from leco_jax.reasoning.selection import tally, vote


@dataclasses.dataclass(frozen=True, kw_only=True)
class FloorConfig(SamplingConfig):
    """Base of the options of methods with a floor of confidence.

    Attributes:
      warm_up: so many samples are written whole first; a percentile of their lowest confidences
        is the floor of the others.
      percentile: 10 keeps what looks like the best nine tenths, 90 the best tenth.
      window: tokens over which a confidence is averaged; shorter chains never fall below the floor.
    """

    samples: int = 64
    warm_up: int = 16
    percentile: float = 10.0
    window: int = 2048

    def __post_init__(self):
        super().__post_init__()
        at_least(self, warm_up=1, window=1)
        if self.warm_up >= self.samples:
            raise ValueError(f"warm_up={self.warm_up} must be less than samples={self.samples}")
        if not 0 <= self.percentile <= 100:
            raise ValueError(f"percentile={self.percentile} must lie in 0..100")

    @property
    def stats(self) -> tuple[str, ...]:
        return ConfidenceFloor.stats

    @property
    def no_floor(self) -> ConfidenceFloor:
        """For the warm-up: ends nothing, but an engine without its figure refuses it."""
        return ConfidenceFloor(threshold=-math.inf, window=self.window)

    def floor(self, warm_up: list[Chain]) -> ConfidenceFloor:
        """The floor that the chains of the warm-up set."""
        return confidence_floor(warm_up, percentile=self.percentile, window=self.window)


@dataclasses.dataclass(frozen=True, kw_only=True)
class DeepConfConfig(FloorConfig):
    """Options of DeepConf.

    Attributes:
      wave: samples drawn between two looks at the votes. Looks while chains still run would save a
        little more, but what they see would depend on the other problems in the batch.
      consensus: share of all votes at which the leading answer ends the drawing; None: never.
    """

    wave: int = 16
    consensus: float | None = 0.95

    def __post_init__(self):
        super().__post_init__()
        at_least(self, wave=1)
        if self.consensus is not None and not 0 < self.consensus <= 1:
            raise ValueError(f"consensus={self.consensus} must lie in (0, 1], or be None")


def deepconf(
    engine: Engine, reader: ChainReader, question: Question, config: DeepConfConfig
) -> Generator[list[Chain], None, Result]:
    """Answers one question by a vote weighted by each chain's lowest confidence.

    Chains that the floor ends, or would have ended in the warm-up, do not vote.

    Args:
      engine: where the samples are drawn; captures `config.stats`.
      reader: turns an ended chain into a round.
      question: the prompt, and the right answer if known.
      config: how many samples, and how they are drawn.
    """
    samples = Samples(engine, reader, question, config.temperature)
    yield from samples.draw(config.warm_up, watch=config.no_floor)
    floor = config.floor(samples.chains)
    while True:
        votes, weights = [], []
        for chain, answer in zip(samples.chains, samples.answers, strict=True):
            counts = chain.finish != LOW_CONFIDENCE and not floor.would_end(chain)
            votes.append(answer if counts else None)
            weights.append(lowest_confidence(chain, window=config.window) if chain.tokens else 0.0)
        masses = sorted(c.weight for c in tally(votes, question.equal, weights=weights))
        if config.consensus is not None and masses and masses[-1] >= config.consensus * sum(masses):
            stopped = "stable"
            break
        left = config.samples - len(samples.chains)
        if not left:
            stopped = "samples"
            break
        yield from samples.draw(min(config.wave, left), watch=floor)
    answer = vote(votes, question.equal, weights=weights)
    return samples.result(method="deepconf", config=config, answer=answer, stopped=stopped)
