"""The forward pass: one function for scanned and unrolled, padded and packed, plain and remat."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from leco_jax.models import transformer
from leco_jax.models.architectures import preset
from leco_jax.models.attention import attention_mask, causal_attend, dot_product_attention
from leco_jax.models.weights import stack_layers, unstack_layers

CONFIG = preset("tiny", vocab_size=64, width=32, mlp_width=48, head_width=8)
# Every optional part at once.
FULL = CONFIG.replace(
    qkv_bias=True, o_bias=True, tied=False, norm_plus_one=True, scale_embedding=True,
    activation="gelu_tanh", sliding_window=5, logit_soft_cap=3.0, qk_norm="head", norms="both",
    global_every=2, no_rope_every=2, local_rope_theta=50.0, attention_soft_cap=2.0, score_width=12,
)  # fmt: skip


@pytest.fixture(scope="module", params=[CONFIG, FULL], ids=["tiny", "full"])
def model(request, random_params):
    return request.param, random_params(request.param)


def tokens_of(length, seed=2, batch=1):
    return jnp.asarray(np.random.default_rng(seed).integers(0, 64, (batch, length)))


@pytest.mark.heavy
def test_scanned_and_unrolled_are_equal(model, run):
    config, params = model
    tokens = tokens_of(9, batch=3)
    scanned = run(params, config, tokens)
    assert scanned.shape == (3, 9, 64)
    assert scanned.dtype == jnp.float32
    np.testing.assert_allclose(scanned, run(unstack_layers(params), config, tokens), atol=1e-5)


def test_unstack_and_stack_are_inverse(model):
    _, params = model
    listed = unstack_layers(params)
    assert len(listed["layers"]) == 2
    assert unstack_layers(listed) is listed
    back = stack_layers(listed)
    assert stack_layers(back) is back
    jax.tree.map(np.testing.assert_array_equal, back, params)


@pytest.mark.heavy
def test_later_tokens_change_nothing_before_them(model, run):
    config, params = model
    tokens = tokens_of(10)
    changed = tokens.at[0, 6].add(1) % 64
    a, b = run(params, config, tokens), run(params, config, changed)
    np.testing.assert_array_equal(a[:, :6], b[:, :6])
    assert jnp.abs(a[:, 6:] - b[:, 6:]).max() > 1e-3


@pytest.mark.heavy
def test_plain_padded_and_packed_rows_agree(model, run):
    config, params = model
    first, second = tokens_of(7, seed=3), tokens_of(5, seed=4)
    want = [run(params, config, first), run(params, config, second)]

    # One row: padding left, first document, second document, padding right.
    row = jnp.concatenate([jnp.full((1, 2), 63), first, second, jnp.zeros((1, 2), int)], axis=1)
    segments = jnp.array([[0] * 2 + [1] * 7 + [2] * 5 + [0] * 2])
    positions = jnp.array([[0] * 2 + [*range(7)] + [*range(5)] + [0] * 2])
    got = run(params, config, row, segment_ids=segments, positions=positions)
    np.testing.assert_allclose(got[:, 2:9], want[0], atol=2e-5)
    np.testing.assert_allclose(got[:, 9:14], want[1], atol=2e-5)
    assert jnp.isfinite(got).all()


def test_shifted_positions_change_nothing(model, run):
    config, params = model
    tokens = tokens_of(8)
    moved = jnp.arange(8)[None] + 100
    np.testing.assert_allclose(
        run(params, config, tokens), run(params, config, tokens, positions=moved), atol=1e-4
    )


def gradients(params, remat):
    tokens, positions = tokens_of(6), jnp.arange(6)[None]

    def loss(params):
        hidden, _ = transformer.forward(
            params, tokens, positions, config=FULL, attend=causal_attend(positions, FULL),
            remat=remat,
        )  # fmt: skip
        return jnp.square(hidden).sum()

    return jax.jit(jax.grad(loss))(params)


@pytest.fixture(scope="module")
def full_params(random_params):
    return random_params(FULL)


@pytest.fixture(scope="module")
def plain_gradients(full_params):
    return gradients(full_params, "none")


@pytest.mark.heavy
@pytest.mark.parametrize(
    ("remat", "form"),
    [
        ("full", "scanned"),
        pytest.param("dots", "scanned", marks=pytest.mark.slow),  # keeps more than the next
        ("dots_no_batch", "scanned"),
        ("full", "unrolled"),
    ],
)
def test_remat_changes_no_gradient(remat, form, full_params, plain_gradients):
    params = unstack_layers(full_params) if form == "unrolled" else full_params
    got = stack_layers(gradients(params, remat))
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4), got, plain_gradients
    )


def test_every_remat_policy_is_tested():
    assert set(transformer.REMAT) == {"none", "full", "dots", "dots_no_batch"}


@pytest.mark.heavy
def test_full_remat_saves_less_than_none(random_params):
    params = random_params(CONFIG)
    tokens, positions = tokens_of(64, batch=4), jnp.broadcast_to(jnp.arange(64), (4, 64))

    def residuals(remat):
        def loss(params):
            hidden, _ = transformer.forward(
                params, tokens, positions, config=CONFIG,
                attend=causal_attend(positions, CONFIG), remat=remat,
            )  # fmt: skip
            return hidden.sum()

        compiled = jax.jit(jax.grad(loss)).lower(params).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    assert residuals("full") < 0.7 * residuals("none")


def test_unknown_remat_is_refused(random_params):
    params = random_params(CONFIG)
    with pytest.raises(ValueError, match="'half' is not one of none, full, dots"):
        transformer.forward(
            params, tokens_of(2), jnp.arange(2)[None], config=CONFIG, attend=None, remat="half"
        )


@pytest.mark.heavy
@pytest.mark.parametrize("form", ["scanned", "unrolled"])
def test_layer_state_reaches_its_own_layer(form, run, random_params):
    """A key/value store as state, filled in one call, gives the next token's logits."""
    params = random_params(CONFIG)
    tokens = tokens_of(9)
    want = run(params, CONFIG, tokens)
    shape = (CONFIG.num_layers, 1, 9, CONFIG.num_kv_heads, CONFIG.head_width)
    state = (jnp.zeros(shape), jnp.zeros(shape))
    if form == "unrolled":
        params = unstack_layers(params)
        state = [(state[0][i], state[1][i]) for i in range(CONFIG.num_layers)]

    def attend_from(start, positions):
        def attend(q, k, v, state):
            keys = jax.lax.dynamic_update_slice_in_dim(state[0], k, start, axis=1)
            values = jax.lax.dynamic_update_slice_in_dim(state[1], v, start, axis=1)
            mask = attention_mask(positions, jnp.arange(9)[None])
            return dot_product_attention(q, keys, values, mask), (keys, values)

        return attend

    @jax.jit
    def step(params, tokens, start, state):
        positions = start + jnp.arange(tokens.shape[1])[None]
        hidden, state = transformer.forward(
            params, tokens, positions, config=CONFIG,
            attend=attend_from(start, positions), layer_state=state,
        )  # fmt: skip
        return transformer.logits(params, hidden, config=CONFIG), state

    outputs = []
    for start in (0, 3, 6):
        out, state = step(params, tokens[:, start : start + 3], start, state)
        outputs.append(out)
    assert isinstance(state, list) == (form == "unrolled")
    np.testing.assert_allclose(jnp.concatenate(outputs, axis=1), want, atol=2e-5)


