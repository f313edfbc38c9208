"""Tool use: what a check knows to be false is replaced by the true value, and the model goes on.

No method of confidence: a calculator writes into the chain. Tables keep it apart.
"""

import bisect
import dataclasses
from collections.abc import Generator

from leco_jax.configuration import at_least, check
from leco_jax.decoding.engine import Engine
from leco_jax.decoding.request import Chain
from leco_jax.reasoning.chain_reader import ChainReader, Round
from leco_jax.reasoning.question import MethodConfig, Question, Result
from leco_jax.reasoning.selection import final_answer
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
    chain = engine.submit(dataclasses.replace(question.request, hold=True))
    rounds: list[Round] = []
    answers: list = []
    keep = 0
    append: list[int] = []
    try:
        while True:
            yield [chain]
            last, answer = reader.read(chain, kind=question.kind, kept=keep, appended=len(append))
            rounds.append(last)
            answers.append(answer)
            failure = find_failure(last.text)
            if failure is None or failure.value is None or failure.truth is None:
                stopped = "passed" if failure is None else "no_candidate"
                break
            if len(rounds) > config.corrections:
                stopped = "rounds"
                break
            ends = reader.token_ends(chain)
            keep = bisect.bisect_right(ends, failure.value[0])
            # The first token of the value may begin before it, with a space.
            before = last.text[ends[keep - 1] if keep else 0 : failure.value[0]]
            append = reader.tokenizer.encode(before + failure.truth, continuation=True)
            engine.resume(chain, keep=keep, append=append)
    finally:
        if chain.done:
            engine.release(chain)
    return question.result(
        method="correct",
        answers=answers,
        answer=final_answer(answers, question.equal, rule="last", stopped=stopped),
        stopped=stopped,
        rounds=rounds,
        independent=False,
        config=config,
    )
