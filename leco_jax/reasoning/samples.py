"""Samples of one question, drawn apart from each other and read when they have ended."""

import dataclasses
from collections.abc import Generator
from typing import Any

from leco_jax.configuration import at_least, check
from leco_jax.decoding.engine import Engine
from leco_jax.decoding.request import Chain, Watch
from leco_jax.reasoning.chain_reader import ChainReader, Round
from leco_jax.reasoning.question import MethodConfig, Question, Result


@dataclasses.dataclass(frozen=True, kw_only=True)
class SamplingConfig(MethodConfig):
    """Base of the options of methods that sample.

    Attributes:
      samples: chains a problem, at most.
      temperature: at which they are drawn; the question's own top-k and top-p stay.
    """

    samples: int = 10
    temperature: float = 0.7

    def __post_init__(self):
        check(self)
        at_least(self, samples=1)
        if self.temperature <= 0:
            raise ValueError(
                f"temperature={self.temperature} must be above 0: all samples would be equal"
            )


def sampled_question(question: Question, number: int, *, temperature: float) -> Question:
    """The question as its sample `number` is asked, counted from the request's own `sample` on."""
    request = question.request
    hot = dataclasses.replace(request.sampling, temperature=temperature)
    request = dataclasses.replace(request, sampling=hot, sample=request.sample + number)
    return dataclasses.replace(question, request=request)


@dataclasses.dataclass
class Samples:
    """The samples of one question so far; a further one changes none of those before it.

    Attributes:
      engine: where they are drawn.
      reader: turns an ended chain into a round.
      question: the prompt; its sampling but for the temperature.
      temperature: at which they are drawn.
      chains: as they ended.
      rounds: of the chains.
      answers: of the chains; None where none could be read.
      waves: how often some were drawn and waited for.
    """

    engine: Engine
    reader: ChainReader
    question: Question
    temperature: float
    chains: list[Chain] = dataclasses.field(default_factory=list)
    rounds: list[Round] = dataclasses.field(default_factory=list)
    answers: list[Any] = dataclasses.field(default_factory=list)
    waves: int = 0

    def draw(self, count: int, *, watch: Watch | None = None) -> Generator[list[Chain], None, None]:
        """Draws so many more at once, their prompt computed once, and waits for them."""
        if not count:
            return
        fresh = []
        for number in range(len(self.chains), len(self.chains) + count):
            asked = sampled_question(self.question, number, temperature=self.temperature)
            watched = dataclasses.replace(asked.request, watch=watch or asked.request.watch)
            fresh.append(self.engine.submit(watched))
        yield fresh
        self.waves += 1
        self.chains += fresh
        for chain in fresh:
            one, answer = self.reader.read(chain, kind=self.question.kind)
            self.rounds.append(one)
            self.answers.append(answer)

    def result(self, *, method: str, config: MethodConfig, answer: Any, stopped: str) -> Result:
        """The method's result with its final answer."""
        return self.question.result(
            method=method,
            answers=self.answers,
            answer=answer,
            stopped=stopped,
            rounds=self.rounds,
            in_sequence=self.waves,
            independent=True,
            config=config,
        )
