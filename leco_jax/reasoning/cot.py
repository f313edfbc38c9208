"""Chain of thought: one pass, the baseline of everything else."""

from collections.abc import Generator

from leco_jax.decoding.engine import Engine
from leco_jax.decoding.request import Chain
from leco_jax.reasoning.chain_reader import ChainReader
from leco_jax.reasoning.question import MethodConfig, Question, Result


def chain_of_thought(
    engine: Engine, reader: ChainReader, question: Question
) -> Generator[list[Chain], None, Result]:
    """Answers one question in one pass; a task for `decoding.tasks.run_tasks`.

    Source: Wei et al. 2022 (arXiv 2201.11903) with worked examples, Kojima et al. 2022 (arXiv
    2205.11916) without.
    """
    chain = engine.submit(question.request)
    yield [chain]
    only, answer = reader.read(chain, kind=question.kind)
    return question.result(
        method="cot",
        answers=[answer],
        answer=answer,
        stopped="single",
        rounds=[only],
        independent=True,
        config=MethodConfig(),
    )
