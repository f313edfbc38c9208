"""What a caller may ask beside one token's log-probability: K ids, arg-max, bias, temperatures."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType

from leco_jax import scoring
from tests.leco_jax.scoring import exact

P = jax.P
STATS = ("logprob", "entropy", "logsumexp", "topk_logprob", "argmax")
OPTIONS = {"stats": STATS, "topk": 3, "soft_cap": 8.0, "valid_vocab": 2990}


@functools.cache
def problem():
    """Hidden states with a row of nothing useful, several ids per token, temperatures, a bias."""
    keys = jax.random.split(jax.random.key(3), 5)
    hidden = jax.random.normal(keys[0], (2, 6, 16))
    unembed = jax.random.normal(keys[1], (3000, 16))
    ids = jax.random.randint(keys[2], (2, 6, 4), 0, 2990).at[0, 0, 0].set(-1).at[0, 1, 1].set(2995)
    temperature = jax.random.uniform(keys[3], (2, 6), minval=0.3, maxval=2.0)
    bias = jax.random.normal(keys[4], (3000,))
    mask = jnp.ones((2, 6), bool).at[1, 2:4].set(False)
    return hidden, unembed, ids, temperature, bias, mask


def wanted():
    hidden, unembed, ids, temperature, bias, mask = problem()
    logits = np.asarray(hidden, np.float64) @ np.asarray(unembed, np.float64).T + np.asarray(bias)
    options = {name: x for name, x in OPTIONS.items() if name != "stats"}
    found = exact.token_stats(logits, ids, temperature=temperature, mask=mask, **options)
    return found | {"argmax": np.where(mask, logits[..., :2990].argmax(-1), 0)}


def from_hidden(implementation="auto", **more):
    def function(hidden, unembed, ids, temperature, bias, mask):
        rows = {"temperature": temperature, "bias": bias, "mask": mask}
        return scoring.token_stats_from_hidden(
            hidden, unembed, ids, implementation=implementation, **rows, **OPTIONS, **more
        )

    return function


def from_logits(implementation="auto", **more):
    def function(hidden, unembed, ids, temperature, bias, mask):
        rows = {"temperature": temperature, "mask": mask}
        logits = hidden @ unembed.T + bias
        return scoring.token_stats(
            logits, ids, implementation=implementation, **rows, **OPTIONS, **more
        )

    return function


def check(found):
    expected = wanted()
    for name in STATS:
        np.testing.assert_allclose(
            getattr(found, name), expected[name], atol=3e-5, rtol=1e-6, err_msg=name
        )


def loss(function, *arrays):
    found = function(*arrays)
    values = [jnp.where(jnp.isfinite(x), x, 0.0) for x in found[:-1] if x is not None]
    return sum((jnp.cos(jnp.arange(x.size)).reshape(x.shape) * x).sum() for x in values), found


@pytest.mark.heavy
@pytest.mark.parametrize("make", [from_logits, from_hidden])
def test_everything_at_once(make):
    arrays = problem()
    kinds = ("auto", "reference")
    pairs = []
    for kind in kinds:
        gradient = jax.value_and_grad(functools.partial(loss, make(kind)), (0, 1, 4), has_aux=True)
        (_, found), grads = jax.jit(gradient)(*arrays)
        check(found)
        pairs.append(grads)
    for ours, reference in zip(*pairs, strict=True):
        np.testing.assert_allclose(ours, reference, atol=2e-5 * float(jnp.abs(reference).max()))
    np.testing.assert_array_equal(pairs[0][0][1, 2:4], 0.0)


@pytest.mark.heavy
@pytest.mark.parametrize("make", [from_logits, from_hidden])
def test_over_shards_of_the_vocabulary(make):
    mesh = jax.make_mesh((4,), ("v",), axis_types=(AxisType.Auto,), devices=jax.devices()[:4])
    arrays = problem()

    def weighted(function, *arrays):
        return loss(function, *arrays)

    sharded = jax.shard_map(
        make(axis_name="v"),
        mesh=mesh,
        in_specs=(P(), P("v"), P(), P(), P("v"), P()),
        out_specs=P(),
    )
    (_, found), grads = jax.jit(
        jax.value_and_grad(functools.partial(loss, sharded), (0, 1, 4), has_aux=True)
    )(*arrays)
    check(found)
    expected = jax.jit(jax.grad(lambda *xs: loss(make("reference"), *xs)[0], (0, 1, 4)))(*arrays)
    for ours, reference in zip(grads, expected, strict=True):
        np.testing.assert_allclose(ours, reference, atol=2e-5 * float(jnp.abs(reference).max()))


@pytest.mark.heavy
def test_vmap_and_one_traced_temperature():
    hidden, unembed, ids, temperature, *_ = problem()
    stats = {"stats": ("logprob", "argmax"), "topk": 3}

    def each(x, y, t):
        return scoring.token_stats(x @ unembed.T, y, temperature=t, **stats)

    found = jax.vmap(jax.vmap(each))(hidden, ids, temperature)
    whole = scoring.token_stats(hidden @ unembed.T, ids, temperature=temperature, **stats)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), found, whole)
    one = jax.jit(lambda t: each(hidden, ids, t))(0.7)
    np.testing.assert_allclose(one.logprob, each(hidden, ids, 0.7).logprob, atol=1e-5)


@pytest.mark.heavy
def test_the_lowest_of_equal_ids_and_none_where_there_is_none():
    logits = jnp.zeros((5, 5000)).at[0, 4000].set(2.0).at[0, 4999].set(2.0).at[1, 77].set(1.0)
    logits = logits.at[2].set(-jnp.inf).at[3, 9].set(jnp.nan).at[4, :4998].set(-jnp.inf)
    for implementation in ("auto", "reference"):
        found = scoring.token_stats(
            logits, jnp.zeros(5, int), stats="argmax", implementation=implementation
        )
        np.testing.assert_array_equal(found.argmax, [4000, 77, -1, -1, 4998])
        assert found.argmax.dtype == jnp.int32


def test_a_temperature_that_is_not_positive_is_not_a_number():
    logits = jnp.zeros((3, 9))
    found = scoring.token_stats(logits, jnp.zeros(3, int), temperature=jnp.array([1.0, 0.0, -1.0]))
    np.testing.assert_array_equal(jnp.isnan(found.logprob), [False, True, True])


def test_what_the_kernels_lack_is_said():
    hidden, unembed = jnp.ones((4, 128)), jnp.ones((300, 128))
    tokens = jnp.zeros(4, int)
    for options, message in (
        ({"stats": "argmax"}, "keep no arg-max"),
        ({"temperature": jnp.ones(4)}, "one temperature"),
        ({"bias": jnp.ones(300)}, "adds no bias"),
    ):
        with pytest.raises(ValueError, match=message):
            scoring.token_stats_from_hidden(
                hidden, unembed, tokens, implementation="pallas_tpu", **options
            )
    with pytest.raises(ValueError, match=r"bias \(4,\) does not fit 300 columns"):
        scoring.token_stats_from_hidden(hidden, unembed, tokens, bias=jnp.ones(4))
    with pytest.raises(ValueError, match=r"mask must be bool \(4,\); got int32"):
        scoring.token_stats_from_hidden(hidden, unembed, tokens, mask=tokens)
