"""The public functions: check the arguments, bundle the options, call the implementation."""

import functools

import jax.numpy as jnp

from leco_jax.scoring import dispatch, presets, reference, shards
from leco_jax.scoring.presets import StepPreset
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

    Differentiable in the logits (once; twice with "reference"), vmappable, and never NaN for logits
    that are finite or −inf: a row of nothing but −inf has log-probabilities −inf, entropy and
    self-certainty 0, gradient 0. NaN or +inf in a row makes its statistics and its gradient NaN.

    Args:
      logits: `[..., T, V]` of any float type; sums are float32.
      tokens: `[..., T]` integers of any type. A negative id is ignored: its log-probability is 0
        whatever the logits. An id at or beyond the valid vocabulary has probability zero: −inf.
      stats: which statistics to compute, a name or several; others are None.
      soft_cap: c of c·tanh(logit/c), before the temperature; −inf stays −inf.
      temperature: divides the logits.
      valid_vocab: how many leading ids exist; further columns are padding. None for all.
      topk: k of the top-k statistics, at most 20.
      axis_name: the mesh axis (inside `shard_map`, or the axis of `pmap`) that shards V evenly.
      implementation: "auto", "xla", "pallas_tpu" or "reference"; all but "auto" are strict.

    Returns:
      TokenStats with fields `[..., T]` float32.

    Raises:
      ValueError: shapes or options that do not fit; NotImplementedError: an implementation that was
        asked for by name and cannot run here, with the reason.
    """
    options = Options(
        stats=stats,
        soft_cap=soft_cap,
        temperature=temperature,
        valid_vocab=valid_vocab,
        topk=topk,
        axis_name=axis_name,
        implementation=implementation,
    )
    logits = _floats(logits, "logits")
    tokens = _ids(tokens, logits, "logits")
    _check_vocabulary(logits, logits.shape[-1], "logits", options)
    compute = reference if implementation == "reference" else dispatch
    function = functools.partial(compute.token_stats, options=options)
    return shards.in_auto_axes(function, _row_specs(tokens, logits), logits, tokens)


def token_stats_from_hidden(
    hidden, unembed, tokens, *, layout: str = "VD", stats=("logprob",), **options
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
      stats: which statistics to compute.
      **options: `soft_cap`, `temperature`, `valid_vocab`, `topk`, `axis_name` and `implementation`
        of `token_stats`.

    Returns:
      TokenStats with fields `[..., T]` float32.

    Raises:
      ValueError: shapes or options that do not fit; NotImplementedError as in `token_stats`.
    """
    bundled = Options(stats=stats, **options)
    hidden, unembed = _floats(hidden, "hidden"), _floats(unembed, "unembed")
    tokens = _ids(tokens, hidden, "hidden")
    if layout not in ("VD", "DV"):
        raise ValueError(f'layout must be "VD" or "DV"; got {layout!r}')
    if unembed.ndim != 2 or unembed.shape[layout.index("D")] != hidden.shape[-1]:
        raise ValueError(
            f'unembed {unembed.shape} with layout "{layout}" does not fit hidden {hidden.shape}'
        )
    _check_vocabulary(unembed, unembed.shape[layout.index("V")], "unembed", bundled)
    compute = reference if bundled.implementation == "reference" else dispatch
    function = functools.partial(compute.token_stats_from_hidden, options=bundled, layout=layout)
    return shards.in_auto_axes(function, _row_specs(tokens, hidden), hidden, unembed, tokens)


