"""What the scoring functions take and return: options, results, the ways from and to the host."""

import dataclasses
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

STATS = (
    "logprob",
    "entropy",
    "self_certainty",
    "max_logprob",
    "topk_logprob",
    "topk_logmass",
    "logsumexp",
    "argmax",
)
TOPK_STATS = frozenset({"topk_logprob", "topk_logmass"})
MAX_TOPK = 20
IMPLEMENTATIONS = ("auto", "xla", "pallas_tpu", "reference")


class TokenStats(NamedTuple):
    """Per-token statistics, each `[..., T]` float32, or None where not asked for.

    `logprob` is `[..., T, K]` where K ids were given for each token; `argmax` is int32.
    """

    logprob: Any = None
    entropy: Any = None
    self_certainty: Any = None
    max_logprob: Any = None
    topk_logprob: Any = None
    topk_logmass: Any = None
    logsumexp: Any = None
    argmax: Any = None


class Asked(NamedTuple):
    """What a caller says of each row, besides its logits.

    Attributes:
      tokens: `[..., T, K]` int32 ids to score.
      scale: `[..., T]` float32, what the capped logits are multiplied by; None where the options'
        temperature is all.
      mask: `[..., T]` bool, rows to compute; None for all.
    """

    tokens: Any
    scale: Any = None
    mask: Any = None


class StepScores(NamedTuple):
    """Per-step scores, each `[..., num_steps]`: float32, and int32 for the length."""

    average: jax.Array
    divergence: jax.Array
    transition: jax.Array
    score: jax.Array
    length: jax.Array


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """The distribution and the statistics asked for; hashable, so static under jit.

    `valid_vocab` counts the ids of the whole vocabulary; under `axis_name` the arrays hold one
    shard of it.
    """

    stats: tuple[str, ...] = ("logprob",)
    soft_cap: float | None = None
    temperature: float = 1.0
    valid_vocab: int | None = None
    topk: int = MAX_TOPK
    axis_name: Any = None
    implementation: str = "auto"

    def __post_init__(self):
        stats = (self.stats,) if isinstance(self.stats, str) else tuple(self.stats)
        object.__setattr__(self, "stats", stats)
        for name in ("soft_cap", "temperature"):
            object.__setattr__(self, name, _number(getattr(self, name), name))
        for name in ("valid_vocab", "topk"):
            value = getattr(self, name)
            if value is not None and not isinstance(value, (int, np.integer)):
                raise ValueError(f"{name} must be a whole number; got {value!r}")
        unknown = [name for name in self.stats if name not in STATS]
        if unknown or not self.stats:
            raise ValueError(f"stats must name some of {STATS}; got {self.stats!r}")
        if self.soft_cap is not None and not 0 < self.soft_cap < math.inf:
            raise ValueError(f"soft_cap must be positive, or None for no cap; got {self.soft_cap}")
        if not 0 < self.temperature < math.inf:
            raise ValueError(
                f"temperature must be positive; got {self.temperature} (greedy decoding is scored "
                "with the temperature of the distribution you mean, usually 1.0)"
            )
        if not 1 <= self.topk <= MAX_TOPK:
            raise ValueError(f"topk must be in [1, {MAX_TOPK}]; got {self.topk}")
        if self.implementation == "pallas_gpu":
            raise ValueError(
                'implementation="pallas_gpu" does not exist: the XLA form serves GPUs; '
                'pass "auto" or "xla"'
            )
        if self.implementation not in IMPLEMENTATIONS:
            raise ValueError(
                f"implementation must be one of {IMPLEMENTATIONS}; got {self.implementation!r}"
            )

    @property
    def needs_dot(self) -> bool:
        return "entropy" in self.stats

    @property
    def needs_total(self) -> bool:
        return "self_certainty" in self.stats

    @property
    def needs_argmax(self) -> bool:
        return "argmax" in self.stats

    @property
    def needs_top(self) -> bool:
        return not TOPK_STATS.isdisjoint(self.stats)


def _number(value, name: str) -> float | None:
    """A float, of a number or of an array of one."""
    if value is None:
        return None
    if isinstance(value, jax.core.Tracer):
        raise ValueError(f"{name} must be known when tracing; make it static in your jit")
    if np.ndim(value) or not np.issubdtype(np.asarray(value).dtype, np.number):
        raise ValueError(f"{name} must be one number; got {value!r}")
    return float(value)


def to_host(tree):
    """Copies a tree of 32-bit arrays, such as StepScores, to NumPy arrays in a single transfer.

    Fetched field by field, five small arrays cost five round trips to the device; here their bits
    are joined on the device first.

    Args:
      tree: of float32, int32 or uint32 arrays; None stays None.

    Returns:
      The same tree of NumPy arrays.

    Raises:
      ValueError: an array of another width.
    """
    leaves, structure = jax.tree.flatten(tree)
    for leaf in leaves:
        if leaf.dtype.itemsize != 4:
            raise ValueError(f"to_host joins arrays of 32-bit numbers; got {leaf.dtype}")
    bits = np.asarray(jax.device_get(_joined(leaves)))
    ends = np.cumsum([leaf.size for leaf in leaves])[:-1]
    parts = zip(np.split(bits, ends), leaves, strict=True)
    arrays = [part.view(leaf.dtype).reshape(leaf.shape) for part, leaf in parts]
    return jax.tree.unflatten(structure, arrays)


def pad_to(chains, *, fill=0, least: int = 64) -> np.ndarray:
    """Stacks chains of many lengths as rows of one of few lengths, so that few programs compile.

    Args:
      chains: sequences of numbers, each of its own length.
      fill: what follows a chain's end: −1 for step ids and for tokens to ignore.
      least: the smallest length; the others are its doubles.

    Returns:
      `[chains, T]`, T the smallest such length that holds them all, of the chains' dtype.

    Raises:
      ValueError: no chain.
    """
    rows = [np.asarray(chain) for chain in chains]
    if not rows:
        raise ValueError("pad_to needs at least one chain")
    longest = max(map(len, rows))
    length = least * 2 ** max(0, math.ceil(math.log2(max(1, longest) / least)))
    padded = np.full((len(rows), length), fill, np.result_type(*rows))
    for row, chain in zip(padded, rows, strict=True):
        row[: len(chain)] = chain
    return padded


@jax.jit
def _joined(leaves):
    return jnp.concatenate([lax.bitcast_convert_type(x, jnp.int32).reshape(-1) for x in leaves])
