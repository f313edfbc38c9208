"""LeCo with self-consistency: each sample is thought over by LeCo, and their answers vote.

Source: arXiv 2403.19094, which reports LeCo on top of self-consistency; the published program does
not have it.
"""

import dataclasses
from collections.abc import Generator

from leco_jax.configuration import part
from leco_jax.decoding.engine import Engine
from leco_jax.decoding.request import Chain
from leco_jax.decoding.tasks import together
from leco_jax.reasoning.chain_reader import ChainReader
from leco_jax.reasoning.leco import LecoConfig, leco_rounds
from leco_jax.reasoning.question import Question, Result
from leco_jax.reasoning.samples import SamplingConfig, sampled_question
from leco_jax.reasoning.selection import vote


@dataclasses.dataclass(frozen=True, kw_only=True)
class LecoSamplesConfig(SamplingConfig):
    """Options of LeCo with self-consistency: how first passes are drawn, and LeCo's."""

    leco: LecoConfig = part(LecoConfig, policy="sample")

    @property
    def passes(self) -> int:
        return self.leco.passes

    @property
    def signal(self) -> str:
        return self.leco.signal


def leco_samples(
    engine: Engine, reader: ChainReader, question: Question, config: LecoSamplesConfig
) -> Generator[list[Chain], None, Result]:
    """Answers one question by the majority of LeCo's answers to it.

    Args:
      engine: captures at least `reader.preset.stats`.
      reader: turns an ended chain into a round.
      question: the prompt, and the right answer if known.
      config: how many samples, and LeCo's options.
    """
    own = config.leco.with_rules()
    chains = yield from together(
        leco_rounds(
            engine,
            reader,
            sampled_question(question, number, temperature=config.temperature),
            own,
        )
        for number in range(config.samples)
    )
    answers = [one.answer(question, rule=own.final_rule, checks=own.checks) for one in chains]
    return question.result(
        method="leco_samples",
        answers=chains[0].answers,
        answer=vote(answers, question.equal),
        stopped="samples",
        rounds=[each for one in chains for each in one.every],
        in_sequence=max(len(one.every) for one in chains),
        independent=False,
        config=config,
    )
