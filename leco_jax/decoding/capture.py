"""The scoring kernels on the logits of one decoding step, vocabulary-sharded or not."""

import jax

from leco_jax import scoring
from leco_jax.models.sharding import RULES, resolve


def captured_stats(
    logits_BV: jax.Array, token_B: jax.Array, *, stats: tuple[str, ...], **options
) -> dict[str, jax.Array]:
    """Statistics of each row's token, `[B]` float32 by name.

    Under a mesh whose rules shard the vocabulary each device reads its own part of it, and two
    all-reduces of a few numbers a row do the rest.

    Args:
        logits_BV: `[B, V]` float32.
        token_B: `[B]` int32.
        stats: names of `scoring.token_stats`.
        **options: further options of it.
    """

    def score(logits_BV, token_B, axis_name=None):
        out = scoring.token_stats(logits_BV, token_B, stats=stats, axis_name=axis_name, **options)
        return {name: getattr(out, name) for name in stats}

    mesh = jax.sharding.get_abstract_mesh()
    if mesh.empty or not stats:
        return score(logits_BV, token_B) if stats else {}
    spec, _ = resolve("logits", logits_BV.shape, ("batch", "act_vocab"), dict(mesh.shape), RULES)
    rows, vocabulary = spec
    if vocabulary is None:
        return score(logits_BV, token_B)
    return jax.shard_map(
        lambda logits, token: score(logits, token, axis_name=vocabulary),
        in_specs=(spec, jax.P(rows)),
        out_specs=jax.P(rows),
    )(logits_BV, token_B)
