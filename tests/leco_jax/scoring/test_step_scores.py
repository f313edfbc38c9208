import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from leco_jax import scoring
from tests.leco_jax.scoring import exact


def check(found, wanted, atol=1e-5):
    for field, column in zip(found, zip(*wanted, strict=True), strict=True):
        np.testing.assert_allclose(field, column, atol=atol, rtol=1e-6)


@pytest.mark.heavy
def test_hand_computed():
    p = jnp.array([0.5, 0.25, 1.0, 0.8, 0.2])
    found = scoring.step_scores(jnp.log(p), jnp.array([0, 0, -1, 1, 1]), num_steps=2)
    # Step 0: P = (2/3, 1/3), KL = ln 2 − H(P) = 0.0566330; 0.0566330^0.3 = 0.4225905.
    assert found.average[0] == pytest.approx(0.375)
    assert found.transition[0] == pytest.approx(0.375)
    assert found.divergence[0] == pytest.approx(0.352480, abs=2e-6)
    assert found.score[0] == pytest.approx(0.75 - 0.352480, abs=2e-6)
    assert found.length.tolist() == [2, 2]
    assert found.length.dtype == jnp.int32


def test_heading_is_the_first_scored_tokens_of_the_own_step():
    p = jnp.array([0.9, 0.1, 0.2, 0.3, 0.4, 0.5])
    ids = jnp.array([0, -1, 0, 0, 0, 1])
    found = scoring.step_scores(jnp.log(p), ids, num_steps=2, heading_tokens=3)
    np.testing.assert_allclose(found.transition, [(0.9 + 0.2 + 0.3) / 3, 0.5], rtol=1e-6)


@pytest.mark.heavy
def test_heading_after_a_label():
    p = jnp.array([0.9, 0.8, 0.2, 0.3, 0.4, 0.5])
    ids = jnp.array([0, 0, 0, 0, 1, 1])
    heading = scoring.heading_mask(ids.at[:2].set(-1), num_steps=2, heading_tokens=5)
    assert heading.tolist() == [False, False, True, True, True, True]
    found = scoring.step_scores(jnp.log(p), ids, num_steps=2, heading=heading)
    np.testing.assert_allclose(found.transition, [0.25, 0.45], rtol=1e-6)
    nothing = scoring.step_scores(jnp.log(p), ids, num_steps=2, heading=jnp.zeros(6, bool))
    np.testing.assert_array_equal(nothing.transition, nothing.average)


@pytest.mark.heavy
@pytest.mark.parametrize("length", [1, 7, 14, 299, 2000])
def test_equal_probabilities_have_no_divergence(length):
    logprob = jnp.broadcast_to(jnp.log(jnp.array([1.0, 0.5, 1e-3]))[:, None], (3, length))
    found = scoring.step_scores(logprob, jnp.zeros((3, length), jnp.int32), num_steps=1)
    np.testing.assert_array_equal(found.divergence, 0.0)


@pytest.mark.heavy
def test_nearly_equal_probabilities_keep_their_divergence():
    p = 0.7 * (1 + 1e-4 * np.sin(np.arange(50.0)))
    found = scoring.step_scores(jnp.log(jnp.array(p, jnp.float32)), jnp.zeros(50, int), num_steps=1)
    check(found, exact.step_scores(np.log(p), np.zeros(50, int), num_steps=1), atol=2e-4)


@pytest.mark.heavy
@given(
    ids=st.lists(st.integers(-1, 5), min_size=1, max_size=40),
    heading_tokens=st.integers(1, 6),
    tau=st.sampled_from([0.3, 1 / 3, 1.0]),
    seed=st.integers(0, 1000),
)
def test_any_segmentation(ids, heading_tokens, tau, seed):
    rng = np.random.default_rng(seed)
    logprob = np.log(rng.random(len(ids))) * rng.choice([1.0, 30.0])
    options = {"num_steps": 6, "tau": tau, "heading_tokens": heading_tokens}
    padded_ids = np.pad(ids, (0, 40 - len(ids)), constant_values=-1)
    padded = np.pad(logprob, (0, 40 - len(ids))).astype(np.float32)
    found = scoring.step_scores(jnp.array(padded), jnp.array(padded_ids), **options)
    check(found, exact.step_scores(logprob, ids, **options), atol=2e-5)