def test_soft_cap_bounds_logits_and_project_does_not(model):
    config, params = model
    hidden = jnp.asarray(
        50 * np.random.default_rng(0).standard_normal((2, config.width)), "float32"
    )
    raw = jax.jit(transformer.project)(params, hidden)
    assert jnp.abs(raw).max() > 3
    got = jax.jit(transformer.logits, static_argnames="config")(params, hidden, config=config)
    if config.logit_soft_cap is None:
        np.testing.assert_array_equal(got, raw)
    else:
        np.testing.assert_allclose(got, 3 * np.tanh(np.asarray(raw) / 3), rtol=1e-5)


def test_tied_models_unembed_with_the_embedding(random_params):
    params = random_params(CONFIG)
    assert transformer.unembedding(params) is params["embed"]
    untied = random_params(CONFIG.replace(tied=False))
    assert transformer.unembedding(untied) is untied["unembed"]


@pytest.mark.heavy
def test_compute_dtype_and_parameter_dtype_are_separate(run, random_params):
    params = random_params(CONFIG)
    tokens = tokens_of(12)
    want = run(params, CONFIG, tokens)
    half = CONFIG.replace(dtype="bfloat16")
    positions = jnp.arange(12)[None]
    hidden, _ = jax.eval_shape(
        lambda: transformer.forward(
            params, tokens, positions, config=half, attend=causal_attend(positions, half)
        )
    )
    assert hidden.dtype == jnp.bfloat16
    got = run(params, half, tokens)
    assert got.dtype == jnp.float32
    assert 1e-4 < jnp.abs(got - want).max() < 0.15

    stored = random_params(CONFIG.replace(param_dtype="bfloat16"))
    assert {x.dtype.name for x in jax.tree.leaves(stored)} == {"bfloat16"}
    assert jnp.abs(run(stored, CONFIG, tokens) - want).max() < 0.15
