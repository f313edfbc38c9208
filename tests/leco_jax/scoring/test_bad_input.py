"""No wrong value in silence: a right result, NaN for what is not a number, or a ValueError."""

import contextlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental.pallas import tpu as pltpu
from jax.sharding import AxisType

from leco_jax import scoring
from leco_jax.scoring import pmapped
from tests.leco_jax.scoring import exact

P = jax.P


def normal(*shape, seed=0):
    return 2.0 * jax.random.normal(jax.random.key(seed), shape)


@pytest.mark.heavy
@pytest.mark.parametrize(
    ("dtype", "vocab"),
    [("uint8", 256), ("int8", 128), ("uint16", 65536), ("int16", 32768), ("uint32", 300)],
)
def test_tokens_of_any_integer_type(dtype, vocab):
    hidden, unembed = normal(3, 4), normal(vocab, 4, seed=1)
    tokens = np.array([0, 7, vocab - 1], dtype)
    for implementation in ("auto", "reference"):
        options = {"implementation": implementation}
        wanted = exact.token_stats(hidden @ unembed.T, tokens.astype(int))["logprob"]
        found = scoring.token_stats(hidden @ unembed.T, tokens, **options)
        np.testing.assert_allclose(found.logprob, wanted, atol=1e-5)
        found = scoring.token_stats_from_hidden(hidden, unembed, tokens, **options)
        np.testing.assert_allclose(found.logprob, wanted, atol=1e-5)


@pytest.mark.heavy
def test_an_id_too_large_for_int32_is_impossible_and_not_ignored():
    found = scoring.token_stats(normal(1, 9), np.array([2**32 - 1], np.uint32))
    assert found.logprob[0] == -jnp.inf


def logits_loss(implementation, tokens, stats, soft_cap):
    def loss(logits):
        found = scoring.token_stats(
            logits, tokens, stats=stats, topk=3, soft_cap=soft_cap, implementation=implementation
        )
        return sum(
            jnp.where(x == -jnp.inf, 0.0, x).sum(-1).sum() for x in jax.tree.leaves(found)
        ), found

    return jax.value_and_grad(loss, has_aux=True)


@pytest.mark.heavy
@pytest.mark.parametrize(
    ("implementation", "soft_cap"),
    [("xla", None), ("xla", 5.0), ("pallas_tpu", None), ("reference", 5.0)],
)
def test_not_a_number_stays_visible(implementation, soft_cap):
    """In every statistic and in the gradient; other rows, and rows of −inf, are as before."""
    logits = normal(5, 300).at[3].set(-jnp.inf).at[4, 9:].set(-jnp.inf)
    tokens = jnp.array([3, 290, 400, 2, 2])
    sick = logits.at[1, 7].set(jnp.nan).at[2, 299].set(jnp.inf)
    context = contextlib.nullcontext
    if implementation == "pallas_tpu":
        context = pltpu.force_tpu_interpret_mode
    with context():
        function = logits_loss(implementation, tokens, exact.STATS, soft_cap)
        (_, found), gradient = function(sick)
    (_, wanted), wanted_gradient = logits_loss("xla", tokens, exact.STATS, soft_cap)(logits)
    for name in exact.STATS:
        assert jnp.isnan(getattr(found, name)[1:3]).all(), name
        np.testing.assert_allclose(
            getattr(found, name)[jnp.array([0, 3, 4])],
            getattr(wanted, name)[jnp.array([0, 3, 4])],
            atol=1e-5,
        )
    assert jnp.isnan(gradient[1:3]).all()
    keep = jnp.array([0, 3, 4])
    assert jnp.isfinite(wanted_gradient).all()
    np.testing.assert_allclose(gradient[keep], wanted_gradient[keep], atol=1e-5)


@pytest.mark.heavy
@pytest.mark.parametrize("implementation", ["xla", "reference"])
def test_an_ignored_row_has_no_gradient_whatever_its_logits(implementation):
    logits = normal(2, 40).at[1].set(jnp.nan)
    (value, _), gradient = logits_loss(implementation, jnp.array([3, -1]), "logprob", None)(logits)
    assert jnp.isfinite(value)
    assert jnp.isfinite(gradient).all()
    np.testing.assert_array_equal(gradient[1], 0.0)


