import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType

from leco_jax import scoring
from tests.leco_jax.scoring import exact

P = jax.P
CASES = [
    {},
    {"soft_cap": 6.0, "temperature": 0.7, "valid_vocab": 4999},
    {"valid_vocab": 900, "topk": 5},
]


def problem(rows=(2, 3), width=24, vocab=5000, scale=1.0, dtype=jnp.float32):
    keys = jax.random.split(jax.random.key(7), 3)
    hidden = (scale * jax.random.normal(keys[0], (*rows, width))).astype(dtype)
    unembed = jax.random.normal(keys[1], (vocab, width)).astype(dtype)
    return hidden, unembed, jax.random.randint(keys[2], rows, 0, vocab)


@pytest.mark.heavy
@pytest.mark.parametrize(
    ("layout", "options", "scale"),
    [("VD", CASES[0], 3.0), ("DV", CASES[1], 3.0), ("VD", CASES[2], 0.05)],
)
def test_values_against_float64(layout, options, scale):
    hidden, unembed, tokens = problem(scale=scale)
    logits = np.asarray(hidden, np.float64) @ np.asarray(unembed, np.float64).T
    found = scoring.token_stats_from_hidden(
        hidden,
        unembed if layout == "VD" else unembed.T,
        tokens,
        layout=layout,
        stats=exact.STATS,
        **options,
    )
    for name, wanted in exact.token_stats(logits, tokens, **options).items():
        # Beside the sums, the product itself rounds: a few float32 ulps of the largest logit.
        atol = 1e-5 + 4e-7 * np.abs(logits).max()
        np.testing.assert_allclose(getattr(found, name), wanted, atol=atol, rtol=1e-6)


@pytest.mark.heavy
@pytest.mark.parametrize(("layout", "options"), [("DV", CASES[1]), ("VD", CASES[2])])
def test_gradients_against_autodiff_of_the_reference(layout, options):
    hidden, unembed, tokens = problem(scale=0.3)
    tokens = tokens.at[0, 0].set(-1).at[0, 1].set(4999)
    unembed = unembed if layout == "VD" else unembed.T

    def loss(hidden, unembed, implementation):
        found = scoring.token_stats_from_hidden(
            hidden,
            unembed,
            tokens,
            layout=layout,
            stats=exact.STATS,
            implementation=implementation,
            **options,
        )
        values = jnp.stack([jnp.where(jnp.isfinite(x), x, 0.0) for x in found if x is not None])
        return (jnp.cos(jnp.arange(values.size)).reshape(values.shape) * values).sum()

    gradient = jax.jit(jax.grad(loss, (0, 1)), static_argnums=2)
    found, wanted = (gradient(hidden, unembed, which) for which in ("auto", "reference"))
    for a, b in zip(found, wanted, strict=True):
        np.testing.assert_allclose(a, b, atol=3e-6 * float(jnp.abs(b).max()))


@pytest.mark.heavy
@pytest.mark.parametrize("sharded", [False, True])
def test_ignored_rows_are_left_out_and_put_back(sharded):
    """Of several blocks of rows; over two devices with unequal shares; NaN in them stays there."""
    hidden, unembed, tokens = problem(rows=(2, 300), vocab=200)
    ignored = jax.random.bernoulli(jax.random.key(1), jnp.array([[0.3], [0.9]]), (2, 300))
    tokens = jnp.where(ignored, -1, tokens)
    sick = jnp.where(ignored[..., None], jnp.nan, hidden)

    def logprob(hidden, unembed, tokens, which):
        return scoring.token_stats_from_hidden(
            hidden, unembed, tokens, implementation=which
        ).logprob

    def loss(hidden, unembed, which):
        function = functools.partial(logprob, which=which)
        if sharded and which == "auto":
            mesh = jax.make_mesh(
                (2,), ("d",), axis_types=(AxisType.Auto,), devices=jax.devices()[:2]
            )
            specs = P("d"), P(), P("d")
            function = jax.shard_map(function, mesh=mesh, in_specs=specs, out_specs=P("d"))
        found = function(hidden, unembed, tokens)
        return (jnp.cos(jnp.arange(600.0)).reshape(2, 300) * found).sum(), found

    gradient = jax.jit(jax.value_and_grad(loss, (0, 1), has_aux=True), static_argnums=2)
    (_, found), grads = gradient(sick, unembed, "auto")
    (_, wanted), wanted_grads = gradient(hidden, unembed, "reference")
    np.testing.assert_allclose(found, wanted, atol=1e-5)
    for a, b in zip(grads, wanted_grads, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5 * float(jnp.abs(b).max()))


@pytest.mark.heavy
def test_bfloat16_gradients_keep_their_dtype_and_size():
    hidden, unembed, tokens = problem(rows=(64,), dtype=jnp.bfloat16)

    def loss(hidden, unembed):
        return scoring.token_stats_from_hidden(hidden, unembed, tokens).logprob.sum()

    def naive(hidden, unembed):
        logits = (hidden @ unembed.T).astype(jnp.float32)
        return jnp.take_along_axis(jax.nn.log_softmax(logits), tokens[:, None], 1).sum()

    exact_grads = jax.grad(naive, (0, 1))(hidden.astype(jnp.float32), unembed.astype(jnp.float32))
    found = jax.grad(loss, (0, 1))(hidden, unembed)
    low = jax.grad(naive, (0, 1))(hidden, unembed)
    for ours, theirs, wanted in zip(found, low, exact_grads, strict=True):
        assert ours.dtype == jnp.bfloat16
        error = jnp.abs(ours.astype(jnp.float32) - wanted).mean()
        assert error <= jnp.abs(theirs.astype(jnp.float32) - wanted).mean() + 1e-5


@pytest.mark.heavy
def test_frozen_unembedding_and_vmap():
    hidden, unembed, tokens = problem()

    def loss(hidden, tokens):
        return scoring.token_stats_from_hidden(hidden, unembed, tokens).logprob.sum()

    whole = jax.grad(loss)(hidden, tokens)
    mapped = jax.vmap(jax.grad(loss))(hidden, tokens)
    np.testing.assert_allclose(mapped, whole, atol=1e-5)


@pytest.mark.heavy
def test_memory_is_a_block_of_logits():
    rows, width, vocab = 512, 64, 49152
    hidden = jax.ShapeDtypeStruct((rows, width), jnp.float32)
    unembed = jax.ShapeDtypeStruct((vocab, width), jnp.float32)
    tokens = jax.ShapeDtypeStruct((rows,), jnp.int32)

    def loss(hidden, unembed, tokens):
        return scoring.token_stats_from_hidden(hidden, unembed, tokens).logprob.sum()

    for function in (loss, jax.grad(loss, (0, 1))):
        memory = jax.jit(function).lower(hidden, unembed, tokens).compile().memory_analysis()
        assert memory.temp_size_in_bytes < 0.3 * rows * vocab * 4


def test_bad_arrays():
    hidden, unembed, tokens = problem()
    with pytest.raises(ValueError, match=r'unembed .* with layout "DV" does not fit'):
        scoring.token_stats_from_hidden(hidden, unembed, tokens, layout="DV")
    with pytest.raises(ValueError, match='layout must be "VD" or "DV"'):
        scoring.token_stats_from_hidden(hidden, unembed, tokens, layout="TV")
    with pytest.raises(ValueError, match="must have the shape of hidden"):
        scoring.token_stats_from_hidden(hidden, unembed, tokens[0])
