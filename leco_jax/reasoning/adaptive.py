"""Adaptive self-consistency: samples one by one, until no further one is likely to change the vote.

Source: Aggarwal et al. 2023 (arXiv 2305.11860): the answers' shares have a flat prior, and sampling
ends once the leading answer is the most frequent one with a probability of 95 %.
"""

import dataclasses
import math
from collections.abc import Callable, Generator, Sequence
from typing import Any, Literal

import numpy as np

from leco_jax.decoding.engine import Engine
from leco_jax.decoding.request import Chain
from leco_jax.reasoning.chain_reader import ChainReader
from leco_jax.reasoning.question import Question, Result
from leco_jax.reasoning.samples import Samples, SamplingConfig
from leco_jax.reasoning.selection import tally, vote

StopRule = Literal["beta", "dirichlet"]
STABLE = 0.95  # the published threshold
_GRID = 2001  # points of the integral


@dataclasses.dataclass(frozen=True, kw_only=True)
class AdaptiveConfig(SamplingConfig):
    """Options of adaptive self-consistency.

    Attributes:
      stop: "beta" compares the leading answer with the second alone, "dirichlet" with all.
      stable: probability of the leading answer at which sampling ends.
    """

    stop: StopRule = "beta"
    stable: float = STABLE

    def __post_init__(self):
        super().__post_init__()
        if not 0 < self.stable < 1:
            raise ValueError(f"stable={self.stable} must lie in (0, 1)")


def adaptive_self_consistency(
    engine: Engine, reader: ChainReader, question: Question, config: AdaptiveConfig
) -> Generator[list[Chain], None, Result]:
    """Answers one question by a majority of as many samples as it takes.

    Its samples are those of self-consistency with the same temperature.

    Args:
      engine: where the samples are drawn.
      reader: turns an ended chain into a round.
      question: the prompt, and the right answer if known.
      config: how many samples, and how they are drawn.
    """
    samples = Samples(engine, reader, question, config.temperature)
    stopped = "samples"
    while len(samples.rounds) < config.samples:
        yield from samples.draw(1)
        if is_stable(samples.answers, question.equal, stop=config.stop, stable=config.stable):
            stopped = "stable"
            break
    answer = vote(samples.answers, question.equal)
    return samples.result(method="adaptive", config=config, answer=answer, stopped=stopped)


def is_stable(
    answers: Sequence[Any],
    equal: Callable[[Any, Any], bool],
    *,
    stop: StopRule,
    stable: float = STABLE,
) -> bool:
    """Whether the leading answer is the most frequent one with a probability of at least `stable`.

    Args:
      answers: of the samples so far; None counts for nothing.
      equal: equality of answers.
      stop: the prior, see `AdaptiveConfig`.
      stable: the threshold.
    """
    counts = sorted((int(c.weight) for c in tally(answers, equal)), reverse=True)
    if not counts:
        return False
    counts = [*counts, 0]  # an answer that was not seen yet
    if stop == "beta":
        return leads_second(*counts[:2]) >= stable
    return leads_all(counts if len(counts) == 2 else counts[:-1]) >= stable


def leads_second(first: int, second: int) -> float:
    """P(share > 1/2) for a share with the posterior Beta(first + 1, second + 1), exactly."""
    tosses = first + second + 1
    return sum(math.comb(tosses, heads) for heads in range(second + 1, tosses + 1)) / 2**tosses


def leads_all(counts: Sequence[int]) -> float:
    """P(the first share is the largest) for shares with the posterior Dirichlet(counts + 1).

    The shares are gamma variables over their sum, so that this is the integral over the first
    one's density times the others' distribution functions.
    """
    first, *others = counts
    x = np.linspace(0.0, first + 40.0 + 10.0 * math.sqrt(first + 1), _GRID)
    product = _gamma_terms(x, first)[-1]
    for count in others:
        product = product * (1.0 - np.sum(_gamma_terms(x, count), axis=0))
    return float(np.trapezoid(product, x))


def _gamma_terms(x: np.ndarray, count: int) -> list[np.ndarray]:
    """exp(-x) x^k / k! for k up to `count`: the last is a density, their sum 1 - a distribution."""
    terms = [np.exp(-x)]
    for k in range(1, count + 1):
        terms.append(terms[-1] * x / k)
    return terms