def score_steps(
    logits,
    tokens,
    step_ids,
    *,
    num_steps: int,
    preset: str | StepPreset | None = None,
    tau: float | None = None,
    heading_tokens: int | None = None,
    renormalise_topk: int | None = None,
    heading=None,
    in_label=None,
    **options,
) -> StepScores:
    """LeCo's score of each step straight from logits: `token_stats`, then `step_scores`.

    Args:
      logits: `[..., T, V]`.
      tokens: `[..., T]`.
      step_ids: `[..., T]` integers, −1 where a token is not scored.
      num_steps: how many steps to return.
      preset: the variant of the scores, whole: "paper", "official_code" or a StepPreset. Else it is
        made of the next three, by default "paper".
      tau: exponent of the divergence.
      heading_tokens: how many of a step's first scored tokens make its transition score.
      renormalise_topk: divide each probability by that of the k most likely tokens together (the
        published program: 5); None for the true probability.
      heading: `[..., T]` bool, overrides `heading_tokens`; see `step_scores`.
      in_label: `[..., T]` bool, tokens inside a label such as "Step 1:". The heading begins after
        it; the preset says whether the label is scored. None where there are no labels.
      **options: `soft_cap`, `temperature`, `valid_vocab`, `axis_name` and `implementation` of
        `token_stats`.

    Returns:
      StepScores `[..., num_steps]`.
    """
    return _score_steps(
        token_stats,
        (logits, tokens),
        step_ids,
        presets.resolve(
            preset, tau=tau, heading_tokens=heading_tokens, renormalise_topk=renormalise_topk
        ),
        {"num_steps": num_steps, "heading": heading, "in_label": in_label},
        options,
    )


def score_steps_from_hidden(
    hidden, unembed, tokens, step_ids, *, num_steps: int, layout: str = "VD", **options
) -> StepScores:
    """`score_steps` of the logits `hidden · unembed`, which never exist as a whole.

    Args:
      hidden: `[..., T, D]`.
      unembed: `[V, D]`, or `[D, V]` with `layout="DV"`.
      tokens: `[..., T]`.
      step_ids: `[..., T]` integers, −1 where a token is not scored.
      num_steps: how many steps to return.
      layout: "VD" or "DV".
      **options: all other keyword arguments of `score_steps`.

    Returns:
      StepScores `[..., num_steps]`.
    """
    names = ("preset", "tau", "heading_tokens", "renormalise_topk")
    chosen = presets.resolve(**{name: options.pop(name, None) for name in names})
    scored = {name: options.pop(name, None) for name in ("heading", "in_label")}
    return _score_steps(
        token_stats_from_hidden,
        (hidden, unembed, tokens),
        step_ids,
        chosen,
        {"num_steps": num_steps, **scored},
        {"layout": layout, **options},
    )


def _score_steps(statistics, arrays, step_ids, preset: StepPreset, scored: dict, options: dict):
    for name in {"stats", "topk"} & options.keys():
        raise ValueError(
            f"score_steps takes no {name}: it computes what its preset is made of; "
            "renormalise_topk=k asks for probabilities among the k most likely tokens"
        )
    stats = statistics(*arrays, stats=preset.stats, topk=preset.topk, **options)
    return preset.step_scores(preset.logprob(stats), step_ids, **scored)


def _ids(tokens, scored, name: str):
    """Token ids as int32; ids that do not fit stay negative, or beyond every vocabulary."""
    tokens = jnp.asarray(tokens)
    if not jnp.issubdtype(tokens.dtype, jnp.integer):
        raise ValueError(f"tokens must be integers; got {tokens.dtype}")
    if tokens.shape != scored.shape[:-1]:
        raise ValueError(
            f"tokens {tokens.shape} must have the shape of {name} {scored.shape} "
            "without its last axis"
        )
    if tokens.dtype.itemsize >= 4 and tokens.dtype != jnp.int32:
        signed = jnp.issubdtype(tokens.dtype, jnp.signedinteger)
        tokens = jnp.clip(tokens, -(2**31) if signed else 0, 2**31 - 1)
    return tokens.astype(jnp.int32)


def _row_specs(*arrays):
    """How each of the arrays shards the axes of rows."""
    return [shards.spec_of(x, arrays[0].ndim) for x in arrays]


def _floats(x, name: str):
    x = jnp.asarray(x)
    if not jnp.issubdtype(x.dtype, jnp.floating):
        raise ValueError(f"{name} must be floating point; got {x.dtype}")
    return x


def _check_vocabulary(x, size: int, name: str, options: Options):
    shards.shard_of(size, options)
    if options.axis_name is None:
        return
    if options.implementation == "reference":
        raise ValueError('implementation="reference" takes whole vocabularies, so no axis_name')
    shards.check_sharded(x, name, options.axis_name)
