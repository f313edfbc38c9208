"""Tool use: what a check knows to be false is replaced by the true value, and the model goes on.

No method of confidence: a calculator writes into the chain. Tables keep it apart.
"""

import bisect
import dataclasses
from collections.abc import Generator

from leco_jax.configuration import at_least, check
from leco_jax.decoding.engine import Engine
from leco_jax.decoding.request import Chain
from leco_jax.reasoning.chain_reader import ChainReader
from leco_jax.reasoning.question import MethodConfig, Question, Result
from leco_jax.reasoning.rounds import Resume, Rounds, run_rounds
from leco_jax.text.checks import find_check


@dataclasses.dataclass(frozen=True, kw_only=True)
class CorrectConfig(MethodConfig):
    """Options of corrections.

    Attributes:
      checked_by: a check that knows the truth: "arithmetic", or one's own as `module:function`.
      corrections: most of them in one chain.
    """

    checked_by: str = "arithmetic"
    corrections: int = 4

    def __post_init__(self):
        check(self)
        find_check(self.checked_by)
        at_least(self, corrections=1)

    @property
    def passes(self) -> int:
        return 1 + self.corrections

    @property
    def signal(self) -> str:
        return "tool"


def correct(
    engine: Engine, reader: ChainReader, question: Question, config: CorrectConfig
) -> Generator[list[Chain], None, Result]:
    """Answers one question with a calculator at hand; a task for `decoding.tasks.run_tasks`.

    Args:
      engine: captures at least `reader.preset.stats`.
      reader: turns an ended chain into a round.
      question: the prompt, how to sample, and the right answer if known.
      config: the options.
    """
    find_failure = find_check(config.checked_by)

    def decide(rounds: Rounds) -> Resume | str:
        text = rounds.last.text
        failure = find_failure(text)
        if failure is None or failure.value is None or failure.truth is None:
            return "passed" if failure is None else "no_candidate"
        if len(rounds.every) > config.corrections:
            return "rounds"
        ends = reader.token_ends(rounds.chain)
        keep = bisect.bisect_right(ends, failure.value[0])
        # The first token of the value may begin before it, with a space.
        before = text[ends[keep - 1] if keep else 0 : failure.value[0]]
        return Resume(keep, reader.tokenizer.encode(before + failure.truth, continuation=True))

    rounds = yield from run_rounds(engine, reader, question, decide)
    return rounds.result(question, method="correct", config=config, rule="last")
