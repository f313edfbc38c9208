"""The TPU kernels' values in interpret mode, with a simulated VMEM.

That they compile for real chips is test_tpu_compile.py's part; interpret mode would not notice.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental.pallas import tpu as pltpu

from leco_jax import scoring
from leco_jax.scoring import logits_pallas_tpu, pallas_tiles, partials
from leco_jax.scoring.pallas_tiles import Blocks
from leco_jax.scoring.types import Asked, Options
from tests.leco_jax.scoring import exact

SUMMED = ("logprob", "entropy", "self_certainty", "max_logprob", "logsumexp")
CASES = [
    {},
    {"soft_cap": 20.0, "temperature": 0.7, "valid_vocab": 650},
    {"temperature": 1e-3, "valid_vocab": 512},
]


@pytest.fixture
def interpreted(monkeypatch):
    """Interpret mode; small tiles, so that small shapes have several each way."""
    monkeypatch.setattr(pallas_tiles, "LOGITS", {"other": Blocks(128, 256)})
    monkeypatch.setattr(pallas_tiles, "HIDDEN", {"other": Blocks(128, 256, 128)})
    return pltpu.force_tpu_interpret_mode


def problem(rows, vocab, std, dtype):
    keys = jax.random.split(jax.random.key(rows), 2)
    logits = (std * jax.random.normal(keys[0], (rows, vocab))).astype(dtype)
    logits = logits.at[0, 3:].set(-jnp.inf).at[1].set(-jnp.inf).at[2, 300:].set(logits[2, 299])
    return logits, jax.random.randint(keys[1], (rows,), -2, vocab)


@pytest.mark.heavy
@pytest.mark.parametrize(
    ("rows", "std", "dtype", "options"),
    [
        (130, 0.2, jnp.float32, CASES[0]),
        (130, 0.2, jnp.float32, CASES[1]),
        (12, 30.0, jnp.bfloat16, CASES[2]),
    ],
)
def test_from_logits(interpreted, rows, std, dtype, options):
    logits, tokens = problem(rows, 701, std, dtype)
    with interpreted():
        found = scoring.token_stats(
            logits, tokens, stats=SUMMED, implementation="pallas_tpu", **options
        )
    wanted = exact.token_stats(logits, np.asarray(tokens), **options)
    for name in SUMMED:
        np.testing.assert_allclose(
            getattr(found, name), wanted[name], atol=1e-5, rtol=2e-7, err_msg=name
        )


@pytest.mark.heavy
@pytest.mark.parametrize("valid", [0, 256, 600])
def test_a_count_that_only_the_device_knows(interpreted, valid):
    logits, tokens = problem(9, 704, 3.0, jnp.float32)
    options = Options(stats=SUMMED)
    compute = jax.jit(lambda x, n: logits_pallas_tpu.sums_from_logits(x, None, n, options))
    with interpreted():
        sums = compute(logits, jnp.int32(valid))
    if valid == 0:  # a shard of padding alone must vanish beside any other
        assert (sums.mass == 0).all()
        assert (sums.peak == partials.LOWEST).all()
        return
    target = logits[jnp.arange(9), jnp.clip(tokens, 0)][:, None]
    found = partials.finish(sums, target, Asked(tokens[:, None]), options, valid)
    found = found._replace(logprob=found.logprob[:, 0])
    wanted = exact.token_stats(logits, np.asarray(tokens), valid_vocab=valid)
    for name in SUMMED:
        np.testing.assert_allclose(getattr(found, name), wanted[name], atol=1e-5, rtol=2e-7)


@pytest.mark.heavy
@pytest.mark.parametrize(
    ("layout", "options"),
    [("VD", {}), ("DV", {"soft_cap": 6.0, "temperature": 0.7, "valid_vocab": 650})],
)
def test_from_hidden(interpreted, layout, options):
    keys = jax.random.split(jax.random.key(4), 3)
    hidden = 0.2 * jax.random.normal(keys[0], (2, 70, 384))
    unembed = jax.random.normal(keys[1], (702, 384))
    tokens = jax.random.randint(keys[2], (2, 70), -1, 702)

    def stats(hidden, unembed, implementation):
        return scoring.token_stats_from_hidden(
            hidden,
            unembed if layout == "VD" else unembed.T,
            tokens,
            layout=layout,
            stats=SUMMED,
            implementation=implementation,
            **options,
        )

    with interpreted():
        found = stats(hidden, unembed, "pallas_tpu")
    logits = np.asarray(hidden, np.float64) @ np.asarray(unembed, np.float64).T
    for name, wanted in exact.token_stats(logits, np.asarray(tokens), **options).items():
        if name in SUMMED:
            np.testing.assert_allclose(getattr(found, name), wanted, atol=2e-5)


@pytest.mark.heavy
def test_rows_that_are_masked_out_are_not_computed(interpreted, monkeypatch):
    """Of three blocks of rows, those with the 130 wanted ones; under vmap all rows at once."""
    keys = jax.random.split(jax.random.key(5), 3)
    hidden = 0.2 * jax.random.normal(keys[0], (2, 192, 128))
    unembed = jax.random.normal(keys[1], (300, 128))
    tokens = jax.random.randint(keys[2], (2, 192), 0, 300)
    mask = jnp.zeros((2, 192), bool).at[0, ::2].set(True).at[1, :34].set(True)

    def stats(hidden, tokens, mask, **options):
        return scoring.token_stats_from_hidden(
            hidden, unembed, tokens, mask=mask, stats=SUMMED, **options
        )

    with interpreted():
        found = jax.vmap(lambda *x: stats(*x, implementation="pallas_tpu"))(hidden, tokens, mask)
    for a, b in zip(found, stats(hidden, tokens, mask), strict=True):
        if a is not None:
            np.testing.assert_allclose(a, b, atol=2e-5)


@pytest.mark.heavy
@pytest.mark.parametrize(
    ("direction", "layout", "rows", "options"),
    [
        ("forward", "VD", (2, 70), {}),
        ("reverse", "DV", (140,), {"soft_cap": 6.0, "temperature": 0.7, "valid_vocab": 650}),
        pytest.param(
            "jsd",
            "VD",
            (3,),
            {"teacher_temperature": 1.3, "valid_vocab": 512},
            marks=pytest.mark.slow,
        ),
    ],
)
def test_divergence_from_hidden(interpreted, direction, layout, rows, options):
    """Widths that blocks divide, and one that they do not; a row of NaN, and half not wanted."""
    keys = jax.random.split(jax.random.key(6), 4)
    hidden = 0.2 * jax.random.normal(keys[0], (*rows, 384))
    teacher = jax.random.normal(keys[1], (*rows, 72))
    unembed = [jax.random.normal(keys[2], (702, 384)), 0.3 * jax.random.normal(keys[3], (702, 72))]
    mask = jnp.arange(rows[-1]) % 2 == 0 if rows[-1] > 100 else jnp.ones(rows[-1], bool)
    hidden = hidden.at[..., -1, :].set(jnp.nan)

    def divergence(hidden, teacher, implementation):
        student_unembed, teacher_unembed = (x.T if layout == "DV" else x for x in unembed)
        return scoring.kl_from_hidden(
            hidden,
            student_unembed,
            teacher,
            teacher_unembed,
            layout=layout,
            direction=direction,
            mask=jnp.broadcast_to(mask, rows),
            implementation=implementation,
            **options,
        )

    with interpreted():
        found = divergence(hidden, teacher, "pallas_tpu")
    np.testing.assert_allclose(found, divergence(hidden, teacher, "xla"), atol=2e-5)
    logits = [
        np.asarray(h, np.float64) @ np.asarray(w, np.float64).T
        for h, w in zip((hidden, teacher), unembed, strict=True)
    ]
    wanted = exact.divergence(*logits, direction=direction, **options)
    np.testing.assert_allclose(found, np.where(mask, wanted, 0.0), atol=1e-5)


@pytest.mark.heavy
@pytest.mark.parametrize(
    ("what", "layout", "width", "vocab"),
    [
        ("logprob", "VD", 72, 256),
        pytest.param("logprob", "DV", 256, 301, marks=pytest.mark.slow),
        pytest.param("KL", "VD", 72, 256, marks=pytest.mark.slow),
    ],
)
def test_gradients_of_an_unembedding_that_is_turned(
    interpreted, monkeypatch, what, layout, width, vocab
):
    """Its last axis does not fill whole lanes: on TPU it is read the other way round."""
    turned = []

    def lowered_for_tpu(*arrays, default, tpu=None, **_):
        turned.append(tpu is not None)
        return (tpu or default)(*arrays)

    monkeypatch.setattr(jax.lax, "platform_dependent", lowered_for_tpu)
    keys = jax.random.split(jax.random.key(8), 3)
    hidden, teacher = jax.random.normal(keys[0], (2, 9, width)).at[0, 0].set(jnp.nan)
    unembed, teacher_unembed = 0.2 * jax.random.normal(keys[1], (2, vocab, width))
    if layout == "DV":
        unembed, teacher_unembed = unembed.T, teacher_unembed.T
    tokens = jax.random.randint(keys[2], (9,), 0, vocab - 2)
    mask = jnp.arange(9) % 3 > 0
    weights = jnp.cos(jnp.arange(9.0)) * mask

    def ours(*arrays):
        options = {"layout": layout, "mask": mask, "valid_vocab": vocab - 2}
        options["implementation"] = "pallas_tpu"
        if what == "KL":
            value = scoring.kl_from_hidden(*arrays, teacher_gradient=True, **options)
        else:
            value = scoring.token_stats_from_hidden(*arrays[:2], tokens, **options).logprob
        return (weights * value).sum()

    def plain(*arrays):
        heads = zip(arrays[::2], arrays[1::2], strict=True)
        logits = [jnp.where(mask[:, None], h, 0) @ (w.T if layout == "VD" else w) for h, w in heads]
        u, t = jax.nn.log_softmax(jnp.stack(logits)[..., : vocab - 2])
        value = jnp.take_along_axis(u, tokens[:, None], -1)[:, 0]
        return (weights * ((jnp.exp(t) * (t - u)).sum(-1) if what == "KL" else value)).sum()

    arrays = hidden, unembed, teacher, teacher_unembed
    wanted = jax.grad(plain, range(4))(*arrays)
    with interpreted():
        found = jax.grad(ours, range(4))(*arrays)
    assert turned
    for a, b in zip(found, wanted, strict=True):
        np.testing.assert_allclose(a, b, atol=3e-6 * float(jnp.abs(b).max()))


@pytest.mark.heavy
def test_gradient_vmap_and_top_k_around_the_kernel(interpreted):
    logits, tokens = problem(14, 703, 3.0, jnp.float32)
    logits, tokens = logits.reshape(2, 7, 703), jnp.maximum(tokens, 0).reshape(2, 7)

    def loss(logits, implementation):
        found = jax.vmap(
            lambda x, y: scoring.token_stats(
                x, y, stats=exact.STATS, topk=5, implementation=implementation
            )
        )(logits, tokens)
        return sum(jnp.where(jnp.isfinite(x), x, 0.0).sum() for x in found if x is not None)

    with interpreted():
        found = jax.value_and_grad(loss)(logits, "pallas_tpu")
    wanted = jax.value_and_grad(loss)(logits, "xla")
    np.testing.assert_allclose(found[0], wanted[0], rtol=1e-5)
    np.testing.assert_allclose(found[1], wanted[1], atol=1e-5)