@pytest.mark.heavy
def test_not_a_number_in_hidden_states_and_over_shards():
    hidden, unembed = normal(4, 16).at[2, 3].set(jnp.nan), normal(256, 16, seed=1)
    tokens = jnp.array([1, 2, 3, 4])
    options = {"stats": exact.STATS, "topk": 4}
    mesh = jax.make_mesh((4,), ("vocab",), axis_types=(AxisType.Auto,), devices=jax.devices()[:4])

    def check(found):
        for x in jax.tree.leaves(found):
            np.testing.assert_array_equal(jnp.isnan(x), [False, False, True, False])

    check(scoring.token_stats_from_hidden(hidden, unembed, tokens, **options))
    logits = normal(4, 256).at[2, 200].set(jnp.inf)
    sharded = jax.shard_map(
        lambda x, y: scoring.token_stats(x, y, axis_name="vocab", **options),
        mesh=mesh,
        in_specs=(P(None, "vocab"), P()),
        out_specs=P(),
    )
    check(jax.jit(sharded)(logits, tokens))


@pytest.mark.heavy
def test_step_scores_of_not_a_number():
    found = scoring.step_scores(
        jnp.array([-1.0, jnp.nan, -1.0, jnp.nan]), jnp.array([0, 0, 1, -1]), num_steps=3
    )
    for field in (found.average, found.divergence, found.score):
        np.testing.assert_array_equal(jnp.isnan(field), [True, False, False])


@pytest.mark.heavy
def test_a_vocabulary_that_is_not_sharded_is_refused():
    mesh = jax.make_mesh((8,), ("vocab",), axis_types=(AxisType.Auto,))
    hidden, unembed, tokens = normal(4, 16), normal(64, 16), jnp.zeros(4, jnp.int32)

    def call(function, *arrays):
        return jax.shard_map(
            lambda *xs: function(*xs, axis_name="vocab").logprob,
            mesh=mesh,
            in_specs=P(),
            out_specs=P(),
        )(*arrays)

    with pytest.raises(ValueError, match=r"unembed is not sharded over \['vocab'\]"):
        call(scoring.token_stats_from_hidden, hidden, unembed, tokens)
    with pytest.raises(ValueError, match=r"logits is not sharded over \['vocab'\]"):
        call(scoring.token_stats, hidden @ unembed.T, tokens)


@pytest.mark.heavy
@pytest.mark.parametrize("dtype", ["float16", "float8_e4m3", "float8_e4m3fn", "float8_e5m2"])
def test_narrow_floats(dtype):
    """What is stored in 16 or 8 bits is summed in float32, and its gradient keeps the type."""
    hidden, unembed = normal(3, 8).astype(dtype), normal(200, 8, seed=1).astype(dtype)
    tokens = jnp.array([0, 5, 199])
    logits = (hidden.astype(jnp.float32) @ unembed.astype(jnp.float32).T).astype(dtype)
    found = scoring.token_stats(logits, tokens, stats=exact.STATS)
    for name, wanted in exact.token_stats(logits.astype(jnp.float32), tokens).items():
        np.testing.assert_allclose(getattr(found, name), wanted, atol=1e-5)

    def loss(hidden, unembed):
        return scoring.token_stats_from_hidden(hidden, unembed, tokens).logprob.sum()

    def plain(hidden, unembed):
        return jax.nn.log_softmax(hidden @ unembed.T)[jnp.arange(3), tokens].sum()

    value, grads = jax.value_and_grad(loss, (0, 1))(hidden, unembed)
    exactly = jax.value_and_grad(plain, (0, 1))(*(x.astype(jnp.float32) for x in (hidden, unembed)))
    np.testing.assert_allclose(value, exactly[0], rtol=1e-6)
    for gradient, wanted in zip(grads, exactly[1], strict=True):
        assert gradient.dtype == dtype
        scale = float(jnp.abs(wanted).max())
        tolerance = {2: 2e-3, 1: 0.13}[gradient.dtype.itemsize] * scale
        np.testing.assert_allclose(gradient.astype(jnp.float32), wanted, atol=tolerance)


