"""One chain written, read, cut and taken up again, until a method's decision says stop."""

import dataclasses
from collections.abc import Callable, Generator, Sequence
from typing import Any, NamedTuple

from leco_jax.decoding.engine import Engine
from leco_jax.decoding.request import Chain, Sampling, Watch
from leco_jax.decoding.watch import WEAK_STEP
from leco_jax.reasoning.chain_reader import ChainReader, Round
from leco_jax.reasoning.checking import Checks
from leco_jax.reasoning.question import MethodConfig, Question, Result
from leco_jax.reasoning.selection import FinalRule, final_answer


class Resume(NamedTuple):
    """How a chain goes on: the arguments of `Engine.resume`.

    Attributes:
      keep, append, sampling, forbid, watch: see there.
      cut: the step at which it is cut, for the results; None where no step is.
    """

    keep: int
    append: Sequence[int] = ()
    sampling: Sampling | None = None
    forbid: Sequence[int] = ()
    watch: Watch | None = None
    cut: int | None = None


@dataclasses.dataclass
class Rounds:
    """What a chain has come to so far.

    Attributes:
      chain: as it stands, ended.
      every: its rounds in order.
      whole: those of them that no watch ended.
      answers: of `whole`; None where none could be read.
      stopped: why the method stopped, as in `Result`.
    """

    chain: Chain
    every: list[Round] = dataclasses.field(default_factory=list)
    whole: list[Round] = dataclasses.field(default_factory=list)
    answers: list[Any] = dataclasses.field(default_factory=list)
    stopped: str = ""

    @property
    def last(self) -> Round:
        """The round that has just ended."""
        return self.every[-1]

    @property
    def complete(self) -> bool:
        """Whether no watch ended the last round."""
        return self.chain.finish != WEAK_STEP

    def result(
        self,
        question: Question,
        *,
        method: str,
        config: MethodConfig,
        rule: FinalRule | None,
        checks: Checks | None = None,
    ) -> Result:
        """Chooses among the answers of the whole rounds."""
        answers = self.answers if checks is None else checks.filtered(self.whole, self.answers)
        return question.result(
            method=method,
            answers=self.answers,
            answer=final_answer(
                answers, question.equal, rule=rule, stopped=self.stopped, rounds=self.whole
            ),
            stopped=self.stopped,
            rounds=self.every,
            independent=False,
            config=config,
        )


def run_rounds(
    engine: Engine,
    reader: ChainReader,
    question: Question,
    decide: Callable[[Rounds], Resume | str],
    *,
    watch: Watch | None = None,
) -> Generator[list[Chain], None, Rounds]:
    """Writes a chain and goes on with it as `decide` says, all in one slot.

    Args:
      engine: captures at least `reader.preset.stats`.
      reader: turns an ended chain into a round.
      question: the prompt, and how to sample the first round.
      decide: looks at all rounds so far and says how the chain goes on, or why it does not.
      watch: of the first round.
    """
    chain = engine.submit(dataclasses.replace(question.request, hold=True, watch=watch))
    rounds = Rounds(chain)
    kept = appended = 0
    try:
        while True:
            yield [chain]
            last, answer = reader.read(chain, kind=question.kind, kept=kept, appended=appended)
            rounds.every.append(last)
            if rounds.complete:
                rounds.whole.append(last)
                rounds.answers.append(answer)
            change = decide(rounds)
            if isinstance(change, str):
                rounds.stopped = change
                return rounds
            rounds.every[-1] = dataclasses.replace(last, cut=change.cut)
            engine.resume(
                chain,
                keep=change.keep,
                append=change.append,
                sampling=change.sampling,
                forbid=change.forbid,
                watch=change.watch,
            )
            kept, appended = change.keep, len(change.append)
    finally:
        engine.cancel(chain)
