"""Arrays sharded in every way over Auto and Explicit mesh axes: same values, same gradients."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType

from leco_jax import scoring
from tests.leco_jax.scoring import exact

P = jax.P
LAYOUTS = {  # of hidden states [B, T, D] and the unembedding [V, D]
    "replicated": (P(), P()),
    "V over tensor": (P(), P("tensor")),
    "V over tensor, D over fsdp": (P(), P("tensor", "fsdp")),
    "D over fsdp": (P(), P(None, "fsdp")),
    "sequence over fsdp": (P(None, "fsdp"), P("tensor")),
    "batch and D over fsdp": (P("fsdp"), P("tensor", "fsdp")),
}
OPTIONS = {"stats": ("logprob", "entropy", "topk_logprob"), "topk": 3, "valid_vocab": 250}


def problem():
    keys = jax.random.split(jax.random.key(0), 3)
    hidden = jax.random.normal(keys[0], (2, 16, 32))
    unembed = jax.random.normal(keys[1], (256, 32))
    return hidden, unembed, jax.random.randint(keys[2], (2, 16), 0, 250)


def placed(kind, layout):
    mesh = jax.make_mesh((2, 4), ("fsdp", "tensor"), axis_types=(kind,) * 2)
    specs = (*LAYOUTS[layout], P(*LAYOUTS[layout][0][:2]))
    arrays = problem()
    return mesh, [
        jax.device_put(x, jax.NamedSharding(mesh, s)) for x, s in zip(arrays, specs, strict=True)
    ]


def loss(hidden, unembed, tokens):
    found = scoring.token_stats_from_hidden(hidden, unembed, tokens, **OPTIONS)
    return sum((x * x).sum() for x in jax.tree.leaves(found)), found


def from_logits(logits, tokens):
    found = scoring.token_stats(logits, tokens, **OPTIONS)
    return sum((x * x).sum() for x in jax.tree.leaves(found)), found


@functools.cache
def expected():
    hidden, unembed, tokens = problem()
    logits = hidden @ unembed.T
    return (
        jax.jit(jax.value_and_grad(loss, (0, 1), has_aux=True))(hidden, unembed, tokens),
        jax.jit(jax.value_and_grad(from_logits, has_aux=True))(logits, tokens),
    )


def close(found, wanted):
    compare = functools.partial(np.testing.assert_allclose, atol=2e-4, rtol=2e-6)
    jax.tree.map(compare, found, wanted)


@pytest.mark.heavy
@pytest.mark.parametrize(
    ("kind", "layout"),
    [(AxisType.Explicit, layout) for layout in LAYOUTS]
    + [(AxisType.Auto, layout) for layout in ("V over tensor, D over fsdp", "sequence over fsdp")],
)
def test_hidden(kind, layout):
    mesh, (hidden, unembed, tokens) = placed(kind, layout)
    program = jax.jit(jax.value_and_grad(loss, (0, 1), has_aux=True))
    with jax.set_mesh(mesh):
        found = program(hidden, unembed, tokens)
    close(found, expected()[0])
    if kind == AxisType.Explicit:
        assert found[1][1].sharding.is_equivalent_to(unembed.sharding, 2)
        assert found[0][1].logprob.sharding.is_equivalent_to(tokens.sharding, 2)


@pytest.mark.heavy
@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit])
def test_logits_without_a_mesh_in_the_context(kind):
    mesh, _ = placed(kind, "replicated")
    spec = P(None, "fsdp", "tensor")
    hidden, unembed, tokens = problem()
    logits = jax.device_put(hidden @ unembed.T, jax.NamedSharding(mesh, spec))
    tokens = jax.device_put(tokens, jax.NamedSharding(mesh, P(*spec[:2])))
    found = jax.jit(jax.value_and_grad(from_logits, has_aux=True))(logits, tokens)
    close(found, expected()[1])
    close(scoring.token_stats(logits, tokens, **OPTIONS), expected()[1][0][1])  # outside jit


@pytest.mark.heavy
@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit])
def test_one_axis_manual(kind):
    """The vocabulary by hand, the rows by the compiler."""
    mesh, (hidden, unembed, tokens) = placed(kind, "sequence over fsdp")

    def summed(hidden, unembed, tokens):
        function = functools.partial(
            scoring.token_stats_from_hidden, stats=("logprob", "entropy"), axis_name="tensor"
        )
        found = jax.shard_map(
            lambda *xs: tuple(function(*xs)[:2]),
            in_specs=(P(), P("tensor"), P()),
            out_specs=P(),
            axis_names={"tensor"},
        )(hidden, unembed, tokens)
        return sum(x.sum() for x in found), found

    arrays = problem()
    wanted = exact.token_stats(arrays[0] @ arrays[1].T, np.asarray(arrays[2]))
    with jax.set_mesh(mesh):
        _, found = jax.jit(summed)(hidden, unembed, tokens)
        close(found, (wanted["logprob"], wanted["entropy"]))
        if kind == AxisType.Auto:  # jax 0.10 cannot pass residuals with Explicit axes
            grads = jax.jit(jax.grad(lambda *xs: summed(*xs)[0], (0, 1)))(hidden, unembed, tokens)
            assert all(jnp.isfinite(x).all() for x in grads)


@pytest.mark.heavy
@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit])
def test_steps(kind):
    mesh = jax.make_mesh((2, 4), ("fsdp", "tensor"), axis_types=(kind,) * 2)
    logprob = -jax.random.exponential(jax.random.key(0), (2, 64))
    ids = jnp.broadcast_to(jnp.arange(64) // 20, (2, 64))
    wanted = scoring.step_scores(logprob, ids, num_steps=2048)
    with jax.set_mesh(mesh):
        arrays = [jax.device_put(x, P("fsdp")) for x in (logprob, ids)]
        found = jax.jit(lambda x, i: scoring.step_scores(x, i, num_steps=2048))(*arrays)
        state = scoring.update(scoring.step_state((2,), num_steps=4), *arrays)
    close(found, wanted)
    close(scoring.scores(state), jax.tree.map(lambda x: x[:, :4], wanted))
