"""One chain written, read, cut and taken up again, until a method's decision says stop."""

import dataclasses
from collections.abc import Callable, Generator, Sequence
from typing import Any, Literal, NamedTuple

from leco_jax.decoding.engine import Engine
from leco_jax.decoding.request import Chain, Sampling, Watch
from leco_jax.decoding.watch import ENDED_BY_WATCH
from leco_jax.reasoning.chain_reader import ChainReader, Round
from leco_jax.reasoning.checking import Checks
from leco_jax.reasoning.question import MethodConfig, Question, Result
from leco_jax.reasoning.selection import FinalRule, final_answer


class Resume(NamedTuple):
    """How a chain goes on.

    Attributes:
      keep, append, sampling, forbid, watch: as in `Engine.resume`.
      cut: the step at which it is cut, for the results; None where no step is.
      answers: where the next round's answer is looked for: in the whole chain, behind what is
        appended, or nowhere, as in a round that only prepares the next one.
    """

    keep: int
    append: Sequence[int] = ()
    sampling: Sampling | None = None
    forbid: Sequence[int] = ()
    watch: Watch | None = None
    cut: int | None = None
    answers: Literal["anywhere", "behind", "none"] = "anywhere"


@dataclasses.dataclass
class Rounds:
    """What a chain has come to so far.

    Attributes:
      chain: as it stands, ended.
      every: its rounds in order.
      whole: those of them that may answer: no watch ended them.
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
        return self.chain.finish not in ENDED_BY_WATCH

    def back_to(self, tokens: Sequence[int], **change: Any) -> Resume:
        """Goes on from other tokens than the chain's, which begins like them or not."""
        own = self.chain.tokens
        pairs = enumerate(zip(own, tokens, strict=False))
        shared = min(len(own), len(tokens))
        keep = next((i for i, (a, b) in pairs if a != b), shared)
        return Resume(keep, tokens[keep:], **change)

    def answer(
        self, question: Question, *, rule: FinalRule | None, checks: Checks | None = None
    ) -> Any:
        """The answer that a rule chooses among those of the whole rounds."""
        answers = self.answers if checks is None else checks.filtered(self.whole, self.answers)
        return final_answer(
            answers, question.equal, rule=rule, stopped=self.stopped, rounds=self.whole
        )

    def result(
        self,
        question: Question,
        *,
        method: str,
        config: MethodConfig,
        rule: FinalRule | None,
        checks: Checks | None = None,
    ) -> Result:
        """The method's result, with the answer of `answer`."""
        return question.result(
            method=method,
            answers=self.answers,
            answer=self.answer(question, rule=rule, checks=checks),
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
    after = Resume(0)
    try:
        while True:
            yield [chain]
            start = after.keep + len(after.append)
            last, answer = reader.read(
                chain,
                kind=question.kind,
                kept=after.keep,
                appended=len(after.append),
                answer_from=start if after.answers == "behind" else 0,
            )
            if after.answers == "none":
                last = dataclasses.replace(last, answer=None)
            rounds.every.append(last)
            if rounds.complete and after.answers != "none":
                rounds.whole.append(last)
                rounds.answers.append(answer)
            decision = decide(rounds)
            if isinstance(decision, str):
                rounds.stopped = decision
                return rounds
            after = decision
            rounds.every[-1] = dataclasses.replace(last, cut=after.cut)
            engine.resume(
                chain,
                keep=after.keep,
                append=after.append,
                sampling=after.sampling,
                forbid=after.forbid,
                watch=after.watch,
            )
    finally:
        engine.cancel(chain)
