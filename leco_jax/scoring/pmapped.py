"""The scoring functions with a leading device axis, through `jax.pmap`.

For code bases that still keep one slice of a batch per device in a leading axis. Arrays are
`[devices, ...]`, results too; a multiple of the number of devices is dealt out evenly. `unembed`
and `bias` are one for all devices; with `axis_name` they, like logits, hold each device's share of
the vocabulary, `[devices, V / devices, D]`, and tokens and step ids are repeated.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from leco_jax.scoring import api
from leco_jax.scoring.types import StepScores, TokenStats


def token_stats(logits, tokens, **options) -> TokenStats:
    """`scoring.token_stats` of `[devices, ..., T, V]`."""
    return _mapped(api.token_stats, (logits, tokens), (0, 0), options)


def token_stats_from_hidden(hidden, unembed, tokens, **options) -> TokenStats:
    """`scoring.token_stats_from_hidden` of `[devices, ..., T, D]`."""
    axes = (0, _unembed_axis(options), 0)
    return _mapped(api.token_stats_from_hidden, (hidden, unembed, tokens), axes, options)


def score_steps(logits, tokens, step_ids, **options) -> StepScores:
    """`scoring.score_steps` of `[devices, ..., T, V]`."""
    return _mapped(api.score_steps, (logits, tokens, step_ids), (0, 0, 0), options)


def score_steps_from_hidden(hidden, unembed, tokens, step_ids, **options) -> StepScores:
    """`scoring.score_steps_from_hidden` of `[devices, ..., T, D]`."""
    axes = (0, _unembed_axis(options), 0, 0)
    arrays = (hidden, unembed, tokens, step_ids)
    return _mapped(api.score_steps_from_hidden, arrays, axes, options)


def _unembed_axis(options) -> int | None:
    return None if options.get("axis_name") is None else 0


def _mapped(function, arrays, axes, options):
    """Maps over the first axis of `arrays`, and of the arrays among the options."""
    names = ["heading", "in_label", "mask"] + ["temperature"] * bool(
        np.ndim(options.get("temperature", 1.0))
    )
    groups = [{name: options.pop(name, None) for name in group} for group in (names, ["bias"])]
    arrays = [*map(jnp.asarray, arrays)]
    for group in groups:
        arrays.append({name: jnp.asarray(x) for name, x in group.items() if x is not None})
    axes = (*axes, 0, _unembed_axis(options))
    rows, devices = arrays[0].shape[0], jax.local_device_count()
    dealt = rows > devices and options.get("axis_name") is None
    if rows > devices and (not dealt or rows % devices):
        raise ValueError(
            f"the first axis has {rows} entries, which {devices} devices do not share evenly; "
            "pad it, or with axis_name give each device one"
        )
    if dealt:
        shape = (devices, rows // devices)
        arrays = [
            x if axis is None else _refold(x, shape) for x, axis in zip(arrays, axes, strict=True)
        ]
    key = tuple(sorted((name, _hashable(x)) for name, x in options.items()))
    result = _program(function, axes, key)(*arrays)
    return _refold(result, (rows,), drop=2) if dealt else result


def _hashable(option):
    if isinstance(option, list):
        return tuple(option)
    return option.item() if isinstance(option, (jax.Array, np.generic)) else option


def _refold(tree, shape: tuple[int, ...], drop: int = 1):
    """Replaces the first `drop` axes of every array by others."""
    return jax.tree.map(lambda x: x.reshape(*shape, *x.shape[drop:]), tree)


@functools.cache
def _program(function, in_axes, options):
    """One pmapped program per function and options, so that a second call compiles nothing."""
    named = dict(options)

    def call(*arrays):
        *given, of_rows, of_columns = arrays
        return function(*given, **of_rows, **of_columns, **named)

    return jax.pmap(call, axis_name=named.get("axis_name") or "devices", in_axes=in_axes)
