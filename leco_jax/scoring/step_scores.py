"""From token log-probabilities to LeCo's score of each step (arXiv 2403.19094).

With the probabilities p of one step's n scored tokens:

    average     mean(p)
    divergence  log(KL(p/Σp ‖ uniform)^τ + 1)
    transition  mean of the step's own first `heading_tokens` probabilities
    score       average + transition − divergence

All are made of sums that a `StepState` holds for each step, so tokens may come in chunks
(`step_state`, `update`, `scores`) or all at once (`step_scores`): the same sums, the same scores.

The KL is a sum of terms ≥ 0, so that nothing cancels near zero: with the mean m of the weights w,
which are p up to a factor, KL = Σ m·φ(w/m − 1) / Σ w, φ(d) = (1 + d) log(1 + d) − d. Two chunks
with means a and b add n_a·m·φ(a/m − 1) + n_b·m·φ(b/m − 1). The factor is the probability of the
step's first possible token times a power of two, so equal probabilities have w = 1 and KL = 0, and
a factor that changes from chunk to chunk rounds nothing.
"""

import dataclasses
import functools
import math
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from leco_jax.scoring import shards
from leco_jax.scoring.types import StepScores

POSITIVE = 1e-3  # log-probabilities up to here are rounding, beyond it a mistake
_CELLS = 2**15  # tokens × steps of a row that are looked at together
_LN2 = (0.693359375, -2.12194440e-4)  # in two parts, so that x − k·ln 2 is exact for small k
_LOWEST = -(2**20)


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=[
        "length", "total", "heading_length", "heading_total", "pivot", "exponent", "mass",
        "excess", "opened",
    ],
    meta_fields=["tau", "heading_tokens", "label"],
)  # fmt: skip
@dataclasses.dataclass(frozen=True)
class StepState:
    """Sums over each step's tokens so far, `[..., num_steps]`; a pytree, the options are static."""

    length: Any  # int32, tokens
    total: Any  # Σ p
    heading_length: Any  # int32, tokens of the heading
    heading_total: Any  # Σ p over the heading
    pivot: Any  # log-probability of the first possible token, −inf before it
    exponent: Any  # int32; weights are p / (exp(pivot)·2^exponent)
    mass: Any  # Σ w
    excess: Any  # Σ m·φ(w/m − 1)
    opened: Any  # int32 `[...]`, steps that flags have opened
    tau: float
    heading_tokens: int
    label: str


def step_state(
    batch_shape: tuple[int, ...] = (),
    *,
    num_steps: int,
    tau: float = 0.3,
    heading_tokens: int = 3,
    label: Literal["exclude", "include"] = "exclude",
) -> StepState:
    """The state before the first token.

    Args:
      batch_shape: the shape of the log-probabilities to come, without their last axis.
      num_steps: how many steps to keep.
      tau: exponent of the divergence.
      heading_tokens: how many of a step's first scored tokens make its transition score.
      label: whether `in_label` tokens of `update` are scored.

    Returns:
      StepState.

    Raises:
      ValueError: a tau, heading_tokens or num_steps that is not positive.
    """
    if not 0 < tau < math.inf or heading_tokens < 1 or num_steps < 1:
        raise ValueError(
            "tau, heading_tokens and num_steps must be positive; "
            f"got {tau}, {heading_tokens} and {num_steps}"
        )
    zeros = jnp.zeros((*batch_shape, num_steps), jnp.float32)
    none = jnp.zeros(zeros.shape, jnp.int32)
    return StepState(
        length=none,
        total=zeros,
        heading_length=none,
        heading_total=zeros,
        pivot=zeros - jnp.inf,
        exponent=none + _LOWEST,
        mass=zeros,
        excess=zeros,
        opened=jnp.zeros(batch_shape, jnp.int32),
        tau=tau,
        heading_tokens=heading_tokens,
        label=label,
    )


