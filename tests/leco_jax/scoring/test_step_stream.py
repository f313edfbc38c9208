"""Step scores as a stream are those of the batch, wherever it is cut into chunks."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from leco_jax import scoring
from leco_jax.scoring.presets import PRESETS

T, S = 48, 5


def close(found, wanted, atol=1e-6):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=atol, rtol=1e-6), found, wanted)


def log_probabilities(kind, rng, shape):
    if kind == "equal":
        return np.full(shape, np.log(0.1), np.float32)
    logprob = np.log(rng.random(shape)) * {"usual": 1.0, "small": 30.0, "impossible": 1.0}[kind]
    if kind == "impossible":
        logprob = np.where(rng.random(shape) < 0.5, -np.inf, logprob)
    return logprob.astype(np.float32)


@pytest.mark.heavy
@given(
    kind=st.sampled_from(["usual", "equal", "small", "impossible"]),
    cuts=st.lists(st.integers(0, T), max_size=5),
    preset=st.sampled_from(sorted(PRESETS)),
    ordered=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_equal_to_the_batch(kind, cuts, preset, ordered, seed):
    rng = np.random.default_rng(seed)
    logprob = log_probabilities(kind, rng, (2, T))
    ids = rng.integers(-1, S, (2, T))
    ids = np.sort(ids) if ordered else ids
    in_label = rng.random((2, T)) < 0.2
    # Padding to T keeps one shape, so one compilation: what is padded is not scored.
    state = PRESETS[preset].step_state((2,), num_steps=S)
    ends = [0, *sorted(cuts), T]
    for begin, end in itertools.pairwise(ends):
        here = (np.arange(T) >= begin) & (np.arange(T) < end)
        state = scoring.update(state, logprob, np.where(here, ids, -1), in_label=in_label)
    wanted = PRESETS[preset].step_scores(logprob, ids, in_label, num_steps=S)
    close(scoring.scores(state), wanted)


@pytest.mark.heavy
@pytest.mark.parametrize("cuts", [[], [1, 2, 3], [7, 7, 31], range(T)])
def test_chunks_of_any_length(cuts):
    rng = np.random.default_rng(0)
    logprob, ids = log_probabilities("usual", rng, (T,)), np.sort(rng.integers(0, S, T))
    state = scoring.step_state(num_steps=S)
    ends = [0, *cuts, T]
    for begin, end in itertools.pairwise(ends):
        state = scoring.update(state, logprob[begin:end], ids[begin:end])
    close(scoring.scores(state), scoring.step_scores(logprob, ids, num_steps=S))


@pytest.mark.heavy
def test_under_jit_scan_and_vmap_with_flags():
    rng = np.random.default_rng(1)
    logprob = log_probabilities("usual", rng, (3, T))
    flags = rng.random((3, T)) < 0.08
    ids = np.cumsum(flags, -1) - 1
    assert ids.max() < 12

    @jax.jit
    def stream(logprob, flags):
        def add(state, token):
            return scoring.update(state, token[0][None], token[1][None]), None

        state, _ = jax.lax.scan(add, scoring.step_state(num_steps=12), (logprob, flags))
        return scoring.scores(state)

    found = jax.vmap(stream)(logprob, flags)
    close(found, scoring.step_scores(logprob, ids, num_steps=12))


@pytest.mark.heavy
def test_a_chain_far_longer_than_a_chunk_in_little_memory():
    """Linear in the tokens, not tokens × steps; the values of the two ways agree."""
    logprob = jax.ShapeDtypeStruct((8, 8192), jnp.float32)
    ids = jax.ShapeDtypeStruct((8, 8192), jnp.int32)
    program = jax.jit(lambda x, i: scoring.step_scores(x, i, num_steps=512)).lower(logprob, ids)
    assert program.compile().memory_analysis().temp_size_in_bytes < 20e6
    rng = np.random.default_rng(0)
    logprob = log_probabilities("usual", rng, (4000,))
    ids = np.sort(rng.integers(0, 300, 4000))
    found = scoring.step_scores(logprob, ids, num_steps=300)
    for step in (0, 150, 299):
        wanted = scoring.step_scores(logprob[ids == step], ids[ids == step] * 0, num_steps=1)
        close([x[step] for x in found], [x[0] for x in wanted])


@pytest.mark.heavy
def test_gradients_are_those_of_the_batch():
    rng = np.random.default_rng(2)
    logprob, ids = log_probabilities("usual", rng, (T,)), np.sort(rng.integers(0, S, T))

    def streamed(logprob):
        state = scoring.step_state(num_steps=S)
        for begin, end in ((0, 20), (20, T)):
            state = scoring.update(state, logprob[begin:end], ids[begin:end])
        return scoring.scores(state).score.sum()

    def direct(logprob):  # the definition, in float32
        score = 0.0
        for step in range(S):
            p = jnp.exp(logprob[np.flatnonzero(ids == step)])
            share = p / p.sum()
            kl = (share * jnp.log(share * len(p))).sum()
            score += p.mean() + p[:3].mean() - jnp.log1p(kl**0.3)
        return score

    np.testing.assert_allclose(
        jax.jit(jax.grad(streamed))(logprob),
        jax.jit(jax.grad(direct))(logprob),
        atol=1e-5,
        rtol=1e-4,
    )


def test_what_does_not_fit_is_refused():
    state = scoring.step_state((2,), num_steps=3)
    with pytest.raises(ValueError, match="does not fit a state of batch shape"):
        scoring.update(state, jnp.zeros(4), jnp.zeros(4, int))
    with pytest.raises(ValueError, match="num_steps=3 leaves out step id 3"):
        scoring.update(state, jnp.zeros((2, 4)), jnp.full((2, 4), 3))
    with pytest.raises(ValueError, match="must be positive"):
        scoring.step_state(num_steps=0)
