"""Self-consistency: several chains drawn apart from each other, and the answer of most of them.

Source: Wang et al. 2022 (arXiv 2203.11171), which takes the unweighted majority of the parsed
answers as its default.
"""

import dataclasses
import math
from collections.abc import Generator

from leco_jax.decoding.engine import Engine
from leco_jax.decoding.request import Chain
from leco_jax.reasoning.chain_reader import ChainReader
from leco_jax.reasoning.question import Question
from leco_jax.reasoning.result import Result
from leco_jax.reasoning.vote import vote


@dataclasses.dataclass(frozen=True, kw_only=True)
class SelfConsistencyConfig:
    """Options of self-consistency.

    Attributes:
        samples: chains a problem.
        temperature: at which they are drawn; the question's own top-k and top-p stay.
    """

    samples: int = 10
    temperature: float = 0.7

    def __post_init__(self):
        if self.samples < 1:
            raise ValueError(f"samples must be at least 1, not {self.samples}.")
        if not (math.isfinite(self.temperature) and self.temperature > 0):
            raise ValueError(
                f"temperature must be above 0, not {self.temperature}: all samples would be equal."
            )


def self_consistency(
    engine: Engine, reader: ChainReader, question: Question, config: SelfConsistencyConfig
) -> Generator[list[Chain], None, Result]:
    """Answers one question by a majority; a task for `decoding.tasks.run_tasks`.

    All samples are submitted at once, so their prompt is computed once. They are numbered from the
    request's own `sample` on; a further sample changes none of those before it.

    Args:
        engine: where the samples are drawn.
        reader: turns an ended chain into a round.
        question: the prompt, and the right answer if known.
        config: how many samples, and how they are drawn.
    """
    request = question.request
    hot = dataclasses.replace(request.sampling, temperature=config.temperature)
    chains = [
        engine.submit(dataclasses.replace(request, sampling=hot, sample=request.sample + i))
        for i in range(config.samples)
    ]
    yield chains
    readings = [reader.read(chain, kind=question.kind) for chain in chains]
    answers = [reading.answer for reading in readings]
    return question.result(
        method="self_consistency",
        answers=answers,
        answer=vote(answers, question.equal),
        stopped="samples",
        rounds=[reading.round for reading in readings],
        independent=True,
        settings=dataclasses.asdict(config),
    )
