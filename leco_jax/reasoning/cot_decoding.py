"""CoT-decoding: greedy chains from each of the most likely first tokens, chosen by sure answers.

Source: arXiv 2402.10200. The branches are roll-backs of one chain: the i-th one forbids the i - 1
tokens that are likelier at its place, so that the greedy choice there is the i-th best.
"""

import dataclasses
from collections.abc import Generator
from typing import Literal

from leco_jax.configuration import at_least, check
from leco_jax.decoding.engine import Engine
from leco_jax.decoding.programs import MARGIN
from leco_jax.decoding.request import Chain
from leco_jax.reasoning.chain_reader import ChainReader
from leco_jax.reasoning.confidence import answer_margin
from leco_jax.reasoning.question import MethodConfig, Question, Result
from leco_jax.reasoning.rounds import Resume, Rounds, run_rounds
from leco_jax.reasoning.selection import vote


@dataclasses.dataclass(frozen=True, kw_only=True)
class CotDecodingConfig(MethodConfig):
    """Options of CoT-decoding.

    Attributes:
      branches: chains a problem.
      branch: where they part: at the very first token (the paper), or at the first one after the
        first step's label, for models that begin every chain with it.
      aggregate: add up the margins of chains with the same answer; False takes the answer of the
        chain with the largest.
    """

    branches: int = 10
    branch: Literal["first_token", "after_label"] = "first_token"
    aggregate: bool = True

    def __post_init__(self):
        check(self)
        at_least(self, branches=1)

    @property
    def passes(self) -> int:
        return 2

    @property
    def stats(self) -> tuple[str, ...]:
        return (MARGIN,)

    @property
    def stored(self) -> tuple[str, ...]:
        return self.stats


def cot_decoding(
    engine: Engine, reader: ChainReader, question: Question, config: CotDecodingConfig
) -> Generator[list[Chain], None, Result]:
    """Answers one question by the branch, or branches, whose answer the model is surest of.

    Args:
      engine: where the chains are written; captures `config.stats`.
      reader: turns an ended chain into a round.
      question: the prompt, and the right answer if known; its sampling had better be greedy.
      config: the options.
    """
    place = 0
    taken: list[int] = []

    def decide(rounds: Rounds) -> Resume | str:
        nonlocal place
        if len(rounds.every) == 1 and config.branch == "after_label" and rounds.last.steps:
            place = rounds.last.steps[0].label_end
        if len(rounds.every) == config.branches:
            return "branches"
        if len(rounds.chain.tokens) <= place:
            return "no_candidate"
        taken.append(rounds.chain.tokens[place])
        return Resume(place, forbid=tuple(taken))

    rounds = yield from run_rounds(engine, reader, question, decide)
    margins = [answer_margin(one) or 0.0 for one in rounds.whole]
    if config.aggregate:
        answer = vote(rounds.answers, question.equal, weights=margins)
    else:
        answered = [i for i, answer in enumerate(rounds.answers) if answer is not None]
        best = max(answered, default=None, key=lambda i: margins[i])
        answer = None if best is None else rounds.answers[best]
    return question.result(
        method="cot_decoding",
        answers=rounds.answers,
        answer=answer,
        stopped=rounds.stopped,
        rounds=rounds.every,
        independent=False,
        config=config,
    )
