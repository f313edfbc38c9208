"""Self-consistency: several chains drawn apart from each other, and the answer of most of them.

Source: Wang et al. 2022 (arXiv 2203.11171), which takes the unweighted majority of the parsed
answers as its default. With `warm_up`, chains without confidence are ended early, by DeepConf's
online rule (arXiv 2508.15260).
"""

import dataclasses
import math
from collections.abc import Generator, Iterable

import numpy as np

from leco_jax.configuration import check, part
from leco_jax.decoding.engine import Engine
from leco_jax.decoding.request import Chain
from leco_jax.decoding.watch import LOW_CONFIDENCE, ConfidenceFloor, lowest_confidence
from leco_jax.reasoning.chain_reader import ChainReader
from leco_jax.reasoning.checking import Checks
from leco_jax.reasoning.question import MethodConfig, Question, Result
from leco_jax.reasoning.selection import FinalRule, final_answer


@dataclasses.dataclass(frozen=True, kw_only=True)
class SelfConsistencyConfig(MethodConfig):
    """Options of self-consistency.

    Attributes:
      samples: chains a problem.
      temperature: at which they are drawn; the question's own top-k and top-p stay.
      warm_up: so many samples are written whole first; a percentile of their lowest confidences
        is the threshold of the others, which are ended where they fall below it. Chains that
        the threshold ends, or would have ended, do not vote. 0: all are written whole.
      percentile: 10 keeps what looks like the best nine tenths, 90 the best tenth.
      window: tokens over which a confidence is averaged; shorter chains are never ended.
      final_rule: how the answer is chosen; see `final_answer`.
      checks: a gate draws the first sample alone, and the others where it is flagged.
    """

    samples: int = 10
    temperature: float = 0.7
    warm_up: int = 0
    percentile: float = 10.0
    window: int = 2048
    final_rule: FinalRule = "majority"
    checks: Checks = part(Checks)

    def __post_init__(self):
        check(self)
        for name in ("samples", "window"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} must be at least 1")
        if self.temperature <= 0:
            raise ValueError(
                f"temperature={self.temperature} must be above 0: all samples would be equal"
            )
        if not 0 <= self.warm_up < self.samples:
            raise ValueError(
                f"warm_up={self.warm_up} must be 0 (off) or less than samples={self.samples}"
            )
        if not 0 <= self.percentile <= 100:
            raise ValueError(f"percentile={self.percentile} must lie in 0..100")
        if self.checks.cut:
            raise ValueError("checks.cut=True: samples are not cut; set gate or filter")
        if self.checks.gates and self.warm_up:
            raise ValueError("a gate draws the first sample alone: set warm_up=0")

    @property
    def stats(self) -> tuple[str, ...]:
        return ConfidenceFloor.stats if self.warm_up else ()

    @property
    def signal(self) -> str:
        return self.checks.signal


def self_consistency(
    engine: Engine, reader: ChainReader, question: Question, config: SelfConsistencyConfig
) -> Generator[list[Chain], None, Result]:
    """Answers one question by a majority; a task for `decoding.tasks.run_tasks`.

    Samples are submitted at once, those of the warm-up before the others, so that their prompt is
    computed once. They are numbered from the request's own `sample` on; without a warm-up a further
    sample changes none of those before it.

    Args:
      engine: where the samples are drawn; captures `config.stats`.
      reader: turns an ended chain into a round.
      question: the prompt, and the right answer if known.
      config: how many samples, and how they are drawn.
    """
    request = question.request
    hot = dataclasses.replace(request.sampling, temperature=config.temperature)

    def draw(numbers: Iterable[int], watch: ConfidenceFloor | None) -> list[Chain]:
        return [
            engine.submit(
                dataclasses.replace(
                    request, sampling=hot, sample=request.sample + i, watch=watch or request.watch
                )
            )
            for i in numbers
        ]

    floor = None
    chains = []
    if config.warm_up:
        # A floor that nothing falls below: the engine refuses it if it does not capture its figure.
        none = ConfidenceFloor(threshold=-math.inf, window=config.window)
        chains = draw(range(config.warm_up), none)
        yield chains
        floor = _floor(chains, config)
    if config.checks.gates:
        chains = draw(range(1), None)
        yield chains
    stopped = "samples"
    if chains and config.checks.accepts(reader.read(chains[0], kind=question.kind).round):
        stopped = "passed"
    else:
        chains += draw(range(len(chains), config.samples), floor)
        yield chains
    readings = [reader.read(chain, kind=question.kind) for chain in chains]
    rounds = [reading.round for reading in readings]
    answers = [reading.answer for reading in readings]
    votes = [
        answer if floor is None or _counts(chain, floor) else None
        for chain, answer in zip(chains, answers, strict=True)
    ]
    return question.result(
        method="self_consistency",
        answers=answers,
        answer=final_answer(
            config.checks.filtered(rounds, votes),
            question.equal,
            rule=config.final_rule,
            stopped=stopped,
            rounds=rounds,
        ),
        stopped=stopped,
        rounds=rounds,
        independent=True,
        config=config,
    )


def _floor(warm_up: list[Chain], config: SelfConsistencyConfig) -> ConfidenceFloor:
    """The threshold that the chains of the warm-up set for the others."""
    lowest = [lowest_confidence(c, window=config.window) for c in warm_up if c.tokens]
    threshold = float(np.percentile(lowest, config.percentile)) if lowest else -math.inf
    return ConfidenceFloor(threshold=threshold, window=config.window)


def _counts(chain: Chain, floor: ConfidenceFloor) -> bool:
    return chain.finish != LOW_CONFIDENCE and not floor.would_end(chain)
