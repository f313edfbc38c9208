"""The public functions: arguments checked, options bundled, the work done elsewhere."""

import jax.numpy as jnp

from leco_jax.scoring import from_hidden, from_logits, presets, reference, step_scores
from leco_jax.scoring.types import MAX_TOPK, Options, StepScores, TokenStats


def token_stats(
    logits,
    tokens,
    *,
    stats=("logprob",),
    soft_cap: float | None = None,
    temperature: float = 1.0,
    valid_vocab: int | None = None,
    topk: int = MAX_TOPK,
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

    Differentiable in the logits, vmappable, and never NaN for logits that are finite or −inf: a row
    of nothing but −inf has log-probabilities −inf, entropy and self-certainty 0, gradient 0.

    Args:
      logits: `[..., T, V]` float32 or bfloat16 (any float type; sums are float32).
      tokens: `[..., T]` integers. A negative id is ignored: its log-probability is 0. An id at or
        beyond the valid vocabulary has probability zero: −inf.
      stats: which statistics to compute; others are None.
      soft_cap: c of c·tanh(logit/c), before the temperature; −inf stays −inf.
      temperature: divides the logits.
      valid_vocab: how many leading ids exist; further columns are padding. None for all.
      topk: k of the top-k statistics, at most 20.
      axis_name: the mesh axis (inside `shard_map`, or the axis of `pmap`) that shards V evenly.
      implementation: "auto", "xla", "pallas_tpu", "pallas_gpu" or "reference"; all but "auto" are
        strict.

    Returns:
      TokenStats with fields `[..., T]` float32.

    Raises:
      ValueError: shapes or options that do not fit; NotImplementedError: an implementation that was
        asked for by name and cannot run here, with the reason.
    """
    options = Options(
        stats=tuple(stats),
        soft_cap=soft_cap,
        temperature=temperature,
        valid_vocab=valid_vocab,
        topk=topk,
        axis_name=axis_name,
        implementation=implementation,
    )
    logits, tokens = jnp.asarray(logits), jnp.asarray(tokens)
    _check_tokens(tokens, logits.shape[:-1], "logits", logits.shape)
    _check_float(logits, "logits")
    if implementation == "reference":
        return reference.token_stats(logits, tokens, options)
    return from_logits.token_stats(logits, tokens, options)


def token_stats_from_hidden(
    hidden,
    unembed,
    tokens,
    *,
    layout: str = "VD",
    stats=("logprob",),
    soft_cap: float | None = None,
    temperature: float = 1.0,
    valid_vocab: int | None = None,
    topk: int = MAX_TOPK,
    axis_name=None,
    implementation: str = "auto",
) -> TokenStats:
    """`token_stats` of the logits `hidden · unembed`, which never exist as a whole.

    Differentiable in `hidden` and `unembed`; the backward pass multiplies again, block by block.
    Products are accumulated in float32; float32 operands take JAX's default matmul precision (on
    TPU they are rounded to bfloat16 unless `jax.default_matmul_precision("highest")`).

    Args:
      hidden: `[..., T, D]`, what the unembedding is applied to.
      unembed: `[V, D]`, or `[D, V]` with layout "DV"; under `axis_name` this device's share of V.
      tokens: `[..., T]` integers, as in `token_stats`.
      layout: "VD" or "DV".
      stats: see `token_stats`, as for all further arguments.
      soft_cap: see there.
      temperature: see there.
      valid_vocab: see there.
      topk: see there.
      axis_name: see there.
      implementation: see there.

    Returns:
      TokenStats with fields `[..., T]` float32.

    Raises:
      ValueError: shapes or options that do not fit; NotImplementedError as in `token_stats`.
    """
    options = Options(
        stats=tuple(stats),
        soft_cap=soft_cap,
        temperature=temperature,
        valid_vocab=valid_vocab,
        topk=topk,
        axis_name=axis_name,
        implementation=implementation,
    )
    hidden, unembed, tokens = map(jnp.asarray, (hidden, unembed, tokens))
    _check_tokens(tokens, hidden.shape[:-1], "hidden", hidden.shape)
    _check_float(hidden, "hidden")
    _check_float(unembed, "unembed")
    if layout not in ("VD", "DV"):
        raise ValueError(f'layout must be "VD" or "DV"; got {layout!r}')
    if unembed.ndim != 2 or unembed.shape[layout.index("D")] != hidden.shape[-1]:
        raise ValueError(
            f'unembed {unembed.shape} with layout "{layout}" does not fit hidden {hidden.shape}'
        )
    if implementation == "reference":
        return reference.token_stats_from_hidden(hidden, unembed, tokens, options, layout)
    return from_hidden.token_stats(hidden, unembed, tokens, options, layout)


def score_steps(
    logits,
    tokens,
    step_ids,
    *,
    num_steps: int,
    tau: float = 0.3,
    heading_tokens: int = 3,
    heading=None,
    renormalise_topk: int | None = None,
    **options,
) -> StepScores:
    """LeCo's score of each step straight from logits: `token_stats`, then `step_scores`.

    Args:
      logits: `[..., T, V]`.
      tokens: `[..., T]`.
      step_ids: `[..., T]` int32, −1 where a token is not scored.
      num_steps: how many steps to return.
      tau: see `step_scores`.
      heading_tokens: see `step_scores`.
      heading: see `step_scores`.
      renormalise_topk: divide each probability by that of the k most likely tokens together (the
        published program: 5); None for the true probability.
      **options: `soft_cap`, `temperature`, `valid_vocab`, `axis_name` and `implementation` of
        `token_stats`.

    Returns:
      StepScores `[..., num_steps]`.
    """
    found = token_stats(logits, tokens, **_logprob_options(renormalise_topk), **options)
    return step_scores.step_scores(
        _probability_of(found),
        step_ids,
        num_steps=num_steps,
        tau=tau,
        heading_tokens=heading_tokens,
        heading=heading,
    )


def score_steps_from_hidden(
    hidden,
    unembed,
    tokens,
    step_ids,
    *,
    num_steps: int,
    tau: float = 0.3,
    heading_tokens: int = 3,
    heading=None,
    renormalise_topk: int | None = None,
    **options,
) -> StepScores:
    """`score_steps` of the logits `hidden · unembed`, which never exist as a whole.

    Args:
      hidden: `[..., T, D]`.
      unembed: `[V, D]`, or `[D, V]` with `layout="DV"`.
      tokens: `[..., T]`.
      step_ids: `[..., T]` int32, −1 where a token is not scored.
      num_steps: how many steps to return.
      tau: see `step_scores`.
      heading_tokens: see `step_scores`.
      heading: see `step_scores`.
      renormalise_topk: see `score_steps`.
      **options: `layout`, `soft_cap`, `temperature`, `valid_vocab`, `axis_name` and
        `implementation` of `token_stats_from_hidden`.

    Returns:
      StepScores `[..., num_steps]`.
    """
    found = token_stats_from_hidden(
        hidden, unembed, tokens, **_logprob_options(renormalise_topk), **options
    )
    return step_scores.step_scores(
        _probability_of(found),
        step_ids,
        num_steps=num_steps,
        tau=tau,
        heading_tokens=heading_tokens,
        heading=heading,
    )


def _logprob_options(renormalise_topk: int | None) -> dict:
    if renormalise_topk is None:
        return {"stats": ("logprob",)}
    return {"stats": ("logprob", "topk_logmass"), "topk": renormalise_topk}


def _probability_of(found: TokenStats):
    return found.logprob if found.topk_logmass is None else presets.renormalised(found)


def _check_tokens(tokens, rows, name: str, shape):
    if not jnp.issubdtype(tokens.dtype, jnp.integer):
        raise ValueError(f"tokens must be integers; got {tokens.dtype}")
    if tokens.shape != rows:
        raise ValueError(
            f"tokens {tokens.shape} must have the shape of {name} {shape} but its last axis"
        )


def _check_float(x, name: str):
    if not jnp.issubdtype(x.dtype, jnp.floating):
        raise ValueError(f"{name} must be floating point; got {x.dtype}")
