"""The compiled programs of the engine: prefill a prompt, decode a chunk of tokens for every row."""

import functools
from typing import Any

import jax
import jax.numpy as jnp

from leco_jax import scoring
from leco_jax.decoding.cache import Cache, cache_of, layer_states, sharded
from leco_jax.decoding.cache_attention import decode_attend, prefill_attend
from leco_jax.decoding.rows import Decoded, Rows
from leco_jax.decoding.sampling import SamplingRows, choose, process
from leco_jax.models import transformer
from leco_jax.models.config import ModelConfig
from leco_jax.models.sharding import RULES, constrain, resolve

MARGIN = "margin"


@functools.partial(jax.jit, static_argnames=("config", "prefix_length"))
def prefill(
    params: Any,
    prefix: Cache | None,
    tokens_1T: jax.Array,
    *,
    config: ModelConfig,
    prefix_length: int,
) -> Cache:
    """Keys and values of one prompt; no logits, as its last token is fed by `decode`."""
    positions_1T = prefix_length + jnp.arange(tokens_1T.shape[1])[None]
    _, states = transformer.forward(
        params,
        tokens_1T,
        positions_1T,
        config=config,
        attend=prefill_attend(config, prefix_length=prefix_length),
        layer_state=layer_states(None, prefix, config.num_layers),
    )
    return cache_of(states)


@functools.partial(
    jax.jit,
    donate_argnames=("cache",),
    static_argnames=("config", "prefix_length", "steps", "stats", "topk", "capture"),
)
def decode(
    params: Any,
    cache: Cache,
    prefix: Cache | None,
    rows: Rows,
    stop_ids: jax.Array,
    *,
    config: ModelConfig,
    prefix_length: int,
    steps: int,
    stats: tuple[str, ...],
    topk: int,
    capture: str,
) -> tuple[Cache, Decoded]:
    """Feeds a token and chooses the next one, `steps` times for every row.

    `params` has `layers` as a list; `cache` is donated; `prefix` holds the keys and values of
    `prefix_length` tokens that all rows share, or is None; `stop_ids` (`[E]` int32) end a row where
    they are sampled. `stats`, `topk` and `capture` are as for `Engine`.
    """
    keys = jax.vmap(_request_key)(rows.key_ids)

    def step(carry, xs):
        cache, token_B, length_B, remaining_B, waiting_BF = carry
        index, forced_B = xs
        hidden_B1D, states = transformer.forward(
            params,
            token_B[:, None],
            (prefix_length + length_B)[:, None],
            config=config,
            attend=decode_attend(config, length_B=length_B, prefix_length=prefix_length),
            layer_state=layer_states(cache, prefix, config.num_layers),
        )
        with jax.named_scope("choose"):
            raw_BV = transformer.logits(params, hidden_B1D[:, 0], config=config)
            raw_BV = constrain(raw_BV, "batch", "act_vocab")
            given_B = index < rows.num_forced
            forbid_BF = jnp.where(given_B[:, None], -1, waiting_BF)
            options = SamplingRows(rows.temperature, rows.top_k, rows.top_p, forbid_BF, keys)
            processed_BV = process(raw_BV, options, valid_vocab=config.valid_vocab)
            sampled_B = choose(processed_BV, options, prefix_length + length_B + 1)
            next_B = jnp.where(given_B, forced_B, sampled_B)
        with jax.named_scope("capture"):
            captured = captured_stats(
                raw_BV if capture == "raw" else processed_BV,
                next_B,
                stats=stats,
                valid_vocab=config.valid_vocab,
                topk=topk,
            )
        live_B = remaining_B > 0
        finite_B = jnp.isfinite(jnp.max(processed_BV, axis=-1))  # a NaN among them is the largest
        decoded = Decoded(next_B, finite_B, captured)
        ended_B = ~given_B & ((next_B[:, None] == stop_ids).any(axis=-1) | ~finite_B)
        carry = (
            sharded(cache_of(states)),
            jnp.where(live_B, next_B, token_B),
            jnp.where(live_B, length_B + 1, length_B),
            jnp.where(ended_B, 0, jnp.maximum(remaining_B - 1, 0)),
            jnp.where(given_B[:, None], waiting_BF, -1),
        )
        return carry, decoded

    start: Any = (cache, rows.token, rows.length, rows.remaining, rows.forbid)
    (cache, *_), decoded = jax.lax.scan(step, start, (jnp.arange(steps), rows.forced.T))
    # Replicated, as every process reads all of it: a few numbers a row and token.
    return cache, jax.tree.map(lambda x: constrain(x, "length", "length"), decoded)


def captured_stats(
    logits_BV: jax.Array, token_B: jax.Array, *, stats: tuple[str, ...], **options
) -> dict[str, jax.Array]:
    """Statistics of each row's token, `[B]` float32 by name; `options`: of `scoring.token_stats`.

    Beside those of `scoring.token_stats` there is `margin`: by how much the most likely token's
    probability lies above the second's.

    Where the mesh shards the vocabulary, each device reads its own shard; two all-reduces of a few
    numbers a row join the results.
    """

    def score(logits_BV, token_B, axis_name=None):
        named = tuple(name for name in stats if name != MARGIN)
        out = scoring.token_stats(logits_BV, token_B, stats=named, axis_name=axis_name, **options)
        found = {name: getattr(out, name) for name in named}
        if MARGIN in stats:
            two = scoring.token_stats(
                logits_BV,
                token_B,
                stats=("max_logprob", "topk_logmass"),
                axis_name=axis_name,
                **(options | {"topk": 2}),
            )
            found[MARGIN] = 2 * jnp.exp(two.max_logprob) - jnp.exp(two.topk_logmass)
        return found

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


def _request_key(ids_4: jax.Array) -> jax.Array:
    """The key of (seed, problem, sample, round); `choose` folds in the token's position."""
    key = jax.random.key(ids_4[0])
    for part in range(1, 4):
        key = jax.random.fold_in(key, ids_4[part])
    return key
