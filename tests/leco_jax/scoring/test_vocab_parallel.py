"""Each device holds a share of the vocabulary: same values, same gradients, two all-reduces."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType

from leco_jax import scoring
from tests.leco_jax.scoring import exact

P = jax.P
VOCAB = 1024  # of which 700 are valid: with four shards the third is partly, the last all padding
OPTIONS = {"stats": exact.STATS, "valid_vocab": 700, "topk": 5, "soft_cap": 20.0}


def mesh(data, vocab):
    devices = np.array(jax.devices()[: data * vocab]).reshape(data, vocab)
    return jax.sharding.Mesh(devices, ("data", "vocab"), axis_types=(AxisType.Auto,) * 2)


def problem():
    keys = jax.random.split(jax.random.key(5), 3)
    hidden = jax.random.normal(keys[0], (8, 16))
    unembed = jax.random.normal(keys[1], (VOCAB, 16))
    # First and last id of shards of 256 and 512, ignored and impossible ids.
    tokens = jnp.array([0, 255, 256, 511, 512, 699, -1, 700])
    return hidden, unembed, tokens, hidden @ unembed.T


def from_logits(parts, check_vma=True, **options):
    return jax.shard_map(
        functools.partial(scoring.token_stats, axis_name="vocab", **{**OPTIONS, **options}),
        mesh=mesh(8 // parts, parts),
        in_specs=(P("data", "vocab"), P("data")),
        out_specs=P("data"),
        check_vma=check_vma,
    )


def from_hidden(parts, check_vma=True, **options):
    return jax.shard_map(
        functools.partial(
            scoring.token_stats_from_hidden, axis_name="vocab", **{**OPTIONS, **options}
        ),
        mesh=mesh(8 // parts, parts),
        in_specs=(P("data"), P("vocab"), P("data")),
        out_specs=P("data"),
        check_vma=check_vma,
    )


def weighted(found):
    values = jnp.stack([jnp.where(jnp.isfinite(x), x, 0.0) for x in found if x is not None])
    return (jnp.cos(jnp.arange(values.size)).reshape(values.shape) * values).sum()


@pytest.mark.heavy
@pytest.mark.parametrize(("parts", "check_vma"), [(1, True), (4, True), (2, False)])
def test_logits(parts, check_vma):
    _, _, tokens, logits = problem()
    sharded = from_logits(parts, check_vma)

    def whole(x, y):
        return scoring.token_stats(x, y, **OPTIONS)

    found, wanted = jax.jit(sharded)(logits, tokens), whole(logits, tokens)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-6), found, wanted)
    grads = [
        jax.jit(jax.grad(lambda x, f=f: weighted(f(x, tokens))))(logits) for f in (sharded, whole)
    ]
    np.testing.assert_allclose(*grads, atol=2e-6)


@pytest.mark.heavy
@pytest.mark.parametrize(("parts", "check_vma"), [(4, True), (2, False)])
def test_hidden(parts, check_vma):
    hidden, unembed, tokens, _ = problem()
    sharded = from_hidden(parts, check_vma)

    def whole(h, w, y):
        return scoring.token_stats_from_hidden(h, w, y, **OPTIONS)

    found, wanted = jax.jit(sharded)(hidden, unembed, tokens), whole(hidden, unembed, tokens)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=5e-6), found, wanted)
    pairs = [
        jax.jit(jax.grad(lambda h, w, f=f: weighted(f(h, w, tokens)), (0, 1)))(hidden, unembed)
        for f in (sharded, whole)
    ]
    for a, b in zip(*pairs, strict=True):
        np.testing.assert_allclose(a, b, atol=5e-6 * float(jnp.abs(b).max()))


@pytest.mark.parametrize("stats", [("logprob",), exact.STATS])
def test_two_all_reduces_and_no_all_gather(stats):
    hidden, unembed, tokens, logits = problem()
    programs = (
        jax.jit(from_logits(4, stats=stats)).lower(logits, tokens),
        jax.jit(from_hidden(4, stats=stats)).lower(hidden, unembed, tokens),
    )
    for program in programs:
        text = program.compile().as_text()
        assert len(re.findall(r"= \S+ all-reduce(?:-start)?\(", text)) == 2
        assert not re.search(r"all-gather|all-to-all|collective-permute", text)


def test_vocabulary_must_fit():
    _, _, tokens, logits = problem()
    with pytest.raises(ValueError, match=r"valid_vocab=1025 does not fit 1024 columns \(4 shard"):
        from_logits(4, valid_vocab=1025)(logits, tokens)


@pytest.mark.heavy
def test_batch_parallel_needs_no_collective():
    _, _, tokens, logits = problem()
    sharded = jax.shard_map(
        lambda x, y: scoring.token_stats(x, y, **OPTIONS),
        mesh=mesh(8, 1),
        in_specs=P("data"),
        out_specs=P("data"),
    )
    text = jax.jit(sharded).lower(logits, tokens).compile().as_text()
    assert not re.search(r"all-reduce|all-gather|all-to-all", text)
    wanted = scoring.token_stats(logits, tokens, **OPTIONS)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, atol=2e-6), sharded(logits, tokens), wanted
    )
