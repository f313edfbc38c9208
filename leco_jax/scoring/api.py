"""The public functions: check the arguments, bundle the options, call the implementation."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from leco_jax.scoring import dispatch, presets, reference, shards
from leco_jax.scoring.hidden_xla import Head
from leco_jax.scoring.types import MAX_TOPK, Asked, Options, StepScores, TokenStats


def token_stats(
    logits,
    tokens,
    *,
    stats=("logprob",),
    soft_cap: float | None = None,
    temperature: Any = 1.0,
    valid_vocab: int | None = None,
    topk: int = MAX_TOPK,
    mask=None,
    axis_name=None,
    implementation: str = "auto",
) -> TokenStats:
    """Statistics of each token's distribution, in one pass over the logits.

    `tokens[t]` is scored by `logits[t]`: the caller shifts. With x the logits after the soft cap
    and then the temperature, in float32, and p = softmax(x) over the valid vocabulary:

        logprob         x[y] − logsumexp(x)
        entropy         logsumexp(x) − Σ p·x
        self_certainty  KL(uniform ‖ p) = logsumexp(x) − mean(x) − log V
        max_logprob     max(x) − logsumexp(x)
        topk_logprob    mean of the `topk` largest log-probabilities
        topk_logmass    log of the summed probability of the `topk` most likely tokens
        logsumexp       logsumexp(x); its square is the z-loss
        argmax          the id of the largest x, the lowest where several are

    Differentiable in the logits (once; twice with "reference"), vmappable, and never NaN for logits
    that are finite or −inf: a row of nothing but −inf has log-probabilities and logsumexp −inf,
    entropy and self-certainty 0, gradient 0. NaN or +inf in a row makes its statistics and its
    gradient NaN; such rows have the arg-max −1.

    Args:
      logits: `[..., T, V]` of any float type; sums are float32.
      tokens: `[..., T]` integers of any type, or `[..., T, K]` for the log-probabilities of K ids
        each. A negative id is ignored: its log-probability is 0 whatever the logits. An id at or
        beyond the valid vocabulary has probability zero: −inf.
      stats: which statistics to compute, a name or several; others are None.
      soft_cap: c of c·tanh(logit/c), before the temperature; −inf stays −inf.
      temperature: divides the logits; not differentiable. A number, or an array that fits
        `[..., T]`, known or traced, for which there is no kernel; NaN where it is not positive.
      valid_vocab: how many leading ids exist; further columns are padding. None for all.
      topk: k of the top-k statistics, at most 20.
      mask: `[..., T]` bool, which rows to compute; the others have zeros and no gradient, and
        from hidden states cost next to nothing. None: all, or those with a token that is not
        ignored if log-probabilities alone are asked for.
      axis_name: the mesh axis (inside `shard_map`, or the axis of `pmap`) that shards V evenly.
      implementation: "auto", "xla", "pallas_tpu" or "reference"; all but "auto" are strict.

    Returns:
      TokenStats with fields `[..., T]` float32, but log-probabilities of the shape of `tokens`.

    Raises:
      ValueError: shapes or options that do not fit, or an implementation that was asked for by name
        and cannot run here, with the reason.
    """
    temperature, scale = temperature_of(temperature)
    options = Options(
        stats=stats,
        soft_cap=soft_cap,
        temperature=temperature,
        valid_vocab=valid_vocab,
        topk=topk,
        axis_name=axis_name,
        implementation=implementation,
    )
    logits = floats(logits, "logits")
    check_vocabulary(logits, logits.shape[-1], "logits", options)
    asked = _asked(tokens, scale, mask, logits, "logits", options)
    compute = reference if implementation == "reference" else dispatch
    function = functools.partial(compute.token_stats, options=options)
    specs = _row_specs(logits.ndim - 1, asked.tokens, logits)
    return _shaped(shards.in_auto_axes(function, specs, logits, asked), asked, tokens)


def token_stats_from_hidden(
    hidden,
    unembed,
    tokens,
    *,
    layout: str = "VD",
    bias=None,
    temperature: Any = 1.0,
    mask=None,
    **options,
) -> TokenStats:
    """`token_stats` of the logits `hidden · unembed`, which never exist as a whole.

    Differentiable in `hidden`, `unembed` and `bias`; the backward pass multiplies again, block by
    block. Products are accumulated in float32; float32 operands take JAX's default matmul precision
    (on TPU they are rounded to bfloat16 unless `jax.default_matmul_precision("highest")`).

    The TPU kernel has no top k, arg-max, bias, several ids per token or temperature per row: there
    "auto" takes plain JAX. Where there is a mask the wanted rows are brought to the front, which
    copies the hidden states.

    Args:
      hidden: `[..., T, D]`, what the unembedding is applied to.
      unembed: `[V, D]`, or `[D, V]` with layout "DV"; under `axis_name` this device's share of V.
      tokens: `[..., T]` or `[..., T, K]` integers, as in `token_stats`.
      layout: "VD" or "DV".
      bias: `[V]`, added to the logits before the soft cap, sharded like `unembed`; None for none.
      temperature: as in `token_stats`.
      mask: as in `token_stats`.
      **options: `stats`, `soft_cap`, `valid_vocab`, `topk`, `axis_name` and `implementation` of
        `token_stats`.

    Returns:
      TokenStats with fields `[..., T]` float32, but log-probabilities of the shape of `tokens`.

    Raises:
      ValueError: as in `token_stats`.
    """
    temperature, scale = temperature_of(temperature)
    bundled = Options(temperature=temperature, **options)
    head = checked_head(hidden, unembed, bias, layout, bundled)
    asked = _asked(tokens, scale, mask, head.hidden, "hidden", bundled)
    compute = reference if bundled.implementation == "reference" else dispatch
    function = functools.partial(compute.token_stats_from_hidden, options=bundled, layout=layout)
    specs = _row_specs(head.hidden.ndim - 1, asked.tokens, head.hidden)
    return _shaped(shards.in_auto_axes(function, specs, head, asked), asked, tokens)


def score_steps(logits, tokens, step_ids, *, num_steps: int, **options) -> StepScores:
    """LeCo's score of each step straight from logits: `token_stats`, then `step_scores`.

    Args:
      logits: `[..., T, V]`.
      tokens: `[..., T]`.
      step_ids: `[..., T]` integers, −1 where a token is not scored.
      num_steps: how many steps to return.
      **options: those of `token_stats` but `stats` and `topk`, and

        preset: the variant of the scores, whole: "paper", "official_code" or a StepPreset. Else it
          is made of the next three, by default "paper".
        tau: exponent of the divergence.
        heading_tokens: how many of a step's first scored tokens make its transition score.
        renormalise_topk: divide each probability by that of the k most likely tokens together (the
          published program: 5); None for the true probability.
        heading: `[..., T]` bool, overrides `heading_tokens`; see `step_scores`.
        in_label: `[..., T]` bool, tokens inside a label such as "Step 1:". The heading begins after
          it; the preset says whether the label is scored. None where there are no labels.

    Returns:
      StepScores `[..., num_steps]`.
    """
    return _score_steps(token_stats, (logits, tokens), step_ids, num_steps, options)


def score_steps_from_hidden(
    hidden, unembed, tokens, step_ids, *, num_steps: int, **options
) -> StepScores:
    """`score_steps` of `token_stats_from_hidden`, with the options of both."""
    arrays = hidden, unembed, tokens
    return _score_steps(token_stats_from_hidden, arrays, step_ids, num_steps, options)


def _score_steps(statistics, arrays, step_ids, num_steps: int, options: dict) -> StepScores:
    names = ("preset", "tau", "heading_tokens", "renormalise_topk")
    preset = presets.resolve(**{name: options.pop(name, None) for name in names})
    masks = {name: options.pop(name, None) for name in ("heading", "in_label")}
    for name in {"stats", "topk"} & options.keys():
        raise ValueError(
            f"score_steps takes no {name}: it computes what its preset is made of; "
            "renormalise_topk=k asks for probabilities among the k most likely tokens"
        )
    stats = statistics(*arrays, stats=preset.stats, topk=preset.topk, **options)
    return preset.step_scores(preset.logprob(stats), step_ids, num_steps=num_steps, **masks)


def _asked(tokens, scale, mask, scored, name: str, options: Options) -> Asked:
    """What is asked of each row, in the shapes that are computed with."""
    rows, tokens = scored.shape[:-1], jnp.asarray(tokens)
    tokens = _ids(tokens, scored, name)
    if mask is None and options.stats == ("logprob",):
        mask = (tokens >= 0).any(-1)
    return Asked(tokens, scale_of(scale, rows), mask_of(mask, rows))


def scale_of(scale, rows: tuple[int, ...]):
    """The factor of each row, or None."""
    try:
        return None if scale is None else jnp.broadcast_to(scale, rows)
    except ValueError:
        raise ValueError(
            f"temperature must be one number, or fit the rows {rows}; got {scale.shape}"
        ) from None


def mask_of(mask, rows: tuple[int, ...]):
    """Which rows to compute, or None for all."""
    mask = None if mask is None else jnp.asarray(mask)
    if mask is not None and (mask.dtype != bool or mask.shape != rows):
        raise ValueError(f"mask must be bool {rows}; got {mask.dtype} {mask.shape}")
    return mask


def temperature_of(value):
    """The temperature as a number known now, and as the factor of rows otherwise."""
    if not isinstance(value, jax.core.Tracer) and np.ndim(value) == 0:
        return value, None
    value = _not_differentiable(jnp.asarray(value).astype(jnp.float32))
    return 1.0, jnp.where((value > 0) & (value < jnp.inf), 1.0 / value, jnp.nan)


@jax.custom_jvp
def _not_differentiable(temperature):
    return temperature


@_not_differentiable.defjvp
def _(primals, tangents):
    raise ValueError("temperature is not differentiable: use stop_gradient, or divide the logits")


def _shaped(stats: TokenStats, asked: Asked, tokens) -> TokenStats:
    """Zeros in rows that are masked out; one log-probability where one id was given."""
    if asked.mask is not None:
        masks = TokenStats(*(asked.mask,) * len(stats))._replace(logprob=asked.mask[..., None])
        fields = zip(stats, masks, strict=True)
        stats = TokenStats(*(x if x is None else jnp.where(mask, x, 0) for x, mask in fields))
    if stats.logprob is None or np.ndim(tokens) == asked.tokens.ndim:
        return stats
    return stats._replace(logprob=stats.logprob[..., 0])


def _ids(tokens, scored, name: str):
    """Ids `[..., T, K]` int32; those that do not fit stay negative, or beyond every vocabulary."""
    if not jnp.issubdtype(tokens.dtype, jnp.integer):
        raise ValueError(f"tokens must be integers; got {tokens.dtype}")
    rows = scored.shape[:-1]
    if tokens.shape[: len(rows)] != rows or tokens.ndim > len(rows) + 1:
        raise ValueError(
            f"tokens {tokens.shape} must have the shape of {name} {scored.shape} "
            "without its last axis, or that with K ids for each token"
        )
    tokens = tokens if tokens.ndim > len(rows) else tokens[..., None]
    if tokens.dtype.itemsize >= 4 and tokens.dtype != jnp.int32:
        signed = jnp.issubdtype(tokens.dtype, jnp.signedinteger)
        tokens = jnp.clip(tokens, -(2**31) if signed else 0, 2**31 - 1)
    return tokens.astype(jnp.int32)


def _row_specs(axes: int, *arrays):
    """How each of the arrays shards the axes of rows."""
    return [shards.spec_of(x, axes) for x in arrays]


def checked_head(hidden, unembed, bias, layout: str, options: Options, name: str = "") -> Head:
    """Hidden states, unembedding and bias as arrays that fit each other."""
    hidden, unembed = floats(hidden, f"{name}hidden"), floats(unembed, f"{name}unembed")
    if layout not in ("VD", "DV"):
        raise ValueError(f'layout must be "VD" or "DV"; got {layout!r}')
    if unembed.ndim != 2 or unembed.shape[layout.index("D")] != hidden.shape[-1]:
        raise ValueError(
            f'{name}unembed {unembed.shape} with layout "{layout}" does not fit '
            f"{name}hidden {hidden.shape}"
        )
    vocab = unembed.shape[layout.index("V")]
    check_vocabulary(unembed, vocab, f"{name}unembed", options)
    if bias is not None:
        bias = floats(bias, f"{name}bias")
        if bias.shape != (vocab,):
            raise ValueError(f"{name}bias {bias.shape} does not fit {vocab} columns of the logits")
    return Head(hidden, shards.gather_width(unembed, layout.index("D"), hidden), bias)


def floats(x, name: str):
    x = jnp.asarray(x)
    if not jnp.issubdtype(x.dtype, jnp.floating):
        raise ValueError(f"{name} must be floating point; got {x.dtype}")
    return x


def check_vocabulary(x, size: int, name: str, options: Options):
    shards.shard_of(size, options)
    if options.axis_name is None:
        return
    if options.implementation == "reference":
        raise ValueError('implementation="reference" takes whole vocabularies, so no axis_name')
    shards.check_sharded(x, name, options.axis_name)
