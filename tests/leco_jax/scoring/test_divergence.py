"""Divergences between two models against float64, with their gradients, over shards and stored."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType

from leco_jax import scoring
from tests.leco_jax.scoring import exact

P = jax.P
DIRECTIONS = ("forward", "reverse", "jsd")
DISTRIBUTIONS = {
    "temperature": 0.7,
    "teacher_temperature": 1.3,
    "soft_cap": 9.0,
    "valid_vocab": 2300,
}
OPTIONS = {**DISTRIBUTIONS, "teacher_gradient": True}


@functools.cache
def problem():
    """Two models of 2304 ids with widths of their own; one of six rows is not asked for."""
    keys = jax.random.split(jax.random.key(8), 5)
    hidden, unembed = jax.random.normal(keys[0], (2, 3, 8)), jax.random.normal(keys[1], (2304, 8))
    teacher = jax.random.normal(keys[2], (2, 3, 12)), jax.random.normal(keys[3], (2304, 12))
    return hidden, unembed, *teacher, jnp.ones((2, 3), bool).at[1, 0].set(False)


@functools.cache
def expected(direction):
    """Values in float64, gradients by JAX of the definition."""
    *arrays, mask = problem()
    wide = [np.asarray(x, np.float64) for x in arrays]
    plain = functools.partial(exact.divergence, direction=direction, **DISTRIBUTIONS)
    value = plain(wide[0] @ wide[1].T, wide[2] @ wide[3].T)

    def loss(hidden, unembed, teacher_hidden, teacher_unembed):
        value = plain(hidden @ unembed.T, teacher_hidden @ teacher_unembed.T, xp=jnp)
        return (jnp.where(mask, value, 0.0) * jnp.arange(1.0, 7.0).reshape(2, 3)).sum()

    with jax.enable_x64(True):
        grads = jax.grad(loss, (0, 1, 2, 3))(*(jnp.asarray(x) for x in wide))
    return np.where(mask, value, 0.0), [np.asarray(x) for x in grads]


def from_hidden(direction, **options):
    def function(hidden, unembed, teacher_hidden, teacher_unembed, mask):
        arrays = hidden, unembed, teacher_hidden, teacher_unembed
        return scoring.kl_from_hidden(
            *arrays, direction=direction, mask=mask, **{**OPTIONS, **options}
        )

    return function


def from_logits(direction, **options):
    def function(hidden, unembed, teacher_hidden, teacher_unembed, mask):
        logits = hidden @ unembed.T, teacher_hidden @ teacher_unembed.T
        return scoring.kl(*logits, direction=direction, mask=mask, **{**OPTIONS, **options})

    return function


def check(function, direction):
    def loss(*arrays):
        value = function(*arrays)
        return (value * jnp.arange(1.0, 7.0).reshape(2, 3)).sum(), value

    gradient = jax.jit(jax.value_and_grad(loss, (0, 1, 2, 3), has_aux=True))
    (_, value), grads = gradient(*problem())
    wanted, wanted_grads = expected(direction)
    np.testing.assert_allclose(value, wanted, atol=1e-5)
    for found, right in zip(grads, wanted_grads, strict=True):
        np.testing.assert_allclose(found, right, atol=1e-4 * np.abs(right).max())
    np.testing.assert_array_equal(grads[0][1, 0], 0.0)


@pytest.mark.heavy
@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("make", [from_logits, from_hidden])
def test_values_and_gradients_against_float64(make, direction):
    check(make(direction), direction)


@pytest.mark.heavy
@pytest.mark.parametrize(
    ("make", "direction", "check_vma"),
    [(from_hidden, "jsd", True), (from_logits, "forward", False)],
)
def test_over_shards_of_the_vocabulary(make, direction, check_vma):
    mesh = jax.make_mesh((4,), ("v",), axis_types=(AxisType.Auto,), devices=jax.devices()[:4])
    sharded = jax.shard_map(
        make(direction, axis_name="v"),
        mesh=mesh,
        in_specs=(P(), P("v"), P(), P("v"), P()),
        out_specs=P(),
        check_vma=check_vma,
    )
    check(sharded, direction)


@pytest.mark.heavy
@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit])
def test_spread_by_the_compiler(kind):
    mesh = jax.make_mesh((2, 4), ("fsdp", "tensor"), axis_types=(kind,) * 2)
    specs = P("fsdp"), P("tensor"), P("fsdp"), P("tensor", "fsdp"), P("fsdp")
    with jax.set_mesh(mesh):
        arrays = [jax.device_put(x, s) for x, s in zip(problem(), specs, strict=True)]
        value = jax.jit(from_hidden("reverse"))(*arrays)
    np.testing.assert_allclose(value, expected("reverse")[0], atol=1e-5)


@pytest.mark.heavy
def test_the_teacher_is_a_constant_unless_asked():
    logits = jax.random.normal(jax.random.key(0), (3, 50))
    teacher = logits[::-1]
    frozen = jax.grad(lambda x, t: scoring.kl(x, t).sum(), (0, 1))(logits, teacher)
    both = jax.grad(lambda x, t: scoring.kl(x, t, teacher_gradient=True).sum(), (0, 1))(
        logits, teacher
    )
    np.testing.assert_array_equal(frozen[1], 0.0)
    np.testing.assert_array_equal(frozen[0], both[0])
    assert jnp.abs(both[1]).max() > 0


@pytest.mark.heavy
def test_temperature_per_row_bias_and_the_other_layout():
    hidden, unembed, teacher_hidden, teacher_unembed, _ = problem()
    bias, temperature = jnp.cos(jnp.arange(2304.0)), jnp.array([[0.5, 1.0, 2.0]])
    found = scoring.kl_from_hidden(
        hidden,
        unembed.T,
        teacher_hidden,
        teacher_unembed,
        layout="DV",
        teacher_layout="VD",
        bias=bias,
        temperature=temperature,
    )
    student = (hidden @ unembed.T + bias) / temperature[..., None]
    wanted = scoring.kl(student, teacher_hidden @ teacher_unembed.T / temperature[..., None])
    np.testing.assert_allclose(found, wanted, atol=2e-5)


@pytest.mark.heavy
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_a_stored_top_k(direction):
    """A lower bound of the whole divergence, and the tighter the more is stored."""
    hidden, unembed, teacher_hidden, teacher_unembed, _ = problem()
    teacher_logits = 2.0 * teacher_hidden @ teacher_unembed.T
    whole = scoring.kl(hidden @ unembed.T, teacher_logits, direction=direction)
    logprobs, ids = jax.lax.top_k(jax.nn.log_softmax(teacher_logits), 40)
    found = [
        scoring.kl_from_hidden(
            hidden,
            unembed,
            teacher_ids=ids[..., :k].at[..., -1].set(-1),
            teacher_logprobs=logprobs[..., :k],
            direction=direction,
        )
        for k in (40, 5)
    ]
    assert (found[1] <= found[0] + 1e-5).all()
    assert (found[0] <= whole + 1e-5).all()
    if direction == "forward":
        p, u = jnp.exp(logprobs), jax.nn.log_softmax(hidden @ unembed.T)
        wanted = (p * (logprobs - jnp.take_along_axis(u, ids, -1)))[..., :4].sum(-1)
        rest = [
            1 - jnp.exp(x)[..., :4].sum(-1) for x in (logprobs, jnp.take_along_axis(u, ids, -1))
        ]
        np.testing.assert_allclose(
            found[1], wanted + rest[0] * jnp.log(rest[0] / rest[1]), atol=1e-5
        )
    gradient = jax.grad(
        lambda h: scoring.kl_from_hidden(
            h, unembed, teacher_ids=ids, teacher_logprobs=logprobs,
            direction=direction,
        ).sum()
    )(hidden)  # fmt: skip
    assert jnp.isfinite(gradient).all()


@pytest.mark.heavy
def test_what_has_no_divergence():
    logits = jnp.zeros((5, 200)).at[0].set(-jnp.inf).at[1, 3].set(jnp.nan).at[2, 4:].set(-jnp.inf)
    teacher = jnp.zeros((5, 200)).at[3, 4:].set(-jnp.inf)
    for direction, wanted in (("forward", [jnp.nan, jnp.nan, jnp.inf, np.log(50), 0]),
                              ("reverse", [jnp.nan, jnp.nan, np.log(50), jnp.inf, 0])):  # fmt: skip
        found = scoring.kl(logits, teacher, direction=direction)
        np.testing.assert_allclose(found, wanted, atol=1e-6)
    found = scoring.kl(logits, teacher, direction="jsd")[2:]
    assert jnp.isfinite(found).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "pass one teacher"),
        ({"teacher_logits": np.zeros((3, 10)), "direction": "back"}, "direction must be one of"),
        ({"teacher_logits": np.zeros((3, 11))}, r"teacher_logits \(3, 11\) must have the shape"),
        ({"teacher_ids": np.zeros((3, 2), int)}, "pass one teacher"),
        (
            {"teacher_ids": np.zeros((3, 2), int), "teacher_logprobs": np.zeros((3, 3))},
            "differ in shape",
        ),
        ({"teacher_logits": np.zeros((3, 10)), "mask": np.ones(3)}, "mask must be bool"),
    ],
)
def test_bad_input(options, message):
    with pytest.raises(ValueError, match=message):
        scoring.kl(jnp.zeros((3, 10)), **options)
    with pytest.raises(ValueError, match="the student has rows"):
        scoring.kl_from_hidden(*(jnp.ones(s) for s in ((3, 4), (10, 4), (3, 5), (11, 5))))