def update(state: StepState, logprob, steps, *, in_label=None, heading=None) -> StepState:
    """Adds a chunk of tokens.

    Args:
      state: of the tokens before.
      logprob: `[..., T]` log-probability of each token, in nats.
      steps: `[..., T]`. Integers: the step of each token, −1 where it is not scored. Or bool flags:
        true where a token opens a step, which the tokens up to the next flag belong to.
      in_label: `[..., T]` bool, tokens inside a step's label. They never belong to the heading; the
        state's `label` says whether they are scored.
      heading: `[..., T]` bool, overrides the count of heading tokens.

    Returns:
      The state of all tokens so far, of the same shapes.

    Raises:
      ValueError: shapes or dtypes that do not fit; outside jit also step ids at or beyond
        `num_steps` and positive log-probabilities. Under jit tokens of such steps are left out, and
        such log-probabilities make the step's figures NaN.
    """
    logprob, steps, in_label, heading = _checked(
        logprob, steps, in_label, heading, state.length.shape[-1], flags=True
    )
    if logprob.shape[:-1] != state.length.shape[:-1]:
        raise ValueError(
            f"logprob {logprob.shape} does not fit a state of batch shape {state.length.shape[:-1]}"
        )
    rows = shards.spec_of(state.length, state.length.ndim - 1)
    return shards.in_auto_axes(_update, [rows], state, logprob, steps, in_label, heading)


def scores(state: StepState) -> StepScores:
    """The scores of the tokens so far, as `step_scores` would give them."""
    rows = shards.spec_of(state.length, state.length.ndim - 1)
    return shards.in_auto_axes(_scores, [rows], state)


@jax.jit
def _scores(state: StepState) -> StepScores:
    count = jnp.maximum(state.length, 1)
    average = state.total / count
    transition = state.heading_total / jnp.maximum(state.heading_length, 1)
    transition = jnp.where(state.heading_length > 0, transition, average)
    possible = state.mass != 0  # NaN is
    kl = jnp.where(possible, state.excess, 0.0) / jnp.where(possible, state.mass, 1.0)
    flat = kl <= 0
    divergence = jnp.where(flat, 0.0, jnp.log1p(jnp.where(flat, 1.0, kl) ** state.tau))
    score = jnp.where(state.length > 0, average + transition - divergence, jnp.inf)
    return StepScores(average, divergence, transition, score, state.length)


def step_scores(
    logprob, step_ids, *, num_steps: int, tau: float = 0.3, heading_tokens: int = 3, heading=None
) -> StepScores:
    """Scores of each step, from the log-probabilities of its tokens.

    Args:
      logprob: `[..., T]` log-probability of each token, in nats.
      step_ids: `[..., T]` integers in [0, num_steps); −1 where a token is not scored.
      num_steps: how many steps to return.
      tau: exponent of the divergence.
      heading_tokens: how many of a step's first scored tokens make its transition score.
      heading: `[..., T]` bool, overrides them: which scored tokens are a step's heading. A step
        whose heading is empty takes its average for the transition.

    Returns:
      StepScores `[..., num_steps]`. A step without scored tokens has length 0, score +inf, else 0.
      NaN log-probabilities of scored tokens give NaN.

    Raises:
      ValueError: as for `step_state` and `update`.
    """
    logprob, step_ids, _, heading = _checked(logprob, step_ids, None, heading, num_steps)
    state = step_state(
        logprob.shape[:-1], num_steps=num_steps, tau=tau, heading_tokens=heading_tokens
    )
    rows = [shards.spec_of(x, x.ndim - 1) for x in (logprob, step_ids)]
    arrays = state, logprob, step_ids, None, heading
    return shards.in_auto_axes(lambda *xs: _scores(_update(*xs)), rows, *arrays)


def heading_mask(step_ids, *, num_steps: int, heading_tokens: int):
    """Marks each step's heading: its first `heading_tokens` scored tokens.

    For headings that begin after a scored label: pass `step_ids` with −1 in the labels.

    Args:
      step_ids: `[..., T]` int32, −1 where a token does not count.
      num_steps: how many steps there are.
      heading_tokens: how many tokens a heading has.

    Returns:
      `[..., T]` bool for `step_scores(heading=...)`.
    """
    member = jnp.asarray(step_ids)[..., None] == jnp.arange(num_steps)
    return (member & (jnp.cumsum(member, -2) <= heading_tokens)).any(-1)


