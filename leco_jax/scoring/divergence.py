"""How far two models' next-token distributions are apart, token by token: the public functions."""

import dataclasses
import functools
from typing import Any

import jax.numpy as jnp
from jax import lax

from leco_jax.scoring import api, shards
from leco_jax.scoring.divergence_passes import divergence
from leco_jax.scoring.divergence_terms import DIRECTIONS, Pair, Side, terms_of
from leco_jax.scoring.types import Options

OF_STUDENT = ("soft_cap", "temperature", "valid_vocab", "axis_name", "implementation")
REST = 1e-7  # the least probability, in float32, of all ids that a stored top k leaves out


def kl(
    logits,
    teacher_logits=None,
    *,
    teacher_ids=None,
    teacher_logprobs=None,
    mask=None,
    **options,
):
    """Divergence of each token's distribution from a teacher's, in nats.

    With p the student's distribution and q the teacher's, each after its soft cap and temperature:

        forward   KL(q ‖ p) = Σ q·log(q/p)
        reverse   KL(p ‖ q)
        jsd       (KL(p ‖ m) + KL(q ‖ m)) / 2 with m = (p + q)/2, at most log 2

    Of a teacher whose k largest log-probabilities are stored, the ids left out count as one: their
    probabilities are 1 minus the sum over the k, at least 1e-7. That never exceeds the divergence
    of the whole distributions.

    Args:
      logits: `[..., T, V]` of any float type; sums are float32.
      teacher_logits: `[..., T, V]`; or else
      teacher_ids: `[..., T, K]` different ids; negative ones are ignored.
      teacher_logprobs: `[..., T, K]` their log-probabilities, in nats.
      mask: `[..., T]` bool, rows to compute; the others are 0 and have no gradient.
      **options:

        direction: "forward" (the default), "reverse" or "jsd".
        temperature: of the student; a number, or an array that fits `[..., T]`.
        teacher_temperature: of the teacher's logits; None for the student's.
        soft_cap: of the student's logits, before the temperature.
        teacher_soft_cap: of the teacher's.
        valid_vocab: how many leading ids exist; None for all.
        teacher_gradient: differentiate in the teacher too; else it is a constant.
        axis_name: the mesh axis (inside `shard_map`) that shards both vocabularies evenly.
        implementation: "auto", "xla" or "pallas_tpu", as in `token_stats`.

    Returns:
      `[..., T]` float32, never negative beyond rounding. NaN where either row has NaN, +inf or
      nothing but −inf; +inf where a possible id is impossible for the other. Multiply by weights,
      and by the square of the temperature to keep the size of gradients.

    Raises:
      ValueError: arguments that do not fit.
    """
    pair, scales = _pair(**options)
    logits = api.floats(logits, "logits")
    api.check_vocabulary(logits, logits.shape[-1], "logits", pair.options[0])
    if _is_stored(teacher_logits, teacher_ids, teacher_logprobs, options):
        score = functools.partial(api.token_stats, logits)
        return _against_stored(score, teacher_ids, teacher_logprobs, mask, options)
    teacher = api.floats(teacher_logits, "teacher_logits")
    if teacher.shape != logits.shape:
        raise ValueError(f"teacher_logits {teacher.shape} must have the shape {logits.shape}")
    return _between((logits, teacher), scales, mask, logits, pair)


def kl_from_hidden(
    hidden,
    unembed,
    teacher_hidden=None,
    teacher_unembed=None,
    *,
    layout: str = "VD",
    teacher_layout: str | None = None,
    bias=None,
    teacher_bias=None,
    teacher_ids=None,
    teacher_logprobs=None,
    mask=None,
    **options,
):
    """`kl` of the logits `hidden · unembed` of both models, which never exist as a whole.

    Args:
      hidden: `[..., T, D]` of the student.
      unembed: `[V, D]`, or `[D, V]` with layout "DV"; under `axis_name` this device's share of V.
      teacher_hidden: `[..., T, E]`; the widths may differ.
      teacher_unembed: `[V, E]`, or `[E, V]`.
      layout: "VD" or "DV".
      teacher_layout: of the teacher; None for the same.
      bias: `[V]` added to the student's logits, or None.
      teacher_bias: `[V]` added to the teacher's.
      teacher_ids: as for `kl`.
      teacher_logprobs: as for `kl`.
      mask: as for `kl`; rows that are masked out cost next to nothing.
      **options: as for `kl`; the TPU kernel takes bfloat16 or float32 of both models, no bias, and
        one temperature each, known when tracing.

    Returns:
      `[..., T]` float32.

    Raises:
      ValueError: arguments that do not fit.
    """
    pair, scales = _pair(**options)
    head = api.checked_head(hidden, unembed, bias, layout, pair.options[0])
    if _is_stored(teacher_hidden, teacher_ids, teacher_logprobs, options):
        score = functools.partial(
            api.token_stats_from_hidden, hidden, unembed, layout=layout, bias=bias
        )
        return _against_stored(score, teacher_ids, teacher_logprobs, mask, options)
    layouts = (layout, layout if teacher_layout is None else teacher_layout)
    teacher = api.checked_head(
        teacher_hidden, teacher_unembed, teacher_bias, layouts[1], pair.options[1], "teacher_"
    )
    vocabs = [x.unembed.shape[y.index("V")] for x, y in zip((head, teacher), layouts, strict=True)]
    if vocabs[0] != vocabs[1] or teacher.hidden.shape[:-1] != head.hidden.shape[:-1]:
        raise ValueError(
            f"the student has rows {head.hidden.shape[:-1]} and {vocabs[0]} ids, the teacher "
            f"{teacher.hidden.shape[:-1]} and {vocabs[1]}; they must be the same"
        )
    pair = dataclasses.replace(pair, layouts=layouts)
    return _between((head, teacher), scales, mask, head.hidden, pair)


