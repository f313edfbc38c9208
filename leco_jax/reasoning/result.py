"""What a method hands back for one problem; `dataclasses.asdict` of it is a results line."""

import dataclasses

from leco_jax.reasoning.scored_chain import ScoredStep


@dataclasses.dataclass(frozen=True, kw_only=True)
class Round:
    """One pass of a chain, the kept beginning included, or one sample of several.

    Attributes:
        text: the whole chain as it stood at the end of the round.
        answer: what was read from it, or None.
        steps: its steps and their scores.
        kept: tokens taken over from the round before.
        appended: tokens that the policy put after them.
        sampled: tokens sampled in this round, the stop token included.
        finish: why it ended: "eos", "stop", "length", "nan", or what a watch said: "weak_step",
            "low_confidence".
        cut: the step at which the next round cut it; None for the last round.
    """

    text: str
    answer: str | None
    steps: list[ScoredStep]
    kept: int
    appended: int
    sampled: int
    finish: str
    cut: int | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Result:
    """A method's answer to a problem and how it came about.

    Attributes:
        id: the problem's.
        method: the method's name.
        answer: the final answer as text, or None.
        gold: the right answer as text, or None where the data set has none.
        correct: whether they are equal; None without gold.
        first_correct: the same of the first pass's answer.
        stopped: why the method stopped: "converged", "rounds", "no_candidate", "hook", for one
            pass only "single", or "samples" where all samples that were asked for are there.
        rounds: every pass, or every sample.
        independent: whether no round goes on from another one.
        settings: the method's options, seed and policy included.
    """

    id: str
    method: str
    answer: str | None
    gold: str | None
    correct: bool | None
    first_correct: bool | None
    stopped: str
    rounds: list[Round]
    independent: bool
    settings: dict
