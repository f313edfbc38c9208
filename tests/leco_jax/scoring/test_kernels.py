"""The kernels' values in interpret mode: Pallas TPU with a simulated VMEM, Pallas Triton.

That they compile for real chips is test_tpu_compile.py's part; interpret mode would not notice.
"""

import contextlib
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export
from jax.experimental.pallas import tpu as pltpu
from jax.sharding import AbstractMesh, AxisType

from leco_jax import scoring
from leco_jax.scoring import block_sizes, pallas_gpu, pallas_tpu, partials
from leco_jax.scoring.block_sizes import Blocks
from leco_jax.scoring.types import Options
from tests.leco_jax.scoring import exact

SUMMED = ("logprob", "entropy", "self_certainty", "max_logprob")
CASES = [
    {},
    {"soft_cap": 20.0, "temperature": 0.7, "valid_vocab": 650},
    {"temperature": 1e-3, "valid_vocab": 512},
]


@pytest.fixture
def interpreted(monkeypatch):
    """(implementation) -> a context; small tiles, so that small shapes have several each way."""
    monkeypatch.setattr(block_sizes, "LOGITS", {"other": Blocks(128, 256)})
    monkeypatch.setattr(block_sizes, "HIDDEN", {"other": Blocks(128, 256, 128)})
    monkeypatch.setattr(pallas_gpu, "LANES", 64)
    triton = functools.partial(pallas_gpu.sums_from_logits, interpret=True)
    monkeypatch.setattr(pallas_gpu, "sums_from_logits", triton)

    def context(implementation):
        if implementation == "pallas_tpu":
            return pltpu.force_tpu_interpret_mode()
        return contextlib.nullcontext()

    return context


def problem(rows, vocab, std, dtype):
    keys = jax.random.split(jax.random.key(rows), 2)
    logits = (std * jax.random.normal(keys[0], (rows, vocab))).astype(dtype)
    logits = logits.at[0, 3:].set(-jnp.inf).at[1].set(-jnp.inf).at[2, 300:].set(logits[2, 299])
    return logits, jax.random.randint(keys[1], (rows,), -2, vocab)


@pytest.mark.parametrize(
    ("implementation", "rows", "std", "dtype"),
    [
        ("pallas_tpu", 130, 0.2, jnp.float32),
        ("pallas_tpu", 12, 30.0, jnp.bfloat16),
        ("pallas_gpu", 6, 0.2, jnp.bfloat16),
        ("pallas_gpu", 5, 30.0, jnp.float32),
    ],
)
@pytest.mark.parametrize("options", CASES)
def test_from_logits(interpreted, implementation, rows, std, dtype, options):
    logits, tokens = problem(rows, 701, std, dtype)
    with interpreted(implementation):
        found = scoring.token_stats(
            logits, tokens, stats=SUMMED, implementation=implementation, **options
        )
    wanted = exact.token_stats(logits, np.asarray(tokens), **options)
    for name in SUMMED:
        np.testing.assert_allclose(
            getattr(found, name), wanted[name], atol=1e-5, rtol=2e-7, err_msg=name
        )


@pytest.mark.parametrize("kernel", ["pallas_tpu", "pallas_gpu"])
@pytest.mark.parametrize("valid", [0, 256, 600, 704])
def test_a_count_that_only_the_device_knows(interpreted, kernel, valid):
    logits, tokens = problem(9, 704, 3.0, jnp.float32)
    options = Options(stats=SUMMED)
    module = {"pallas_tpu": pallas_tpu, "pallas_gpu": pallas_gpu}[kernel]
    compute = jax.jit(lambda x, n: module.sums_from_logits(x, n, options))
    with interpreted(kernel):
        sums = compute(logits, jnp.int32(valid))
    if valid == 0:  # a shard of padding alone must vanish beside any other
        assert (sums.mass == 0).all()
        assert (sums.peak == partials.LOWEST).all()
        return
    target = logits[jnp.arange(9), jnp.clip(tokens, 0)]
    found = partials.finish(sums, target, tokens, options, valid)
    wanted = exact.token_stats(logits, np.asarray(tokens), valid_vocab=valid)
    for name in SUMMED:
        np.testing.assert_allclose(getattr(found, name), wanted[name], atol=1e-5, rtol=2e-7)


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

    with interpreted("pallas_tpu"):
        found = stats(hidden, unembed, "pallas_tpu")
    logits = np.asarray(hidden, np.float64) @ np.asarray(unembed, np.float64).T
    for name, wanted in exact.token_stats(logits, np.asarray(tokens), **options).items():
        if name in SUMMED:
            np.testing.assert_allclose(getattr(found, name), wanted, atol=2e-5)


@pytest.mark.parametrize("kernel", ["pallas_tpu", "pallas_gpu"])
def test_gradient_vmap_and_top_k_around_the_kernel(interpreted, kernel):
    logits, tokens = problem(14, 703, 3.0, jnp.float32)
    logits, tokens = logits.reshape(2, 7, 703), jnp.maximum(tokens, 0).reshape(2, 7)

    def loss(logits, implementation):
        found = jax.vmap(
            lambda x, y: scoring.token_stats(
                x, y, stats=exact.STATS, topk=5, implementation=implementation
            )
        )(logits, tokens)
        return sum(jnp.where(jnp.isfinite(x), x, 0.0).sum() for x in found)

    with interpreted(kernel):
        found = jax.value_and_grad(loss)(logits, kernel)
    wanted = jax.value_and_grad(loss)(logits, "xla")
    np.testing.assert_allclose(found[0], wanted[0], rtol=1e-5)
    np.testing.assert_allclose(found[1], wanted[1], atol=1e-5)


# From jax 0.11 on; Pallas' Mosaic GPU backend, its successor, does not run below Hopper.
@pytest.mark.filterwarnings("ignore:The Pallas Triton backend is deprecated:DeprecationWarning")
@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float32])
@pytest.mark.parametrize("shape", [(8192, 128256), (16, 32001)])
def test_triton_kernel_lowers_for_cuda(shape, dtype):
    """As far as one comes without a GPU: the kernel has not been run on one."""
    device = jax.sharding.AbstractDevice("NVIDIA H200", None, "cuda")
    on = AbstractMesh((1,), ("x",), axis_types=(AxisType.Auto,), abstract_device=device)
    call = functools.partial(
        scoring.token_stats, stats=SUMMED, soft_cap=30.0, implementation="pallas_gpu"
    )
    with jax.sharding.use_abstract_mesh(on):
        exported = export.export(
            jax.jit(call),
            platforms=["cuda"],
            disabled_checks=[export.DisabledSafetyCheck.custom_call("__gpu$xla.gpu.triton")],
        )(jax.ShapeDtypeStruct(shape, dtype), jax.ShapeDtypeStruct(shape[:1], jnp.int32))
    assert "__gpu$xla.gpu.triton" in exported.mlir_module()
