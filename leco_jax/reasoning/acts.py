"""One trigger, four acts: what a method may do where a chain was unsure, at equal cost (ours).

The trigger is fork's: the scored tokens of the first chain with a probability below a threshold,
the weakest first. At each of them, for as long as the budget lasts,

* `stop` gives the chain up and draws another one; chains with such a token vote only where no other
  answers;
* `reflect` puts a text that asks for reflection after the step that holds the token;
* `roll_back` draws again from the beginning of that step;
* `fork` forbids the token and goes on greedily.
"""

import dataclasses
from collections.abc import Generator
from typing import Literal

from leco_jax.configuration import at_least, check
from leco_jax.decoding.engine import Engine
from leco_jax.decoding.request import Chain
from leco_jax.reasoning.chain_reader import ChainReader, Round
from leco_jax.reasoning.fork import weak_tokens
from leco_jax.reasoning.question import MethodConfig, Question, Result
from leco_jax.reasoning.rounds import Resume, Rounds, run_rounds
from leco_jax.reasoning.selection import FinalRule, final_answer
from leco_jax.text.prompts import REFLECTION


@dataclasses.dataclass(frozen=True, kw_only=True)
class ActConfig(MethodConfig):
    """Options of an act.

    Attributes:
      act: see above; it has no default.
      below: the trigger's threshold, a probability.
      budget: most tokens of all chains together, in lengths of the first one. An act is taken where
        what is left of it covers the rest of a chain as long as the first.
      act_temperature: at which `stop` and `roll_back` draw.
      reflection: what `reflect` puts in.
      final_rule: see `final_answer`; None: `last` for `reflect`, whose chains hold text that the
        model did not choose, and `mass` for the others.
    """

    act: Literal["stop", "reflect", "roll_back", "fork"]
    below: float = 0.7
    budget: float = 2.0
    act_temperature: float = 0.7
    reflection: str = REFLECTION
    final_rule: FinalRule | None = None

    def __post_init__(self):
        check(self)
        at_least(self, budget=1)
        if not 0 < self.below <= 1:
            raise ValueError(f"below={self.below} must lie in (0, 1]")
        if self.act_temperature <= 0:
            raise ValueError(f"act_temperature={self.act_temperature} must be above 0")

    @property
    def passes(self) -> int:
        return 2


def act(
    engine: Engine, reader: ChainReader, question: Question, config: ActConfig
) -> Generator[list[Chain], None, Result]:
    """Answers one question by a greedy chain and what the act makes of its weak tokens.

    Args:
      engine: captures at least `reader.preset.stats`.
      reader: turns an ended chain into a round.
      question: the prompt, how to sample the first chain, and the right answer if known.
      config: the options.
    """
    cold = question.request.sampling
    hot = dataclasses.replace(cold, temperature=config.act_temperature)
    reflects = config.act == "reflect"
    reflection = reader.tokenizer.encode(config.reflection, continuation=True) if reflects else []
    first: list[int] = []  # the first chain's tokens
    places: list[int] = []  # of its weak ones, the weakest first
    passed: list[bool] = []

    def decide(rounds: Rounds) -> Resume | str:
        weak = weak_tokens(rounds.chain, rounds.last.steps, reader, below=config.below)
        passed.append(not weak)
        if len(rounds.every) == 1:
            first[:], places[:] = rounds.chain.tokens, weak
        if not weak and (config.act == "stop" or len(rounds.every) == 1):
            return "passed"
        greedy = rounds.every[0]
        left = config.budget * greedy.sampled - sum(one.sampled for one in rounds.every)
        while places:
            at = places.pop(0)
            keep = _kept(config, reader, first, greedy, at)
            if len(first) - keep > left:
                continue
            if reflects:
                return rounds.back_to([*first[:keep], *reflection], sampling=cold)
            if config.act == "fork":
                return rounds.back_to(first[:keep], sampling=cold, forbid=(first[at],))
            return rounds.back_to(first[:keep], sampling=hot)
        return "budget"

    rounds = yield from run_rounds(engine, reader, question, decide)
    answers = rounds.answers
    if config.act == "stop":
        sure = [answer if ok else None for answer, ok in zip(answers, passed, strict=True)]
        answers = sure if any(answer is not None for answer in sure) else answers
    return question.result(
        method="act",
        answers=rounds.answers,
        answer=final_answer(
            answers,
            question.equal,
            rule=config.final_rule or ("last" if config.act == "reflect" else "mass"),
            stopped=rounds.stopped,
            rounds=rounds.whole,
        ),
        stopped=rounds.stopped,
        rounds=rounds.every,
        independent=False,
        config=config,
    )


def _kept(config: ActConfig, reader: ChainReader, tokens: list[int], greedy: Round, at: int) -> int:
    """How many tokens of the first chain stay when the act is taken at its token `at`."""
    start, end = next(step.tokens for step in greedy.steps if step.tokens[0] <= at < step.tokens[1])
    if config.act == "reflect":
        ended = tokens[end - 1] in reader.tokenizer.special_ids
        return end - 1 if ended else end
    return {"stop": 0, "roll_back": start, "fork": at}[config.act]
