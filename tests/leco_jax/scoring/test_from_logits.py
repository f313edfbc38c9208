import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leco_jax import scoring
from tests.leco_jax.scoring import exact

CASES = [
    {},
    {"soft_cap": 30.0},
    {"temperature": 0.7, "valid_vocab": 2900},
    {"soft_cap": 5.0, "temperature": 1.6, "valid_vocab": 1000, "topk": 5},
    {"topk": 1},
]


def logits_and_tokens(shape, std, seed=0, dtype=jnp.float32):
    logits_key, tokens_key = jax.random.split(jax.random.key(seed))
    logits = (std * jax.random.normal(logits_key, shape)).astype(dtype)
    return logits, jax.random.randint(tokens_key, shape[:-1], 0, shape[-1])


def assert_close(found, wanted, atol):
    """Equal within atol and a few float32 ulps; infinities must be equal."""
    np.testing.assert_allclose(np.asarray(found), wanted, atol=atol, rtol=2e-7)


def flat_and_peaked(shape, dtype=jnp.float32):
    """The first half of the rows has a deviation of 0.2, the others 30."""
    logits, tokens = logits_and_tokens(shape, 1.0)
    std = jnp.where(jnp.arange(shape[0]) < shape[0] // 2, 0.2, 30.0)
    return (logits * std.reshape(-1, *(1,) * (len(shape) - 1))).astype(dtype), tokens


@pytest.mark.heavy
@pytest.mark.parametrize(
    ("implementation", "options"),
    [("xla", options) for options in CASES] + [("reference", CASES[3])],
)
def test_values_against_float64(implementation, options):
    logits, tokens = flat_and_peaked((2, 5, 3001))
    found = scoring.token_stats(
        logits, tokens, stats=exact.STATS, implementation=implementation, **options
    )
    for name, wanted in exact.token_stats(logits, tokens, **options).items():
        assert_close(getattr(found, name), wanted, 1e-5)


@pytest.mark.heavy
def test_bfloat16_logits_are_summed_in_float32():
    logits, tokens = flat_and_peaked((16, 49152), jnp.bfloat16)
    found = scoring.token_stats(logits, tokens, stats=exact.STATS)
    low = jax.nn.log_softmax(logits)  # in bfloat16 throughout
    low = {
        "logprob": jnp.take_along_axis(low, tokens[:, None], -1)[:, 0],
        "entropy": -(jnp.exp(low) * low).sum(-1),
        "self_certainty": -low.mean(-1) - jnp.log(49152.0),
        "max_logprob": low.max(-1),
        "topk_logprob": jax.lax.top_k(low, 20)[0].mean(-1),
        "topk_logmass": jax.nn.logsumexp(jax.lax.top_k(low, 20)[0], axis=-1),
        "logsumexp": jax.nn.logsumexp(logits, axis=-1),
    }
    for name, wanted in exact.token_stats(logits, tokens).items():
        error = np.abs(np.asarray(getattr(found, name), np.float64) - wanted)
        ulp = np.spacing(np.abs(wanted).astype(np.float32))  # 8e-6 beyond 64 nats
        assert (error <= np.abs(np.asarray(low[name], np.float64) - wanted) + 1e-5).all(), name
        assert (error <= 1e-5 + ulp).all(), name


@pytest.mark.heavy
@pytest.mark.parametrize("temperature", [1e-3, 1e3])
def test_extreme_temperatures(temperature):
    logits, tokens = logits_and_tokens((16, 2500), 30.0)
    tokens = tokens.at[:8].set(logits[:8].argmax(-1))
    found = scoring.token_stats(logits, tokens, stats=exact.STATS, temperature=temperature)
    for name, wanted in exact.token_stats(logits, tokens, temperature=temperature).items():
        assert_close(getattr(found, name), wanted, 2e-5)


@pytest.mark.heavy
def test_negative_infinity_ties_and_rows_of_nothing():
    logits, _ = logits_and_tokens((6, 2100), 3.0)
    logits = logits.at[0, 5:].set(-jnp.inf)
    logits = logits.at[1].set(-jnp.inf)
    logits = logits.at[2].set(1.5)
    logits = logits.at[3].set(-jnp.inf).at[3, 2099].set(-4.0)
    logits = logits.at[4].set(jnp.finfo(jnp.float32).min).at[4, 7].set(0.0)
    tokens = jnp.array([7, 3, 2099, 2099, 7, 0])
    for options in ({}, {"soft_cap": 4.0}, {"temperature": 0.01}):
        found = scoring.token_stats(logits, tokens, stats=exact.STATS, **options)
        wanted = exact.token_stats(logits, tokens, **options)
        for name in exact.STATS:
            extreme = name in ("self_certainty", "topk_logprob")  # finfo.min sums to −inf
            keep = np.arange(6) != (4 if extreme else -1)
            assert_close(np.asarray(getattr(found, name))[keep], wanted[name][keep], 2e-5)
            assert not np.isnan(getattr(found, name)).any()


@pytest.mark.heavy
def test_ignored_and_impossible_ids():
    logits, _ = logits_and_tokens((4, 130), 2.0)
    tokens = jnp.array([-1, -100, 129, 128])
    found = scoring.token_stats(logits, tokens, valid_vocab=129)
    assert found.logprob[0] == found.logprob[1] == 0.0
    assert found.logprob[2] == -jnp.inf
    assert found.logprob[3] == pytest.approx(
        float(jax.nn.log_softmax(logits[3, :129])[128]), abs=1e-5
    )
    grad = jax.grad(lambda x: scoring.token_stats(x, tokens, valid_vocab=129).logprob[:3].sum())
    np.testing.assert_array_equal(grad(logits), 0.0)


@pytest.mark.heavy
def test_padding_does_not_count_for_flat_logits():
    logits, tokens = logits_and_tokens((8, 2049), 0.2)
    padded = jnp.pad(logits, ((0, 0), (0, 2047)), constant_values=0.0)
    plain = scoring.token_stats(logits, tokens, stats=exact.STATS)
    masked = scoring.token_stats(padded, tokens, stats=exact.STATS, valid_vocab=2049)
    jax.tree.map(lambda a, b: assert_close(a, b, 2e-6), masked, plain)


def test_only_what_is_asked_for():
    logits, tokens = logits_and_tokens((3, 40), 1.0)
    found = scoring.token_stats(logits, tokens, stats=("entropy",))
    assert [name for name in found._fields if getattr(found, name) is not None] == ["entropy"]


@pytest.mark.heavy
@pytest.mark.parametrize(
    ("stats", "options"),
    [(("logprob",), {}), (("max_logprob",), {})]
    + [(exact.STATS, options) for options in (*CASES[2:4], {"temperature": 1e-3})],
)
def test_gradients_against_autodiff_of_the_reference(stats, options):
    logits, tokens = logits_and_tokens((2, 3, 3001), 2.0, seed=3)

    def loss(logits, implementation):
        found = scoring.token_stats(
            logits, tokens, stats=stats, implementation=implementation, **options
        )
        values = jnp.stack([getattr(found, name) for name in stats])
        values = jnp.where(jnp.isfinite(values), values, 0.0)
        return (jnp.cos(jnp.arange(values.size)).reshape(values.shape) * values).sum()

    gradient = jax.jit(jax.grad(loss), static_argnums=1)
    found, wanted = (gradient(logits, which) for which in ("auto", "reference"))
    scale = float(jnp.abs(wanted).max())
    np.testing.assert_allclose(found, wanted, atol=max(1e-5 * scale, 1e-7))


@pytest.mark.heavy
def test_gradient_is_finite_where_nothing_is():
    logits, tokens = logits_and_tokens((4, 300), 3.0)
    logits = logits.at[0].set(-jnp.inf).at[1, 10:].set(-jnp.inf)

    def loss(logits):
        found = scoring.token_stats(logits, tokens, stats=exact.STATS, temperature=1e-2)
        return sum(jnp.where(jnp.isfinite(x), x, 0.0).sum() for x in found if x is not None)

    grad = jax.grad(loss)(logits)
    assert jnp.isfinite(grad).all()
    np.testing.assert_array_equal(grad[0], 0.0)


@pytest.mark.heavy
@given(
    rows=st.sampled_from([(), (1,), (2, 3), (1, 2, 1)]),
    vocab=st.sampled_from([1, 2, 127, 1024, 2303]),
    valid=st.sampled_from([1, 20, 1000, 1025, 2303]),
    seed=st.integers(0, 99),
)
@settings(max_examples=8)
def test_any_shape(rows, vocab, valid, seed):
    logits, tokens = logits_and_tokens((*rows, vocab), 4.0, seed)
    valid = min(valid, vocab)
    found = scoring.token_stats(logits, tokens, stats=exact.STATS, valid_vocab=valid)
    wanted = exact.token_stats(logits, np.asarray(tokens), valid_vocab=valid)
    for name in exact.STATS:
        assert_close(getattr(found, name), wanted[name], 1e-5)


@pytest.mark.heavy
def test_vmap_equals_batch():
    logits, tokens = logits_and_tokens((3, 4, 1500), 4.0)
    batched = scoring.token_stats(logits, tokens, stats=exact.STATS)
    mapped = jax.vmap(lambda x, y: scoring.token_stats(x, y, stats=exact.STATS))(logits, tokens)
    jax.tree.map(lambda a, b: assert_close(a, b, 1e-6), mapped, batched)


def test_memory_is_a_tile_of_logits():
    """On this host; the TPU compiler's word is in test_tpu_compile.py."""
    logits = jax.ShapeDtypeStruct((256, 49152), jnp.float32)
    tokens = jax.ShapeDtypeStruct((256,), jnp.int32)
    compiled = jax.jit(scoring.token_stats).lower(logits, tokens).compile()
    assert compiled.memory_analysis().temp_size_in_bytes < 0.05 * 256 * 49152 * 4


@pytest.mark.heavy
@pytest.mark.parametrize(
    ("dtype", "options"),
    [
        (jnp.bfloat16, {"soft_cap": 5.0, "temperature": 0.5, "valid_vocab": 400}),
        (jnp.float16, {}),
    ],
)
def test_few_rows_of_narrow_logits(dtype, options):
    """Log-probabilities alone go a way of their own, also with a temperature per row."""
    logits, tokens = logits_and_tokens((7, 500), 4.0, dtype=dtype)
    logits = logits.at[0, 3:].set(-jnp.inf).at[1].set(-jnp.inf).at[2, 9].set(jnp.nan)
    found = scoring.token_stats(logits, tokens % 400, **options).logprob
    wanted = exact.token_stats(logits.astype(jnp.float32), tokens % 400, **options)["logprob"]
    assert_close(found, wanted, 1e-5)
    temperature = jnp.full(7, options.get("temperature", 1.0))
    found = scoring.token_stats(logits, tokens % 400, **options | {"temperature": temperature})
    assert_close(found.logprob, wanted, 2e-5)


def test_few_rows_of_bfloat16_are_not_copied():
    logits = jax.ShapeDtypeStruct((64, 49152), jnp.bfloat16)
    tokens = jax.ShapeDtypeStruct((64,), jnp.int32)
    compiled = jax.jit(scoring.token_stats).lower(logits, tokens).compile()
    assert compiled.memory_analysis().temp_size_in_bytes < 1e4


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"stats": ("perplexity",)}, "stats must name"),
        ({"stats": ()}, "stats must name"),
        ({"temperature": 0.0}, "temperature must be positive"),
        ({"soft_cap": -1.0}, "soft_cap must be positive"),
        ({"valid_vocab": 11}, "valid_vocab=11 does not fit 10 columns"),
        ({"topk": 21}, "topk must be in"),
        ({"implementation": "cuda"}, "implementation must be one of"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        scoring.token_stats(jnp.zeros((3, 10)), jnp.zeros(3, jnp.int32), **options)


def test_bad_arrays():
    with pytest.raises(ValueError, match="tokens must be integers"):
        scoring.token_stats(jnp.zeros((3, 10)), jnp.zeros(3))
    with pytest.raises(ValueError, match="must have the shape of logits"):
        scoring.token_stats(jnp.zeros((3, 10)), jnp.zeros(4, jnp.int32))
    with pytest.raises(ValueError, match="logits must be floating point"):
        scoring.token_stats(jnp.zeros((3, 10), jnp.int32), jnp.zeros(3, jnp.int32))