def _pair(
    *,
    direction: str = "forward",
    temperature: Any = 1.0,
    teacher_temperature: Any = None,
    soft_cap: float | None = None,
    teacher_soft_cap: float | None = None,
    valid_vocab: int | None = None,
    teacher_gradient: bool = False,
    axis_name=None,
    implementation: str = "auto",
):
    """What is compared, and the factors of both models' rows."""
    if direction not in DIRECTIONS:
        raise ValueError(f"direction must be one of {tuple(DIRECTIONS)}; got {direction!r}")
    if implementation == "reference":
        raise ValueError('divergences have no implementation="reference"; pass "xla"')
    of_teacher = temperature if teacher_temperature is None else teacher_temperature
    numbers, scales = zip(*map(api.temperature_of, (temperature, of_teacher)), strict=True)
    student, teacher = (
        Options(
            temperature=number,
            soft_cap=cap,
            valid_vocab=valid_vocab,
            axis_name=axis_name,
            implementation=implementation,
        )
        for number, cap in zip(numbers, (soft_cap, teacher_soft_cap), strict=True)
    )
    pair = Pair(direction=direction, options=(student, teacher), teacher_gradient=teacher_gradient)
    return pair, scales


def _is_stored(teacher, ids, logprobs, options) -> bool:
    """Whether the teacher is a stored top k; refuses none, half of one, and two."""
    if (ids is None) != (logprobs is None) or (ids is None) == (teacher is None):
        raise ValueError(
            "pass one teacher: its logits or hidden states, or teacher_ids with teacher_logprobs"
        )
    if ids is not None and options.get("teacher_temperature") is not None:
        raise ValueError("teacher_temperature does not apply to stored log-probabilities")
    return ids is not None


def _against_stored(score, ids, logprobs, mask, options):
    """The divergence over k + 1 outcomes, by JAX's own derivative of K log-probabilities."""
    direction = options.get("direction", "forward")
    of_student = {name: x for name, x in options.items() if name in OF_STUDENT}
    ids, t = jnp.asarray(ids), lax.stop_gradient(api.floats(logprobs, "teacher_logprobs"))
    if ids.shape != t.shape:
        raise ValueError(f"teacher_ids {ids.shape} and teacher_logprobs {t.shape} differ in shape")
    there = ids >= 0
    u, t = score(ids, mask=mask, **of_student).logprob, jnp.where(there, t.astype(jnp.float32), 0.0)
    rest = [
        jnp.log(jnp.maximum(1.0 - jnp.where(there, jnp.exp(x), 0.0).sum(-1), REST)) for x in (u, t)
    ]
    terms = sum(jnp.where(there, x, 0.0).sum(-1) for x in terms_of(u, t, direction))
    value = terms + sum(terms_of(rest[0], rest[1], direction))
    return value if mask is None else jnp.where(mask, value, 0.0)


def _between(sources, scales, mask, rows, pair: Pair):
    shape = rows.shape[:-1]
    mask = api.mask_of(mask, shape)
    scales = [api.scale_of(x, shape) for x in scales]
    sides = tuple(Side(*x) for x in zip(sources, scales, strict=True))
    if not pair.teacher_gradient:
        sides = (sides[0], lax.stop_gradient(sides[1]))
    specs = [shards.spec_of(rows, len(shape))]
    function = functools.partial(divergence, pair=pair)
    return shards.in_auto_axes(function, specs, sides, mask)
