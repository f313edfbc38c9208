"""Reflective confidence: a chain that falls below DeepConf's floor is asked to think it over.

Source: arXiv 2512.18605: in place of ending such a chain, a text that asks for reflection is put
after it, and it goes on.
"""

import dataclasses
from collections.abc import Generator

from leco_jax.decoding.engine import Engine
from leco_jax.decoding.request import Chain
from leco_jax.decoding.tasks import together
from leco_jax.reasoning.chain_reader import ChainReader
from leco_jax.reasoning.deepconf import FloorConfig
from leco_jax.reasoning.question import Question, Result
from leco_jax.reasoning.rounds import Resume, Rounds, run_rounds
from leco_jax.reasoning.samples import Samples, sampled_question
from leco_jax.reasoning.selection import FinalRule, final_answer
from leco_jax.text.prompts import REFLECTION


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReflectiveConfig(FloorConfig):
    """Options of reflective confidence.

    Attributes:
      reflection: what is put after a chain that falls below the floor, once.
      final_rule: how the answer is chosen among the samples; see `final_answer`.
    """

    reflection: str = REFLECTION
    final_rule: FinalRule = "majority"

    @property
    def passes(self) -> int:
        return 2


def reflective_confidence(
    engine: Engine, reader: ChainReader, question: Question, config: ReflectiveConfig
) -> Generator[list[Chain], None, Result]:
    """Answers one question by samples, those of low confidence with a reflection in them.

    Args:
      engine: where the samples are drawn; captures `config.stats`.
      reader: turns an ended chain into a round.
      question: the prompt, and the right answer if known.
      config: how many samples, how they are drawn, and what they are asked.
    """
    warm_up = Samples(engine, reader, question, config.temperature)
    yield from warm_up.draw(config.warm_up, watch=config.no_floor)
    floor = config.floor(warm_up.chains)
    reflection = reader.tokenizer.encode(config.reflection, continuation=True)

    def decide(rounds: Rounds) -> Resume | str:
        return "single" if rounds.complete else Resume(len(rounds.chain.tokens), reflection)

    others = yield from together(
        run_rounds(
            engine,
            reader,
            sampled_question(question, number, temperature=config.temperature),
            decide,
            watch=floor,
        )
        for number in range(config.warm_up, config.samples)
    )
    answers = warm_up.answers + [answer for one in others for answer in one.answers]
    whole = warm_up.rounds + [one.last for one in others]
    return question.result(
        method="reflective",
        answers=answers,
        answer=final_answer(
            answers, question.equal, rule=config.final_rule, stopped="samples", rounds=whole
        ),
        stopped="samples",
        rounds=warm_up.rounds + [each for one in others for each in one.every],
        in_sequence=1 + max(len(one.every) for one in others),
        independent=False,
        config=config,
    )
