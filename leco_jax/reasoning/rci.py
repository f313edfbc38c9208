"""RCI: the model criticises its own answer, improves it, and so on until it repeats itself.

Source: Kim et al. 2023 (arXiv 2303.17491). Criticism and improvement stand in one chain, each after
a line of ours that asks for it; no template begins a new turn.
"""

import dataclasses
from collections.abc import Generator

from leco_jax.configuration import at_least, check
from leco_jax.decoding.engine import Engine
from leco_jax.decoding.request import Chain
from leco_jax.reasoning.chain_reader import ChainReader
from leco_jax.reasoning.question import MethodConfig, Question, Result
from leco_jax.reasoning.rounds import Resume, Rounds, run_rounds
from leco_jax.reasoning.selection import converged
from leco_jax.text.prompts import CRITICISE, IMPROVE


@dataclasses.dataclass(frozen=True, kw_only=True)
class RciConfig(MethodConfig):
    """Options of RCI.

    Attributes:
      improvements: most of them; each takes two passes.
      criticise: what asks for criticism.
      improve: what asks for a better answer.
    """

    improvements: int = 2
    criticise: str = CRITICISE
    improve: str = IMPROVE

    def __post_init__(self):
        check(self)
        at_least(self, improvements=1)

    @property
    def passes(self) -> int:
        return 1 + 2 * self.improvements


def rci(
    engine: Engine, reader: ChainReader, question: Question, config: RciConfig
) -> Generator[list[Chain], None, Result]:
    """Answers one question, and again until two answers in a row agree; the last one counts.

    Args:
      engine: where the chain is written.
      reader: turns an ended chain into a round.
      question: the prompt, how to sample, and the right answer if known.
      config: the options.
    """
    request = question.request

    def decide(rounds: Rounds) -> Resume | str:
        answered = len(rounds.every) % 2 == 1
        if answered and converged(rounds.answers, question.equal):
            return "converged"
        if len(rounds.every) >= config.passes:
            return "rounds"
        tokens = rounds.chain.tokens
        keep = len(tokens) - (tokens[-1:] != [] and tokens[-1] in reader.tokenizer.special_ids)
        text = config.criticise if answered else config.improve
        append = reader.tokenizer.encode(text, continuation=True)
        need = len(request.prompt) + keep + len(append) + request.max_new_tokens
        if need > engine.max_length:
            return "no_room"
        return Resume(keep, append, answers="none" if answered else "behind")

    rounds = yield from run_rounds(engine, reader, question, decide)
    return rounds.result(question, method="rci", config=config, rule="last")
