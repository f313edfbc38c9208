import jax
import jax.numpy as jnp
import numpy as np
import pytest

from leco_jax import scoring
from leco_jax.scoring import pmapped

OPTIONS = {"num_steps": 3, "valid_vocab": 250, "tau": 0.5}


def problem():
    keys = jax.random.split(jax.random.key(2), 3)
    hidden = jax.random.normal(keys[0], (8, 12, 16))
    unembed = jax.random.normal(keys[1], (256, 16))
    tokens = jax.random.randint(keys[2], (8, 12), 0, 250)
    return hidden, unembed, tokens, jnp.broadcast_to(jnp.arange(12) // 4, (8, 12))


def close(found, wanted):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), found, wanted)


@pytest.mark.heavy
def test_batch_over_devices():
    hidden, unembed, tokens, ids = problem()
    logits = hidden @ unembed.T
    wanted = scoring.score_steps(logits, tokens, ids, **OPTIONS)
    close(pmapped.score_steps(logits, tokens, ids, **OPTIONS), wanted)
    close(pmapped.score_steps_from_hidden(hidden, unembed, tokens, ids, **OPTIONS), wanted)
    stats = ["logprob", "entropy"]
    close(
        pmapped.token_stats(logits, tokens, stats=stats),
        scoring.token_stats(logits, tokens, stats=stats),
    )
    close(
        pmapped.token_stats_from_hidden(hidden, unembed, tokens),
        scoring.token_stats(logits, tokens),
    )


@pytest.mark.heavy
def test_arrays_among_the_options():
    hidden, unembed, tokens, _ = problem()
    options = {
        "mask": tokens % 3 > 0,
        "temperature": 0.5 + jnp.arange(8.0)[:, None] * jnp.ones(12),
        "bias": jnp.cos(jnp.arange(256.0)),
    }
    close(
        pmapped.token_stats_from_hidden(hidden, unembed, tokens, **options),
        scoring.token_stats_from_hidden(hidden, unembed, tokens, **options),
    )


@pytest.mark.heavy
def test_heading():
    hidden, unembed, tokens, ids = problem()
    logits = hidden @ unembed.T
    heading = jnp.broadcast_to(jnp.arange(12) % 4 == 1, (8, 12))
    close(
        pmapped.score_steps(logits, tokens, ids, heading=heading, **OPTIONS),
        scoring.score_steps(logits, tokens, ids, heading=heading, **OPTIONS),
    )


@pytest.mark.heavy
def test_vocabulary_over_devices():
    hidden, unembed, tokens, ids = problem()
    shards = unembed.reshape(8, 32, 16)
    logits = jnp.einsum("btd,nvd->nbtv", hidden, shards)
    repeated = [jnp.broadcast_to(x, (8, *x.shape)) for x in (tokens, ids)]
    wanted = scoring.score_steps(hidden @ unembed.T, tokens, ids, **OPTIONS)
    for found in (
        pmapped.score_steps(logits, *repeated, axis_name="v", **OPTIONS),
        pmapped.score_steps_from_hidden(
            jnp.broadcast_to(hidden, (8, *hidden.shape)),
            shards,
            *repeated,
            axis_name="v",
            **OPTIONS,
        ),
    ):
        close(jax.tree.map(lambda x: x[5], found), wanted)


def test_one_copy_to_the_host(monkeypatch):
    hidden, unembed, tokens, ids = problem()
    found = scoring.score_steps_from_hidden(hidden, unembed, tokens, ids, **OPTIONS)
    copies = []
    fetch = jax.device_get
    monkeypatch.setattr(jax, "device_get", lambda x: copies.append(x) or fetch(x))
    on_host = scoring.to_host(found)
    assert len(jax.tree.leaves(copies)) == 1
    jax.tree.map(np.testing.assert_array_equal, on_host, found)
    assert on_host.length.dtype == np.int32
    with pytest.raises(ValueError, match="32-bit"):
        scoring.to_host(jnp.zeros(3, jnp.bfloat16))
