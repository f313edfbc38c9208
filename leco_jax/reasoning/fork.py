"""LeCo's policy `fork`: go on greedily from the chain's weakest tokens, each forbidden once (ours).

A greedy chain's weak tokens are where the model could as well have written something else. Each
fork keeps all before one of them, forbids that token at its place, and goes on greedily. Taken
latest first, all forks are roll-backs of one held chain: nothing is prefilled or fed again. The
answer is, by default, the one with the largest sum of sequence probabilities (`mass`).
"""

import bisect
import dataclasses
import math
from collections.abc import Generator, Sequence
from typing import Literal, NamedTuple

from leco_jax.configuration import at_least, check, part
from leco_jax.decoding.engine import Engine
from leco_jax.decoding.request import Chain
from leco_jax.reasoning.chain_reader import ChainReader, ScoredStep
from leco_jax.reasoning.checking import Checks
from leco_jax.reasoning.question import MethodConfig, Question, Result
from leco_jax.reasoning.rounds import Resume, Rounds, run_rounds
from leco_jax.reasoning.selection import FinalRule, masses, scale
from leco_jax.text.steps import closes_line


@dataclasses.dataclass(frozen=True, kw_only=True)
class ForkConfig(MethodConfig):
    """Options of forks.

    Attributes:
      forks: most forks of one chain, at its tokens of lowest probability.
      threshold: only tokens of a probability below this fork.
      tokens: which may fork: all scored ones (no labels, line breaks, special tokens), or those of
        the step with the lowest score.
      exclude: steps that hold one of these texts, in any case, have no forks.
      order: of their places in the chain, or of their probabilities. It matters where a gate or
        `settled` ends the thinking; by probability, tokens have to be fed again.
      depth: 2 forks the forks, behind the place where they differ, and so on.
      settled: end where no fork that is left can change the answer (rule `mass` alone, and with
        `engine.capture="raw"`). False writes all, for other rules to be tried on.
      final_rule: see `final_answer`.
      checks: a gate ends the thinking with the first chain that passes; `cut` forks the latest
        chain at the weakest token of what fails, whatever its probability, `forks` times at most.
    """

    forks: int = 4
    threshold: float = 0.7
    tokens: Literal["scored", "weakest_step"] = "scored"
    exclude: tuple[str, ...] = ()
    order: Literal["latest", "weakest"] = "latest"
    depth: int = 1
    settled: bool = True
    final_rule: FinalRule = "mass"
    checks: Checks = part(Checks)

    def __post_init__(self):
        check(self)
        at_least(self, forks=1, depth=1)
        if not 0 < self.threshold <= 1:
            raise ValueError(f"threshold={self.threshold} must lie in (0, 1]")
        if not all(self.exclude):
            raise ValueError(f"exclude={self.exclude!r} holds an empty text: it is in every step")

    @property
    def passes(self) -> int:
        return 1 + (self.forks if self.checks.cut else self.depth)

    @property
    def signal(self) -> str:
        return self.checks.signal

    @property
    def bounds(self) -> bool:
        """Whether it ends where the forks that are left have too little mass."""
        return self.settled and self.final_rule == "mass" and not self.checks.cut


class _Place(NamedTuple):
    """Where a fork leaves a chain.

    Attributes:
      kept: the tokens before it.
      forbidden: the tokens that may not come next.
      taken: their probability in all.
      logprob: that of `kept`, summed.
      depth: 1 for a fork of the greedy chain.
    """

    kept: tuple[int, ...]
    forbidden: tuple[int, ...]
    taken: float
    logprob: float
    depth: int

    def room(self, top: float) -> float:
        """The most mass that all chains from here can have, over that of a chain of `top` nats."""
        return math.exp(self.logprob - top) * max(1 - self.taken, 0.0)


