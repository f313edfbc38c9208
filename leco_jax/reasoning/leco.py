"""LeCo: cut the chain at its weakest step, keep what stood before, go on, until answers agree.

Source: arXiv 2403.19094. What the paper leaves open, or its program does differently, is an
option of `LecoConfig`; the defaults are the paper's.
"""

import bisect
import dataclasses
from collections.abc import Callable, Generator, Sequence
from typing import Literal

from leco_jax.configuration import check, part
from leco_jax.decoding.engine import Engine
from leco_jax.decoding.request import Chain
from leco_jax.decoding.watch import WeakStep
from leco_jax.reasoning.chain_reader import ChainReader, Round, ScoredStep
from leco_jax.reasoning.checking import Checks
from leco_jax.reasoning.question import MethodConfig, Question, Result
from leco_jax.reasoning.rounds import Resume, Rounds, run_rounds
from leco_jax.reasoning.selection import CutRule, FinalRule, StepFigure, converged, cut_step
from leco_jax.scoring.presets import PRESETS, StepPreset
from leco_jax.text.prompts import reprompt

_RULES: dict[str, tuple[CutRule, FinalRule]] = {
    "paper": ("weakest", "last"),
    "official_code": ("earlier_of_two_weakest", "weighted_vote"),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class LecoConfig(MethodConfig):
    """Options of LeCo.

    Greedy decoding that goes on from exactly the kept tokens gives the discarded ones again, so a
    rethink needs a policy that makes a difference:

    * `reprompt` appends text after the kept steps, in one of the published layouts;
    * `sample` draws at `rethink_temperature`, with random numbers of the new round and the
      question's own top-k and top-p;
    * `avoid` keeps the step's label and forbids the token that came next, together with those that
      were forbidden at the same place before, for as long as the text before it stands.

    Attributes:
      policy: as above; it has no default.
      preset: whose rules hold where `cut_rule` and `final_rule` are None, and, in an experiment,
        which variant of the step scores.
      reprompt_layout: see `leco_jax.text.prompts.reprompt`.
      rethink_temperature: for `sample`.
      max_rethinks: most passes after the first one.
      tau: exponent of the divergence in place of the preset's; None: the preset's.
      heading_tokens: K, tokens of the transition, likewise. Both hold, like the preset, for the
        step scores of all methods of an experiment.
      cut_by: the score, or one of its three parts alone, by which the weakest step is found.
      cut_rule: `weakest` (the paper) or `earlier_of_two_weakest` (the published program).
      exclude: steps that hold one of these texts, in any case, are never cut.
      freeze_kept: a later cut never lies before an earlier one.
      final_rule: `last` (the paper), `weighted_vote` (the published program) or another one of
        `final_answer`.
      online_margin: cut as soon as a closed step's score lies this far below every other one's
        and it is the one that `cut_rule` and `exclude` pick, instead of finishing a chain that
        will be thrown away (ours); None waits for the end.
      checks: may gate the rethinks, cut at the step that fails, and filter the answers.
    """

    policy: Literal["reprompt", "sample", "avoid"]
    preset: Literal["paper", "official_code"] = "paper"
    reprompt_layout: Literal["label", "instruction"] = "label"
    rethink_temperature: float = 0.7
    max_rethinks: int = 3
    tau: float | None = None
    heading_tokens: int | None = None
    cut_by: StepFigure = "score"
    cut_rule: CutRule | None = None
    exclude: tuple[str, ...] = ("think step by step", "the answer is")
    freeze_kept: bool = True
    final_rule: FinalRule | None = None
    online_margin: float | None = None
    checks: Checks = part(Checks)

    def __post_init__(self):
        check(self)
        if self.max_rethinks < 1:
            raise ValueError(f"max_rethinks={self.max_rethinks} must be at least 1")
        for name in ("tau", "heading_tokens"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise ValueError(f"{name}={value} must be above 0, or None for the preset's")
        if self.rethink_temperature <= 0:
            raise ValueError(f"rethink_temperature={self.rethink_temperature} must be above 0")
        if self.online_margin is not None and self.online_margin < 0:
            raise ValueError(f"online_margin={self.online_margin} must be at least 0, or None")
        if not all(self.exclude):
            raise ValueError(
                f"exclude={self.exclude!r} holds an empty text, which is in every step"
            )

    @property
    def passes(self) -> int:
        return 1 + self.max_rethinks

    @property
    def signal(self) -> str:
        return self.checks.signal

    @property
    def step_preset(self) -> StepPreset:
        """Which variant of the step scores."""
        own = PRESETS[self.preset]
        return dataclasses.replace(
            own,
            tau=own.tau if self.tau is None else self.tau,
            heading_tokens=own.heading_tokens
            if self.heading_tokens is None
            else self.heading_tokens,
        )

    def with_rules(self) -> "LecoConfig":
        """The same with the preset's cut rule and final rule where none is given."""
        cut_rule, final_rule = _RULES[self.preset]
        return dataclasses.replace(
            self,
            cut_rule=self.cut_rule or cut_rule,
            final_rule=self.final_rule or final_rule,
        )


def leco(
    engine: Engine,
    reader: ChainReader,
    question: Question,
    config: LecoConfig,
    *,
    stop_early: Callable[[list[Round]], bool] | None = None,
) -> Generator[list[Chain], None, Result]:
    """Answers one question with LeCo; a task for `decoding.tasks.run_tasks`.

    Args:
      engine: captures at least `reader.preset.stats`.
      reader: turns an ended chain into a round.
      question: the prompt, how to sample the first pass, and the right answer if known.
      config: LeCo's options.
      stop_early: looks at all rounds so far and says whether to stop.
    """
    config = config.with_rules()
    rounds = yield from leco_rounds(engine, reader, question, config, stop_early=stop_early)
    return rounds.result(
        question, method="leco", config=config, rule=config.final_rule, checks=config.checks
    )


def leco_rounds(
    engine: Engine,
    reader: ChainReader,
    question: Question,
    config: LecoConfig,
    *,
    stop_early: Callable[[list[Round]], bool] | None = None,
) -> Generator[list[Chain], None, Rounds]:
    """LeCo's rounds on one question; arguments as of `leco`, the config with all rules set."""
    forbidden: dict[int, list[int]] = {}
    frozen = 0

    def decide(rounds: Rounds) -> Resume | str:
        nonlocal frozen
        if rounds.complete and config.checks.accepts(rounds.last):
            return "passed"
        if converged(rounds.answers, question.equal):
            return "converged"
        if len(rounds.every) > config.max_rethinks:
            return "rounds"
        if rounds.complete and stop_early is not None and stop_early(rounds.every):
            return "hook"
        steps = rounds.last.steps if rounds.complete else reader.closed_steps(rounds.chain)
        cut = _failing(config, reader, rounds, first=frozen)
        if cut is None:
            cut = _cut(config, steps, first=frozen)
        if cut is None:
            return "no_candidate"
        frozen = cut if config.freeze_kept else 0
        watch = _watch(config, reader, first=frozen, rounds=len(rounds.every))
        change = _change(config, reader, rounds.chain, steps, cut, forbidden, question.kind)
        return change._replace(watch=watch, cut=cut)

    watch = _watch(config, reader, first=0, rounds=0)
    rounds = yield from run_rounds(engine, reader, question, decide, watch=watch)
    return rounds


def _cut(config: LecoConfig, steps: Sequence[ScoredStep], *, first: int) -> int | None:
    return cut_step(
        steps, rule=config.cut_rule, figure=config.cut_by, first=first, exclude=config.exclude
    )


def _failing(config: LecoConfig, reader: ChainReader, rounds: Rounds, *, first: int) -> int | None:
    """The step that fails a check, where that is to be cut and lies at `first` or later."""
    failure = config.checks.failure(rounds.last.text) if config.checks.cut else None
    if failure is None:
        return None
    token = bisect.bisect_right(reader.token_ends(rounds.chain), failure.start)
    at = [i for i, step in enumerate(rounds.last.steps) if step.tokens[0] <= token < step.tokens[1]]
    return at[0] if at and at[0] >= first else None


def _watch(config: LecoConfig, reader: ChainReader, *, first: int, rounds: int) -> WeakStep | None:
    """The watch of a pass; the last one runs without, so that there is an answer."""
    if config.online_margin is None or rounds == config.max_rethinks:
        return None

    def would_be_cut(steps: Sequence[ScoredStep], step: int) -> bool:
        return _cut(config, steps, first=first) == step

    return WeakStep(
        margin=config.online_margin,
        closed_steps=reader.closed_steps,
        first=first,
        agrees=would_be_cut,
    )


def _change(
    config: LecoConfig,
    reader: ChainReader,
    chain: Chain,
    steps: Sequence[ScoredStep],
    cut: int,
    forbidden: dict[int, list[int]],
    kind: str,
) -> Resume:
    """How the policy goes on from before step `cut`.

    `forbidden` holds what `avoid` has forbidden so far, by place in the chain; it is brought up to
    date. `kind` is the kind of answers.
    """
    keep = steps[cut].tokens[0]
    if config.policy == "sample":
        sampling = dataclasses.replace(chain.sampling, temperature=config.rethink_temperature)
        return Resume(keep, sampling=sampling)
    if config.policy == "reprompt":
        kept = [step.text for step in steps[:cut]]
        text = reprompt(kept, layout=config.reprompt_layout, kind=kind)
        return Resume(keep, reader.tokenizer.encode(text, continuation=True))
    keep = steps[cut].label_end
    for place in [place for place in forbidden if place > keep]:
        del forbidden[place]  # other text will stand before it
    # A chain that ended with the label has no token after it.
    forbidden.setdefault(keep, []).extend(chain.tokens[keep : keep + 1])
    return Resume(keep, forbid=tuple(forbidden[keep]))