@pytest.mark.tpu_compile
@pytest.mark.parametrize(
    "dtype",
    [*(pytest.param(t, marks=pytest.mark.slow) for t in ("float16", "float8_e4m3")), "float8_e5m2"],
)
def test_narrow_floats_compile_for_tpu(dtype):
    pytest.importorskip("libtpu", reason="the TPU compiler comes with the extra `aot`")
    from tests.leco_jax.scoring import tpu

    def program(hidden, unembed, logits, tokens):
        def loss(hidden, unembed, logits):
            a = scoring.token_stats(logits, tokens, stats=("logprob", "entropy"))
            b = scoring.token_stats_from_hidden(hidden, unembed, tokens)
            return (a.logprob + a.entropy + b.logprob).sum()

        return jax.value_and_grad(loss, (0, 1, 2))(hidden, unembed, logits)

    shapes = [((64, 256), dtype), ((5000, 256), dtype), ((64, 5000), dtype), ((64,), jnp.int32)]
    compiled = tpu.compile_for(tpu.mesh("v5e", 1), program, *shapes)
    assert not tpu.runs_a_kernel(compiled)


@pytest.mark.heavy
def test_options_in_other_clothes():
    logits, tokens = normal(3, 40), [1, 2, 3]
    wanted = scoring.token_stats(logits, jnp.array(tokens), temperature=0.5)
    for stats, temperature in (("logprob", jnp.float32(0.5)), (["logprob"], np.float16(0.5))):
        found = scoring.token_stats(logits.tolist(), tokens, stats=stats, temperature=temperature)
        np.testing.assert_allclose(found.logprob, wanted.logprob, rtol=1e-6)
    found = scoring.step_scores([-1.0, -2.0], [0, 0], num_steps=1, heading=[True, False])
    np.testing.assert_allclose(found.transition, np.exp([-1.0]), rtol=1e-6)
    with pytest.raises(ValueError, match="soft_cap must be known when tracing"):
        jax.jit(lambda x, c: scoring.token_stats(x, tokens, soft_cap=c))(logits, 5.0)
    with pytest.raises(ValueError, match=r"temperature must be one number, or fit the rows \(3,\)"):
        scoring.token_stats(logits, tokens, temperature=jnp.ones(4))
    with pytest.raises(ValueError, match="temperature is not differentiable"):
        jax.grad(lambda t: scoring.token_stats(logits, tokens, temperature=t).logprob.sum())(0.5)
    with pytest.raises(ValueError, match="topk must be a whole number"):
        scoring.token_stats(logits, tokens, stats="topk_logprob", topk=2.5)
    with pytest.raises(ValueError, match="takes whole vocabularies"):
        scoring.token_stats(logits, tokens, axis_name=(), implementation="reference")


@pytest.mark.parametrize(
    ("logprob", "ids", "message"),
    [
        ([-1.0, -1.0], [0, 2], "num_steps=2 leaves out step id 2"),
        ([-1.0, -1.0], [0.0, 1.0], "step ids must be integers; got float32"),
        ([-1.0, -1.0], [False, True], "step ids must be integers; got bool"),
        ([-1.0, 0.5], [0, 1], "1 scored log-probabilities are positive"),
        ([1, 2], [0, 1], "logprob must be floating point"),
        (-1.0, 0, "must have an axis of tokens"),
    ],
)
def test_step_scores_refuses(logprob, ids, message):
    with pytest.raises(ValueError, match=message):
        scoring.step_scores(jnp.array(logprob), jnp.array(ids), num_steps=2)


def test_under_jit_a_positive_log_probability_is_not_a_number():
    score = jax.jit(lambda x: scoring.step_scores(x, jnp.array([0, 1]), num_steps=2))
    found = score(jnp.array([0.5, -1.0])).score
    np.testing.assert_array_equal(jnp.isnan(found), [True, False])


@pytest.mark.heavy
def test_sixteen_rows_on_eight_devices():
    logits, tokens = normal(16, 5, 30), jnp.zeros((16, 5), jnp.int32)
    found = pmapped.token_stats(logits, tokens, temperature=jnp.float32(0.5), stats="logprob")
    wanted = scoring.token_stats(logits, tokens, temperature=0.5)
    np.testing.assert_allclose(found.logprob, wanted.logprob, atol=1e-6)
    with pytest.raises(ValueError, match="12 entries, which 8 devices do not share evenly"):
        pmapped.token_stats(logits[:12], tokens[:12])


@pytest.mark.heavy
def test_second_derivatives():
    logits, tokens = normal(2, 6), jnp.array([1, 2])

    def gradient_norm(logits, implementation):
        def loss(x):
            return scoring.token_stats(x, tokens, implementation=implementation).logprob.sum()

        return jnp.square(jax.grad(loss)(logits)).sum()

    with pytest.raises(ValueError, match='need implementation="reference"'):
        jax.grad(gradient_norm)(logits, "auto")
    assert jnp.isfinite(jax.grad(gradient_norm)(logits, "reference")).all()