def _checked(logprob, steps, in_label, heading, num_steps: int, *, flags: bool = False):
    """The arguments as arrays that fit each other."""
    logprob, steps = jnp.asarray(logprob), jnp.asarray(steps)
    if not jnp.issubdtype(logprob.dtype, jnp.floating):
        raise ValueError(f"logprob must be floating point; got {logprob.dtype}")
    if not (jnp.issubdtype(steps.dtype, jnp.integer) or (flags and steps.dtype == bool)):
        raise ValueError(f"step ids must be integers; got {steps.dtype}")
    masks = {"in_label": in_label, "heading": heading}
    masks = {name: None if x is None else jnp.asarray(x) for name, x in masks.items()}
    for name, x in {"step_ids": steps, **masks}.items():
        if x is not None and x.shape != logprob.shape:
            raise ValueError(f"logprob {logprob.shape} and {name} {x.shape} differ in shape")
        if x is not None and name in masks and x.dtype != bool:
            raise ValueError(f"{name} must be bool; got {x.dtype}")
    if not logprob.ndim:
        raise ValueError("logprob must have an axis of tokens; got a single number")
    if steps.dtype != bool and _known(steps):
        largest = int(np.asarray(steps).max(initial=-1))
        if largest >= num_steps:
            raise ValueError(f"num_steps={num_steps} leaves out step id {largest}")
        if _known(logprob):
            positive = (np.asarray(steps) >= 0) & (np.asarray(logprob, np.float32) > POSITIVE)
            if positive.any():
                raise ValueError(
                    f"{positive.sum()} scored log-probabilities are positive; "
                    "step_scores takes log-probabilities, not probabilities or logits"
                )
    return logprob, steps, *masks.values()


def _known(x) -> bool:
    """Whether the values can be looked at: not under jit, nor on other hosts' devices."""
    return not isinstance(x, jax.core.Tracer) and x.is_fully_addressable