def fork(
    engine: Engine, reader: ChainReader, question: Question, config: ForkConfig
) -> Generator[list[Chain], None, Result]:
    """Answers one question by a greedy chain and its forks; a task for `decoding.tasks.run_tasks`.

    Args:
      engine: captures at least `reader.preset.stats`.
      reader: turns an ended chain into a round.
      question: the prompt, how to sample, and the right answer if known.
      config: the options.
    """
    place = _Place((), (), 0.0, 0.0, 0)
    places: list[_Place] = []  # still to be forked, the next one last

    def decide(rounds: Rounds) -> Resume | str:
        nonlocal place, places
        if config.checks.accepts(rounds.last):
            return "passed"
        if config.checks.cut:
            left = len(rounds.every) <= config.forks
            places = _failing(config, reader, rounds, place) if left else []
        elif place.depth < config.depth:
            places += _weakest(config, reader, rounds, place)
        if not places:
            return "forks"
        if _is_settled(config, question, rounds, places):
            return "settled"
        place = places.pop()
        return rounds.back_to(place.kept, forbid=place.forbidden)

    rounds = yield from run_rounds(engine, reader, question, decide)
    return rounds.result(
        question, method="fork", config=config, rule=config.final_rule, checks=config.checks
    )


def _weakest(
    config: ForkConfig, reader: ChainReader, rounds: Rounds, place: _Place
) -> list[_Place]:
    """The forks of a chain from `place` on, the one to be taken first last."""
    chain = rounds.chain
    steps = [
        step
        for step in rounds.last.steps
        if not any(text.lower() in step.text.lower() for text in config.exclude)
    ]
    if config.tokens == "weakest_step" and steps:
        steps = [min(steps, key=lambda step: step.score)]
    weak = weak_tokens(chain, steps, reader, below=config.threshold)
    weakest = [at for at in weak if at >= len(place.kept)][: config.forks]
    in_order = sorted(weakest) if config.order == "latest" else weakest[::-1]
    return [_at(chain, at, place) for at in in_order]


def weak_tokens(
    chain: Chain, steps: Sequence[ScoredStep], reader: ChainReader, *, below: float
) -> list[int]:
    """Places of the steps' scored tokens of a probability below a threshold, the weakest first."""
    logprob = chain.stats["logprob"]
    candidates = [
        at
        for step in steps
        for at in range(step.label_end, step.tokens[1])
        if math.exp(logprob[at]) < below and _may_fork(chain.tokens[at], reader)
    ]
    return sorted(candidates, key=lambda at: logprob[at])


def _failing(
    config: ForkConfig, reader: ChainReader, rounds: Rounds, place: _Place
) -> list[_Place]:
    """The fork at the weakest token of the span that fails a check, if one does."""
    chain = rounds.chain
    failure = config.checks.failure(rounds.last.text)
    if failure is None:
        return []
    ends = reader.token_ends(chain)
    first = bisect.bisect_right(ends, failure.start)
    last_one = min(bisect.bisect_left(ends, failure.end), len(chain.tokens) - 1)
    span = [at for at in range(first, last_one + 1) if _may_fork(chain.tokens[at], reader)]
    weakest = min(span, default=None, key=lambda at: chain.stats["logprob"][at])
    return [] if weakest is None else [_at(chain, weakest, place)]


def _may_fork(token: int, reader: ChainReader) -> bool:
    return token not in reader.tokenizer.special_ids and not closes_line(token, reader.tokenizer)


def _at(chain: Chain, at: int, place: _Place) -> _Place:
    """The fork of a chain, which came from `place`, at its token `at`."""
    again = at == len(place.kept)  # what was forbidden there before stays forbidden
    logprob = chain.stats["logprob"]
    return _Place(
        kept=tuple(chain.tokens[:at]),
        forbidden=(*(place.forbidden if again else ()), chain.tokens[at]),
        taken=(place.taken if again else 0.0) + math.exp(logprob[at]),
        logprob=math.fsum(logprob[:at]),
        depth=place.depth + 1,
    )


def _is_settled(
    config: ForkConfig,
    question: Question,
    rounds: Rounds,
    places: Sequence[_Place],
) -> bool:
    """Whether the chains from all places cannot lift another answer above the best one.

    The chains of different places differ, so that their masses add up to what there is room for.
    """
    if not config.bounds:
        return False
    if config.checks.filter and all(config.checks.failure(chain.text) for chain in rounds.whole):
        return False  # the first chain that passes will count alone
    voting = config.checks.filtered(rounds.whole, rounds.answers)
    weights = sorted((c.weight for c in masses(voting, question.equal, rounds.whole)), reverse=True)
    best, second = [*weights, 0.0, 0.0][:2]
    top = scale(rounds.whole)
    return best > second + sum(place.room(top) for place in places)
