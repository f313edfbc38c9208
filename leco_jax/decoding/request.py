"""What the engine is asked for, and the chain of tokens that it hands back."""

import dataclasses
import math

from leco_jax.decoding.watch import Watch


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sampling:
    """How tokens are chosen.

    Attributes:
        temperature: 0 takes the most likely token.
        top_k: only the k most likely tokens; 0 takes all.
        top_p: only the most likely tokens that hold this much probability; 1 takes all.
    """

    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0

    def __post_init__(self):
        if not (math.isfinite(self.temperature) and self.temperature >= 0):
            raise ValueError(f"temperature must be 0 or more, not {self.temperature}.")
        if self.top_k < 0:
            raise ValueError(f"top_k must be 0 (all tokens) or more, not {self.top_k}.")
        if not 0 < self.top_p <= 1:
            raise ValueError(f"top_p must lie in (0, 1], not {self.top_p}.")


GREEDY = Sampling()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Request:
    """One chain to generate.

    Attributes:
        prompt: token ids after the engine's shared prefix; at least one.
        max_new_tokens: most tokens to sample, the stop token included.
        sampling: how tokens are chosen.
        seed, problem, sample: with the chain's round and a token's position, all that the random
            numbers depend on.
        stop: texts that end the chain; they are cut off.
        watch: ends the chain early when its confidence says so.
        hold: keep the row in its slot when the chain ends, so that `Engine.resume` prefills
            nothing; the holder must `release` it.
    """

    prompt: tuple[int, ...]
    max_new_tokens: int
    sampling: Sampling = GREEDY
    seed: int = 0
    problem: int = 0
    sample: int = 0
    stop: tuple[str, ...] = ()
    watch: Watch | None = None
    hold: bool = False

    def __post_init__(self):
        if not self.prompt:
            raise ValueError("A request needs a prompt of at least one token; this one is empty.")
        if self.max_new_tokens < 1:
            raise ValueError(f"max_new_tokens must be at least 1, not {self.max_new_tokens}.")
        if any(not text for text in self.stop):
            raise ValueError("A stop text is empty: it would end every chain at once.")


@dataclasses.dataclass(eq=False)
class Chain:
    """A chain in the making, and the future of its result.

    Attributes:
        request: what was asked for.
        tokens: ids after the prompt: sampled and appended ones, the stop token included.
        stats: for each captured statistic one float a token.
        finish: why it ended: `"eos"`, `"stop"` (a stop text), `"length"`, `"nan"` (the model's
            logits were not finite), or what its watch said; None while it runs.
        tail: bytes of a token that a stop text cut in two, up to the cut; the token itself is
            not in `tokens`.
        round: how often the chain was resumed.
        appended: ids that were given by `resume` and are still to be fed.
        sampled: tokens sampled in this round.
        sampling, forbid, watch: as the request or the last `resume` has them.
        closed_steps: scores of the steps closed so far, if the watch asks for them.
    """

    request: Request
    tokens: list[int] = dataclasses.field(default_factory=list)
    stats: dict[str, list[float]] = dataclasses.field(default_factory=dict)
    finish: str | None = None
    tail: bytes = b""
    round: int = 0
    appended: list[int] = dataclasses.field(default_factory=list)
    sampled: int = 0
    sampling: Sampling = GREEDY
    forbid: tuple[int, ...] = ()
    watch: Watch | None = None
    closed_steps: list[float] = dataclasses.field(default_factory=list)

    @property
    def done(self) -> bool:
        """Whether the result is final, for now."""
        return self.finish is not None

    def cut(self, keep: int, *, finish: str | None) -> None:
        """Drops the tokens from `keep` on, with their statistics."""
        del self.tokens[keep:]
        for values in self.stats.values():
            del values[keep:]
        self.finish = finish