@jax.jit
def _update(state: StepState, logprob, steps, in_label, heading) -> StepState:
    if steps.dtype == bool:
        opened = state.opened[..., None] + jnp.cumsum(steps, -1, dtype=jnp.int32)
        state = dataclasses.replace(state, opened=opened[..., -1] if steps.size else state.opened)
        steps = opened - 1
    tokens, number = logprob.shape[-1], state.length.shape[-1]
    counts = steps >= 0 if in_label is None else (steps >= 0) & ~in_label
    if state.label == "exclude":
        steps = jnp.where(counts, steps, -1)
    chunk = min(tokens, max(16, _CELLS // number))
    arrays = (logprob.astype(jnp.float32), steps, counts if heading is None else heading)
    absorb = functools.partial(_absorb, overridden=heading is not None)
    state = jax.tree.map(lambda x: shards.vary_like(x, *arrays), state)
    whole = tokens // chunk * chunk if tokens else 0
    if whole > chunk:

        def split(x):
            return jnp.moveaxis(x[..., :whole].reshape(*x.shape[:-1], -1, chunk), -2, 0)

        state, _ = lax.scan(
            lambda s, xs: (absorb(s, *xs), None), state, jax.tree.map(split, arrays)
        )
    elif whole:
        state = absorb(state, *(x[..., :whole] for x in arrays))
    return absorb(state, *(x[..., whole:] for x in arrays)) if whole < tokens else state


def _absorb(state: StepState, logprob, step_ids, in_heading, *, overridden: bool) -> StepState:
    """Adds tokens `[..., T]`; every sum is a masked reduction [..., T, S] that XLA fuses.

    Args:
      state: of the tokens before.
      logprob: float32.
      step_ids: −1 where a token is not scored.
      in_heading: which tokens are a heading if `overridden`, else which may be.
      overridden: see above.
    """
    number = state.length.shape[-1]
    member = step_ids[..., None] == jnp.arange(number)

    def total(x, where=member):
        return jnp.where(where, x[..., None], 0).sum(-2)

    def of_step(x):
        """The value of each token's step."""
        return jnp.where(member, x[..., None, :], 0).sum(-1)

    scored = member.any(-1)
    logprob = jnp.where(scored, jnp.where(logprob > POSITIVE, jnp.nan, logprob), 0.0)
    p = jnp.exp(logprob)
    length = member.sum(-2, dtype=jnp.int32)
    heading = member & in_heading[..., None]
    if not overridden:
        rank = state.heading_length[..., None, :] + jnp.cumsum(heading, -2, dtype=jnp.int32)
        heading = heading & (rank <= state.heading_tokens)

    # Weights relative to the step's first possible token and its largest power of two.
    possible = scored & (logprob != -jnp.inf)
    place = jnp.arange(logprob.shape[-1])
    first = jnp.where(member & possible[..., None], place[:, None], len(place)).min(-2)
    starts = total(lax.stop_gradient(logprob), place[:, None] == first[..., None, :])
    fresh = (state.pivot == -jnp.inf) & (first < len(place))
    pivot = jnp.where(fresh, starts, state.pivot)
    x = jnp.clip(
        jnp.where(possible, logprob - of_step(jnp.where(pivot == -jnp.inf, 0, pivot)), 0.0),
        -1e5,
        1e5,
    )
    k = jnp.floor(lax.stop_gradient(jnp.nan_to_num(x)) / math.log(2.0))
    fraction = jnp.exp((x - k * _LN2[0]) - k * _LN2[1])
    k = k.astype(jnp.int32)
    largest = jnp.where(member & possible[..., None], k[..., None], _LOWEST).max(-2)
    exponent = jnp.maximum(state.exponent, largest)
    weight = jnp.where(possible, fraction * _power_of_two(k - of_step(exponent)), 0.0)
    mass = total(weight)
    mean = of_step(mass / jnp.maximum(length, 1))
    exists = mean != 0
    deviation = jnp.where(exists, weight - mean, 0.0) / jnp.where(exists, mean, 1.0)
    excess = total(mean * _excess(deviation))

    # Two sets of tokens: the sums add, and so does what their means differ by.
    scale = _power_of_two(state.exponent - exponent)
    old_mass, old_excess = state.mass * scale, state.excess * scale
    both, count = old_mass + mass, state.length + length
    exists = (state.length > 0) & (length > 0) & (both != 0)
    center = jnp.where(exists, both, 1.0) / jnp.maximum(count, 1)
    gap = jnp.where(
        exists, mass / jnp.maximum(length, 1) - old_mass / jnp.maximum(state.length, 1), 0.0
    )
    gap = gap / center / jnp.maximum(count, 1)
    between = state.length * _excess(-length * gap) + length * _excess(state.length * gap)
    return dataclasses.replace(
        state,
        length=count,
        total=state.total + total(p),
        heading_length=state.heading_length + heading.sum(-2, dtype=jnp.int32),
        heading_total=state.heading_total + total(p, heading),
        pivot=pivot,
        exponent=exponent,
        mass=both,
        excess=old_excess + excess + jnp.where(exists, center * between, 0.0),
    )


def _power_of_two(exponent):
    """2^exponent for exponents ≤ 0, exactly; 0 below what float32 holds."""
    bits = jnp.maximum(exponent + 127, 0) << 23
    return lax.bitcast_convert_type(bits.astype(jnp.int32), jnp.float32)


def _excess(d):
    """(1 + d) log(1 + d) − d for d ≥ −1, accurate near zero, with finite slopes."""
    small = jnp.abs(d) < 0.1
    near = jnp.where(small, d, 0.0)
    series = jnp.zeros_like(near)
    for n in range(9, 1, -1):  # Σ (−1)^n dⁿ / (n (n − 1))
        series = near * series + (1.0 if n % 2 == 0 else -1.0) / (n * (n - 1))
    series = near * near * series
    ratio = jnp.maximum(jnp.where(small, 1.0, 1.0 + d), 1e-30)
    return jnp.where(small, series, ratio * jnp.log(ratio) - jnp.where(small, 0.0, d))
