"""What the engine takes, a `Request`, and what it gives, a `Chain` of tokens."""

import dataclasses
import numbers
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

CANCELLED = "cancelled"

_INT32_MAX = 2**31 - 1
_UINT32_MAX = 2**32 - 1
_TEMPERATURES = (1e-6, 1e6)  # logits divided by less would overflow float32


def whole_number(name: str, value: Any, *, low: int, high: int = _INT32_MAX) -> int:
    """Returns a whole number in `low..high` as an int; ValueError if it is anything else."""
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise ValueError(f"{name}={value!r} must be a whole number")
    number = int(value)
    if not low <= number <= high:
        raise ValueError(f"{name}={number} lies outside {low}..{high}")
    return number


def token_ids(name: str, ids: Sequence[int], *, vocab_size: int = 2**31) -> tuple[int, ...]:
    """Returns token ids as a tuple of ints; ValueError names the first outside the vocabulary."""
    array = np.asarray(ids)
    if array.ndim != 1 or (array.size and array.dtype.kind not in "iu"):
        raise ValueError(f"{name} must be a list of token ids (whole numbers), not {ids!r:.80}")
    outside = np.flatnonzero((array < 0) | (array >= vocab_size))
    if outside.size:
        at = outside[0]
        raise ValueError(
            f"{name} holds the token id {array[at]} at place {at}, outside the vocabulary "
            f"0..{vocab_size - 1}"
        )
    return tuple(array.tolist())


class Watch(Protocol):
    """Looks at a running chain after every chunk and may end it; frozen, without own state."""

    @property
    def stats(self) -> tuple[str, ...]:
        """Statistics that the engine has to capture."""

    def look(self, chain: "Chain", fresh: int) -> tuple[str, int] | None:
        """Why to end a chain (its `finish`) and how many tokens to keep; None lets it go on.

        The chain's tokens from `fresh` on have not been looked at.
        """


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sampling:
    """How tokens are chosen."""

    temperature: float = 0.0  # 0 takes the most likely token
    top_k: int = 0  # only the k most likely tokens; 0 takes all
    top_p: float = 1.0  # only the most likely tokens that hold this much probability; 1 takes all

    def __post_init__(self):
        for name in ("temperature", "top_p"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, numbers.Real):
                raise ValueError(f"{name}={value!r} must be a number")
        low, high = _TEMPERATURES
        if self.temperature != 0 and not low <= self.temperature <= high:
            raise ValueError(
                f"temperature={self.temperature} must be 0 (greedy) or lie in [{low:g}, {high:g}]"
            )
        whole_number("top_k", self.top_k, low=0)
        if not np.finfo(np.float32).tiny <= self.top_p <= 1:
            raise ValueError(f"top_p={self.top_p} must lie in (0, 1]")


GREEDY = Sampling()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Request:
    """One chain to generate."""

    prompt: tuple[int, ...]  # token ids after the engine's shared prefix; at least one
    max_new_tokens: int  # the most tokens to sample, the stop token included
    sampling: Sampling = GREEDY  # how tokens are chosen
    # seed, problem, sample: together with the chain's round and a token's position they determine
    # the random numbers; each in 0..2³² − 1
    seed: int = 0
    problem: int = 0
    sample: int = 0
    stop: tuple[str, ...] = ()  # texts that end the chain; they are cut off
    watch: Watch | None = None  # may end the chain early
    # whether an ended chain keeps its slot, so that `Engine.resume` prefills nothing; its holder
    # must `release` it
    hold: bool = False

    def __post_init__(self):
        object.__setattr__(self, "prompt", token_ids("prompt", self.prompt))
        if not self.prompt:
            raise ValueError("prompt is empty; a request needs at least one token")
        whole_number("max_new_tokens", self.max_new_tokens, low=1)
        for name in ("seed", "problem", "sample"):
            whole_number(name, getattr(self, name), low=0, high=_UINT32_MAX)
        if not isinstance(self.sampling, Sampling):
            raise ValueError(f"sampling={self.sampling!r} must be a Sampling")
        stop = self.stop
        if isinstance(stop, str) or not all(isinstance(text, str) and text for text in stop):
            raise ValueError(f"stop={stop!r} must be a tuple of texts, none of them empty")
        object.__setattr__(self, "stop", tuple(stop))
        for text in self.stop:
            text.encode()  # a lone surrogate is not text: UnicodeEncodeError, a ValueError


@dataclasses.dataclass(eq=False)
class Chain:
    """A chain of tokens, while it is generated and after."""

    request: Request  # what was asked for
    # ids after the prompt: sampled and appended ones, the stop token included
    tokens: list[int] = dataclasses.field(default_factory=list)
    # for each captured statistic one float a token
    stats: dict[str, list[float]] = dataclasses.field(default_factory=dict)
    # why it ended: `"eos"`, `"stop"` (a stop text), `"length"`, `"nan"` (the model's logits were
    # not finite), `"cancelled"`, or what its watch said; None while it runs
    finish: str | None = None
    # bytes of a token that a stop text cut in two, up to the cut; the token itself is not in
    # `tokens`
    tail: bytes = b""
    round: int = 0  # how often the chain was resumed
    # ids that were given by `resume` and are still to be fed
    appended: list[int] = dataclasses.field(default_factory=list)
    sampled: int = 0  # tokens sampled in this round
    # sampling, forbid, watch: as the request or the last `resume` has them
    sampling: Sampling = GREEDY
    forbid: tuple[int, ...] = ()
    watch: Watch | None = None

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
