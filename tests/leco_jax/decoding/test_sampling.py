import jax
import jax.numpy as jnp
import numpy as np
import pytest

from leco_jax.decoding import sampling
from leco_jax.decoding.sampling import SamplingRows

process = jax.jit(sampling.process, static_argnames="valid_vocab")
choose = jax.jit(sampling.choose)


def _rows(n, *, temperature=1.0, top_k=0, top_p=1.0, forbid=(-1,), seed=0):
    return SamplingRows(
        temperature=jnp.full(n, temperature, jnp.float32),
        top_k=jnp.full(n, top_k, jnp.int32),
        top_p=jnp.full(n, top_p, jnp.float32),
        forbid=jnp.full((n, len(forbid)), jnp.asarray(forbid, jnp.int32)),
        key=jax.vmap(jax.random.key)(jnp.arange(n) + seed),
    )


def _kept(x):
    return [sorted(np.flatnonzero(np.isfinite(row)).tolist()) for row in np.asarray(x)]


_LOGITS = jnp.log(jnp.array([[0.1, 0.4, 0.2, 0.3]]))


@pytest.mark.parametrize(
    ("options", "kept"),
    [
        ({}, [0, 1, 2, 3]),
        ({"top_k": 1}, [1]),
        ({"top_k": 3}, [1, 2, 3]),
        ({"top_k": 9}, [0, 1, 2, 3]),
        ({"top_p": 0.39}, [1]),
        ({"top_p": 0.69}, [1, 3]),
        ({"top_p": 0.71}, [1, 2, 3]),
        ({"forbid": (1,)}, [0, 2, 3]),
        ({"forbid": (1, -1, 3, 1)}, [0, 2]),
        ({"forbid": (1,), "top_k": 1}, [3]),
        ({"top_k": 2, "top_p": 0.5}, [1]),  # 0.4 / 0.7 of what top-k left
    ],
)
def test_truncation_keeps_the_tokens_worked_out_by_hand(options, kept):
    assert _kept(process(_LOGITS, _rows(1, **options))) == [kept]


def test_ties_at_a_threshold_are_all_kept():
    x = jnp.array([[1.0, 2.0, 2.0, 0.0]])
    assert _kept(process(x, _rows(1, top_k=1))) == [[1, 2]]


@pytest.mark.heavy
def test_top_k_agrees_with_a_sort_on_random_logits_of_both_signs():
    x = jax.random.normal(jax.random.key(0), (5, 1000)) * 20
    kept = np.isfinite(process(x, _rows(5, top_k=17)))
    threshold = np.sort(np.asarray(x), axis=-1)[:, -17][:, None]
    np.testing.assert_array_equal(kept, np.asarray(x) >= threshold)


def test_rows_mix_options_and_temperature_divides():
    rows = _rows(2)._replace(top_k=jnp.array([0, 1]), temperature=jnp.array([0.5, 0.0]))
    out = np.asarray(process(jnp.repeat(_LOGITS, 2, axis=0), rows))
    np.testing.assert_allclose(out[0], 2 * np.asarray(_LOGITS[0]), rtol=1e-6)
    assert _kept(out)[1] == [1]


def test_padding_of_the_vocabulary_is_never_chosen():
    x = jnp.zeros((1, 4)).at[0, 3].set(50.0)
    assert _kept(process(x, _rows(1), valid_vocab=3)) == [[0, 1, 2]]


def test_greedy_takes_the_first_of_equal_maxima():
    x = jnp.array([[0.0, 3.0, 3.0]])
    assert int(choose(x, _rows(1, temperature=0.0), jnp.zeros(1, jnp.int32))[0]) == 1


@pytest.mark.heavy
def test_drawn_frequencies_are_the_probabilities():
    n, vocab = 4000, 700  # more than two blocks, the last one ragged
    logits = jax.random.normal(jax.random.key(3), (vocab,)) * 2
    rows = _rows(n)
    drawn = choose(process(jnp.tile(logits, (n, 1)), rows), rows, jnp.zeros(n, jnp.int32))
    p = np.asarray(jax.nn.softmax(logits))
    top = np.argsort(-p)[:6]
    seen = np.bincount(np.asarray(drawn), minlength=vocab) / n
    # Five standard deviations of a binomial proportion.
    assert np.all(np.abs(seen - p)[top] < 5 * np.sqrt(p * (1 - p) / n)[top])
    assert abs(seen[600:].sum() - p[600:].sum()) < 5 * np.sqrt(0.25 / n)


@pytest.mark.heavy
def test_a_masked_token_is_never_drawn():
    rows = _rows(500)
    x = process(jnp.zeros((500, 300)), rows._replace(forbid=jnp.full((500, 1), 299)))
    assert int(jnp.max(choose(x, rows, jnp.zeros(500, jnp.int32)))) < 299


@pytest.mark.heavy
def test_a_draw_depends_on_key_and_position_alone():
    x = jax.random.normal(jax.random.key(1), (3, 50))
    rows = _rows(3)
    position = jnp.array([4, 9, 2])
    together = choose(x, rows, position)
    for i in range(3):
        alone = choose(
            x[i : i + 1], jax.tree.map(lambda a, i=i: a[i : i + 1], rows), position[i : i + 1]
        )
        assert int(alone[0]) == int(together[i])
    many = [int(choose(x[:1], _rows(1), jnp.array([p]))[0]) for p in range(20)]
    assert len(set(many)) > 3  # another position is another draw