@pytest.mark.heavy
def test_never_nan_and_finite_gradients():
    logprob = jnp.array(
        [[-jnp.inf, -jnp.inf, 0.0, 0.0, -200.0], [jnp.nan, -jnp.inf, -1.0, -1.0, 0]]
    )
    ids = jnp.array([[0, 0, 1, 1, 2], [-1, -1, 0, 0, -1]])

    def loss(logprob):
        found = scoring.step_scores(logprob, ids, num_steps=4)
        assert not any(jnp.isnan(x).any() for x in jax.tree.leaves(jax.lax.stop_gradient(found)))
        return jnp.where(found.length > 0, found.score, 0.0).sum()

    assert jnp.isfinite(jax.grad(loss)(logprob)).all()
    found = scoring.step_scores(logprob, ids, num_steps=4)
    assert found.score[:, 3].tolist() == [jnp.inf, jnp.inf]
    assert found.length.tolist() == [[2, 2, 1, 0], [2, 0, 0, 0]]


@pytest.mark.heavy
def test_batches_and_vmap():
    logprob = -jax.random.exponential(jax.random.key(0), (2, 3, 20))
    ids = jnp.broadcast_to(jnp.arange(20) // 5, (2, 3, 20))
    found = scoring.step_scores(logprob, ids, num_steps=4)
    mapped = jax.vmap(lambda x, i: scoring.step_scores(x, i, num_steps=4))(logprob, ids)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), mapped, found)
    check([x[1, 2] for x in found], exact.step_scores(logprob[1, 2], ids[1, 2], num_steps=4))


@pytest.mark.heavy
def test_score_steps_is_token_stats_then_step_scores():
    keys = jax.random.split(jax.random.key(0), 3)
    hidden = jax.random.normal(keys[0], (2, 12, 16))
    unembed = jax.random.normal(keys[1], (300, 16))
    tokens = jax.random.randint(keys[2], (2, 12), 0, 290)
    ids = jnp.broadcast_to(jnp.arange(12) // 4, (2, 12))
    logits = hidden @ unembed.T
    logprob = jax.nn.log_softmax(logits[..., :290])
    logprob = jnp.take_along_axis(logprob, tokens[..., None], -1)[..., 0]
    wanted = scoring.step_scores(logprob, ids, num_steps=3, tau=0.5, heading_tokens=2)
    options = {"num_steps": 3, "tau": 0.5, "heading_tokens": 2, "valid_vocab": 290}
    for found in (
        jax.jit(lambda x: scoring.score_steps(x, tokens, ids, **options))(logits),
        scoring.score_steps_from_hidden(hidden, unembed, tokens, ids, **options),
    ):
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), found, wanted)


@pytest.mark.heavy
def test_probability_among_the_top_five():
    logits = jnp.log(jnp.array([[0.4, 0.2, 0.1, 0.1, 0.1, 0.05, 0.05]]))
    found = scoring.score_steps(
        logits, jnp.array([0]), jnp.array([0]), num_steps=1, renormalise_topk=5
    )
    assert found.average[0] == pytest.approx(0.4 / 0.9, rel=1e-6)


def test_bad_arguments():
    with pytest.raises(ValueError, match="differ in shape"):
        scoring.step_scores(jnp.zeros(3), jnp.zeros(4, int), num_steps=1)
    with pytest.raises(ValueError, match="must be positive"):
        scoring.step_scores(jnp.zeros(3), jnp.zeros(3, int), num_steps=1, tau=0.0)


@pytest.mark.heavy
def test_ragged_chains_share_a_few_lengths():
    lengths = np.random.default_rng(0).integers(1, 8192, 200)
    assert len({scoring.pad_to([np.zeros(n)]).shape for n in lengths}) <= 8
    chains, ids = [[-1.0, -2.0, -0.5], [-3.0] * 70], [[0, 0, 1], [1] * 70]
    padded = scoring.pad_to(chains), scoring.pad_to(ids, fill=-1)
    assert padded[0].shape == padded[1].shape == (2, 128)
    found = scoring.step_scores(*padded, num_steps=2)
    alone = scoring.step_scores(jnp.array(chains[0]), jnp.array(ids[0]), num_steps=2)
    np.testing.assert_allclose(found.score[0], alone.score, atol=1e-6)
    with pytest.raises(ValueError, match="at least one chain"):
        scoring.pad_to([])
