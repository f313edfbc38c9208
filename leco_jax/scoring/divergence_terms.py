"""Divergences written as terms per id, and their derivatives: what every form computes.

With log-probabilities u of the student and t of the teacher, and m of the middle (p + q)/2, the
derivative by the student's tempered logits is

    forward    p − q
    reverse    p · (u − t − KL(p ‖ q))
    jsd        p · (u − m − KL(p ‖ middle)) / 2

and the teacher's is the same with the two exchanged, and with them forward and reverse.
"""

import dataclasses
import math
from typing import Any, NamedTuple

import jax.numpy as jnp

from leco_jax.scoring import partials
from leco_jax.scoring.types import Options

DIRECTIONS = {"forward": "reverse", "reverse": "forward", "jsd": "jsd"}  # and what exchanges give


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pair:
    """What is compared, static under jit: the direction, and each model's distribution."""

    direction: str
    options: tuple[Options, Options]
    layouts: tuple[str, str] = ("VD", "VD")
    teacher_gradient: bool = False


class Side(NamedTuple):
    """A model: logits `[..., T, V]` or what they are made of, and the factor `[..., T]` or None."""

    source: Any
    scale: Any


class Level(NamedTuple):
    """Peak and logarithm of the mass of each row, `[..., T]`; +inf where it has no terms."""

    peak: Any
    log_mass: Any


def logprob(x, level: Level, options: Options):
    """Of capped logits, with levels of the same shape or of one that broadcasts."""
    return partials.scaled_gap(x, level.peak, options) - level.log_mass


def terms_of(u, t, direction: str):
    """What the student's and the teacher's share of the divergence sum up; see the module."""

    def of(own, other):
        p = jnp.exp(own)
        gap = jnp.where(p != 0, own - other, 0.0)  # NaN is not 0, −inf − (−inf) would be
        return p * gap

    if direction == "jsd":
        middle = jnp.logaddexp(u, t) - math.log(2.0)
        return 0.5 * of(u, middle), 0.5 * of(t, middle)
    return (of(u, t),) if direction == "reverse" else (of(t, u),)


def derivative(own, other, share, direction: str):
    """By the tempered logits of the model whose log-probabilities are `own`."""
    p = jnp.exp(own)
    if direction == "forward":
        return p - jnp.exp(other)
    gap = own - other
    if direction == "jsd":
        gap = 0.5 * (own - (jnp.logaddexp(own, other) - math.log(2.0)))
    return p * jnp.where(p != 0, gap - share[..., None], 0.0)
