"""Self-consistency: several chains drawn apart from each other, and the answer of most of them.

Source: Wang et al. 2022 (arXiv 2203.11171), which takes the unweighted majority of the parsed
answers as its default.
"""

import dataclasses
from collections.abc import Generator

from leco_jax.configuration import part
from leco_jax.decoding.engine import Engine
from leco_jax.decoding.request import Chain
from leco_jax.reasoning.chain_reader import ChainReader
from leco_jax.reasoning.checking import Checks
from leco_jax.reasoning.question import Question, Result
from leco_jax.reasoning.samples import Samples, SamplingConfig
from leco_jax.reasoning.selection import FinalRule, final_answer


@dataclasses.dataclass(frozen=True, kw_only=True)
class SelfConsistencyConfig(SamplingConfig):
    """Options of self-consistency.

    Attributes:
      final_rule: how the answer is chosen; see `final_answer`.
      checks: a gate draws the first sample alone, and the others where it is flagged.
    """

    final_rule: FinalRule = "majority"
    checks: Checks = part(Checks)

    def __post_init__(self):
        super().__post_init__()
        if self.checks.cut:
            raise ValueError("checks.cut=True: samples are not cut; set gate or filter")

    @property
    def signal(self) -> str:
        return self.checks.signal


def self_consistency(
    engine: Engine, reader: ChainReader, question: Question, config: SelfConsistencyConfig
) -> Generator[list[Chain], None, Result]:
    """Answers one question by a majority; a task for `decoding.tasks.run_tasks`.

    Args:
      engine: where the samples are drawn.
      reader: turns an ended chain into a round.
      question: the prompt, and the right answer if known.
      config: how many samples, and how they are drawn.
    """
    samples = Samples(engine, reader, question, config.temperature)
    stopped = "samples"
    if config.checks.gates:
        yield from samples.draw(1)
        stopped = "passed" if config.checks.accepts(samples.rounds[0]) else stopped
    if stopped == "samples":
        yield from samples.draw(config.samples - len(samples.rounds))
    answer = final_answer(
        config.checks.filtered(samples.rounds, samples.answers),
        question.equal,
        rule=config.final_rule,
        stopped=stopped,
        rounds=samples.rounds,
    )
    return samples.result(method="self_consistency", config=config, answer=answer, stopped=stopped)
