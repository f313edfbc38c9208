"""From token log-probabilities to LeCo's score of each step (arXiv 2403.19094).

With the probabilities p of one step's n scored tokens:

    average     mean(p)
    divergence  log(KL(p/Σp ‖ uniform)^τ + 1)
    transition  mean of the step's own first `heading_tokens` probabilities
    score       average + transition − divergence
"""

import functools

import jax
import jax.numpy as jnp
from jax import lax

from leco_jax.scoring.types import StepScores


def step_scores(
    logprob, step_ids, *, num_steps: int, tau: float = 0.3, heading_tokens: int = 3, heading=None
) -> StepScores:
    """Scores of each step, from the log-probabilities of its tokens.

    Args:
      logprob: `[..., T]` log-probability of each token, in nats.
      step_ids: `[..., T]` int32 in [0, num_steps); −1 where a token is not scored.
      num_steps: how many steps to return.
      tau: exponent of the divergence.
      heading_tokens: how many of a step's first scored tokens make its transition score.
      heading: `[..., T]` bool, overrides them: which scored tokens are a step's heading. A step
        whose heading is empty takes its average for the transition.

    Returns:
      StepScores `[..., num_steps]`. A step without scored tokens has length 0, score +inf, else 0.

    Raises:
      ValueError: shapes that differ, or a tau or heading_tokens that is not positive.
    """
    if logprob.shape != step_ids.shape:
        raise ValueError(f"logprob {logprob.shape} and step_ids {step_ids.shape} differ in shape")
    if heading is not None and heading.shape != step_ids.shape:
        raise ValueError(f"heading {heading.shape} and step_ids {step_ids.shape} differ in shape")
    if tau <= 0 or heading_tokens < 1 or num_steps < 1:
        raise ValueError(
            "tau, heading_tokens and num_steps must be positive; "
            f"got {tau}, {heading_tokens} and {num_steps}"
        )
    return _step_scores(logprob, step_ids, heading, num_steps, tau, heading_tokens)


@functools.partial(jax.jit, static_argnums=(3, 4, 5))
def _step_scores(
    logprob, step_ids, heading, num_steps: int, tau: float, heading_tokens: int
) -> StepScores:
    # Every sum below is a masked reduction [..., T, S] -> [..., S] that XLA fuses: no scatter.
    member = step_ids[..., None] == jnp.arange(num_steps)

    def total(x, where=member):
        return jnp.where(where, x, 0.0).sum(-2)

    logprob = jnp.where(step_ids >= 0, logprob.astype(jnp.float32), 0.0)
    p = jnp.exp(logprob)
    length = member.sum(-2, dtype=jnp.int32)
    count = jnp.maximum(length, 1).astype(jnp.float32)
    average = total(p[..., None]) / count

    if heading is None:
        in_heading = member & _among_first(member, heading_tokens)
    else:
        in_heading = member & heading[..., None]
    headed = in_heading.sum(-2)
    transition = total(p[..., None], in_heading) / jnp.maximum(headed, 1)
    transition = jnp.where(headed > 0, transition, average)

    divergence = _divergence(logprob, member, count, tau)
    score = jnp.where(length > 0, average + transition - divergence, jnp.inf)
    return StepScores(average, divergence, transition, score, length)


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
    member = step_ids[..., None] == jnp.arange(num_steps)
    return (member & _among_first(member, heading_tokens)).any(-1)


def _among_first(member, count: int):
    """Which tokens come no later than each step's `count`-th one, `[..., T, S]`."""
    tokens = member.shape[-2]
    places = jnp.arange(tokens)[:, None]

    def following(_, last):
        later = member & (places > last[..., None, :])
        return jnp.where(later, places, tokens).min(-2, initial=tokens)

    first = jnp.where(member, places, tokens).min(-2, initial=tokens)
    last = lax.fori_loop(1, min(count, tokens), following, first)
    return places <= last[..., None, :]


def _divergence(logprob, member, count, tau: float):
    """log(KL^τ + 1), with KL as a mean of terms ≥ 0 so that nothing cancels near zero.

    KL(p/Σp ‖ uniform) = mean φ(d), φ(d) = (1 + d) log(1 + d) − d, d = p/mean(p) − 1.
    """
    # The initial value stands for a step of impossible tokens, or of none: any reference will do.
    largest = jnp.where(member, logprob[..., None], -jnp.inf).max(-2, initial=-1e30)
    largest = lax.stop_gradient(largest)
    # exp of −inf outside the step: a product of zero and an overflow would poison the gradient.
    weight = jnp.exp(jnp.where(member, logprob[..., None] - largest[..., None, :], -jnp.inf))
    mean = weight.sum(-2) / count
    deviation = weight / jnp.where(mean > 0, mean, 1.0)[..., None, :] - 1.0
    deviation = jnp.where(member & (mean > 0)[..., None, :], deviation, 0.0)
    kl = jnp.where(member, _excess(deviation), 0.0).sum(-2) / count
    positive = kl > 0
    return jnp.where(positive, jnp.log1p(jnp.where(positive, kl, 1.0) ** tau), 0.0)


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
