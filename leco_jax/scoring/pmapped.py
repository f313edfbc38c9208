"""The scoring functions with a leading device axis, through `jax.pmap`.

For code bases that still keep one slice of a batch per device in a leading axis. Arrays are
`[devices, ...]`, results too. `unembed` is one matrix for all devices; with `axis_name` it, like
logits, holds each device's share of the vocabulary, `[devices, V / devices, D]`, and tokens and
step ids are repeated.
"""

import functools

import jax

from leco_jax.scoring import api
from leco_jax.scoring.types import StepScores, TokenStats


def token_stats(logits, tokens, **options) -> TokenStats:
    """`scoring.token_stats` of `[devices, ..., T, V]`."""
    return _mapped(api.token_stats, (0, 0), _key(options))(logits, tokens)


def token_stats_from_hidden(hidden, unembed, tokens, **options) -> TokenStats:
    """`scoring.token_stats_from_hidden` of `[devices, ..., T, D]`."""
    axes = (0, _unembed_axis(options), 0)
    return _mapped(api.token_stats_from_hidden, axes, _key(options))(hidden, unembed, tokens)


def score_steps(logits, tokens, step_ids, *, heading=None, **options) -> StepScores:
    """`scoring.score_steps` of `[devices, ..., T, V]`."""
    arrays = (logits, tokens, step_ids)
    return _scored(api.score_steps, arrays, (0, 0, 0), heading, options)


def score_steps_from_hidden(
    hidden, unembed, tokens, step_ids, *, heading=None, **options
) -> StepScores:
    """`scoring.score_steps_from_hidden` of `[devices, ..., T, D]`."""
    axes = (0, _unembed_axis(options), 0, 0)
    arrays = (hidden, unembed, tokens, step_ids)
    return _scored(api.score_steps_from_hidden, arrays, axes, heading, options)


def _unembed_axis(options) -> int | None:
    return None if options.get("axis_name") is None else 0


def _scored(function, arrays, axes, heading, options) -> StepScores:
    if heading is None:
        return _mapped(function, axes, _key(options))(*arrays)
    return _mapped(_headed(function), (*axes, 0), _key(options))(*arrays, heading)


@functools.cache
def _headed(function):
    return lambda *arrays, **options: function(*arrays[:-1], heading=arrays[-1], **options)


def _key(options) -> tuple:
    stats = {"stats": tuple(options["stats"])} if "stats" in options else {}
    return tuple(sorted({**options, **stats}.items()))


@functools.cache
def _mapped(function, in_axes, options):
    # One pmapped program per function and options, so that a second call compiles nothing.
    named = dict(options)
    axis = named.get("axis_name") or "devices"
    return jax.pmap(functools.partial(function, **named), axis_name=axis, in_axes=in_axes)
