"""What the TPU compiler says of the real shapes: temporary memory, traffic, collectives, VMEM.

Values are checked elsewhere, in interpret mode; neither check replaces the other. That these tests
pass at all says that the kernels fit each chip's VMEM and that Mosaic lowers every operation.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental import topologies
from jax.sharding import AxisType

from leco_jax import scoring
from tests.leco_jax.scoring import tpu

pytestmark = [pytest.mark.tpu_compile]
pytest.importorskip("libtpu", reason="the TPU compiler comes with the extra `aot`")

P = jax.P
T, V, D = 8192, 128256, 4096
LOGITS = ((T, V), jnp.bfloat16)
TOKENS = ((T,), jnp.int32)
HIDDEN = ((T, D), jnp.bfloat16)
UNEMBED = ((V, D), jnp.bfloat16)
MB = 1e6
FULL = ("logprob", "entropy", "self_certainty")


def stats_of(**options):
    return functools.partial(scoring.token_stats, **options)


def loss_of(hidden, unembed, tokens):
    return scoring.token_stats_from_hidden(hidden, unembed, tokens).logprob.sum()


def test_the_measure_sees_what_it_should():
    """The idiom that keeps a float32 softmax is told apart from those that do not."""

    def idiom(logits, tokens):
        logp = jax.nn.log_softmax(logits.astype(jnp.float32))
        return jnp.take_along_axis(logp, tokens[:, None], -1)

    compiled = tpu.compile_for(tpu.mesh("v5e", 1), idiom, LOGITS, TOKENS)
    assert tpu.temporary_bytes(compiled) > 4 * T * V


OTHERS = [pytest.param(chip, marks=pytest.mark.slow) for chip in ("v4", "v5p", "v6e")]


@pytest.mark.parametrize("chip", ["v5e", *OTHERS])
def test_logits_kernel(chip):
    compiled = tpu.compile_for(tpu.mesh(chip, 1), stats_of(stats=FULL), LOGITS, TOKENS)
    assert tpu.runs_a_kernel(compiled)  # "auto" takes it
    assert tpu.temporary_bytes(compiled) < 1 * MB


@pytest.mark.parametrize(
    ("shape", "dtype", "options"),
    [
        ((3, 5, 32001), jnp.float32, {"soft_cap": 30.0, "temperature": 0.7}),
        ((100, 151936), jnp.bfloat16, {"valid_vocab": 151669, "topk": 5, "stats": FULL}),
        ((7, 100), jnp.bfloat16, {}),
    ],
)
def test_logits_kernel_takes_any_shape(shape, dtype, options):
    function = stats_of(implementation="pallas_tpu", **options)
    compiled = tpu.compile_for(
        tpu.mesh("v5e", 1), function, (shape, dtype), (shape[:-1], jnp.int32)
    )
    assert tpu.runs_a_kernel(compiled)


@pytest.mark.parametrize("chip", ["v5e", OTHERS[-1]])
def test_logits_in_plain_jax_are_read_once(chip):
    function = stats_of(implementation="xla")
    compiled = tpu.compile_for(tpu.mesh(chip, 1), function, LOGITS, TOKENS)
    assert not tpu.runs_a_kernel(compiled)
    assert tpu.temporary_bytes(compiled) < 1 * MB
    assert compiled.cost_analysis()["bytes accessed"] < 1.05 * 2 * T * V


@pytest.mark.parametrize("implementation", ["auto", "xla"])
def test_steps_add_no_array_of_the_size_of_the_logits(implementation):
    function = functools.partial(scoring.score_steps, num_steps=16, implementation=implementation)
    compiled = tpu.compile_for(
        tpu.mesh("v5e", 1),
        function,
        ((16, 512, V), jnp.bfloat16),
        ((16, 512), jnp.int32),
        ((16, 512), jnp.int32),
    )
    assert tpu.temporary_bytes(compiled) < 2 * MB


@pytest.mark.parametrize("chip", ["v5e", *OTHERS[1:]])
def test_hidden_kernel(chip):
    function = functools.partial(scoring.token_stats_from_hidden, stats=FULL)
    compiled = tpu.compile_for(tpu.mesh(chip, 1), function, HIDDEN, UNEMBED, TOKENS)
    assert tpu.runs_a_kernel(compiled)
    assert tpu.temporary_bytes(compiled) < 1 * MB


def test_hidden_kernel_other_layout_and_ragged_shape():
    function = functools.partial(
        scoring.token_stats_from_hidden, layout="DV", soft_cap=30.0, implementation="pallas_tpu"
    )
    compiled = tpu.compile_for(
        tpu.mesh("v4", 1),
        function,
        ((3, 50, 640), jnp.float32),
        ((640, 32001), jnp.float32),
        ((3, 50), jnp.int32),
    )
    assert tpu.runs_a_kernel(compiled)


def check_streamed(chip):
    forward = functools.partial(scoring.token_stats_from_hidden, implementation="xla")
    compiled = tpu.compile_for(tpu.mesh(chip, 1), forward, HIDDEN, UNEMBED, TOKENS)
    assert not tpu.runs_a_kernel(compiled)
    assert tpu.temporary_bytes(compiled) < 256 * MB


def check_gradient(chip):
    gradient = jax.grad(loss_of, (0, 1))
    compiled = tpu.compile_for(tpu.mesh(chip, 1), gradient, HIDDEN, UNEMBED, TOKENS)
    assert tpu.temporary_bytes(compiled) < 300 * MB


def divergence_of(hidden, unembed, teacher_hidden, teacher_unembed):
    arrays = hidden, unembed, teacher_hidden, teacher_unembed
    return scoring.kl_from_hidden(*arrays).sum()


@pytest.mark.parametrize("chip", ["v5e", *OTHERS[1:]])
def test_divergence(chip):
    arrays = HIDDEN, UNEMBED, HIDDEN, UNEMBED
    compiled = tpu.compile_for(tpu.mesh(chip, 1), scoring.kl_from_hidden, *arrays)
    assert tpu.runs_a_kernel(compiled)
    assert tpu.temporary_bytes(compiled) < 1 * MB


@pytest.mark.slow
@pytest.mark.parametrize("chip", ["v5e", "v5p", "v6e"])
def test_gradient_of_the_divergence_and_its_plain_form(chip):
    arrays = HIDDEN, UNEMBED, HIDDEN, UNEMBED
    compiled = tpu.compile_for(tpu.mesh(chip, 1), jax.grad(divergence_of, (0, 1)), *arrays)
    assert tpu.temporary_bytes(compiled) < 600 * MB
    plain = functools.partial(scoring.kl_from_hidden, implementation="xla")
    compiled = tpu.compile_for(tpu.mesh(chip, 1), plain, *arrays)
    assert not tpu.runs_a_kernel(compiled)
    assert tpu.temporary_bytes(compiled) < 256 * MB


@pytest.mark.slow
def test_divergence_over_shards_of_the_vocabulary():
    on = tpu.mesh("v5e", 2, 2)
    specs = P("data"), P("vocab"), P("data"), P("vocab")
    function = jax.shard_map(
        functools.partial(scoring.kl_from_hidden, axis_name="vocab"),
        mesh=on,
        in_specs=specs,
        out_specs=P("data"),
    )
    arrays = (((2048, 512), jnp.bfloat16), ((32000, 512), jnp.bfloat16)) * 2
    compiled = tpu.compile_for(on, function, *arrays, specs=specs)
    assert tpu.runs_a_kernel(compiled)
    assert tpu.collectives(compiled) == {"all-reduce": 3}


@pytest.mark.slow
@pytest.mark.parametrize("width", [896, 960, 2880])
def test_widths_that_no_block_divides(width):
    """Nor is the unembedding copied into another layout."""
    arrays = ((T, width), jnp.bfloat16), ((V, width), jnp.bfloat16), TOKENS
    function = functools.partial(scoring.token_stats_from_hidden, stats=FULL)
    compiled = tpu.compile_for(tpu.mesh("v5e", 1), function, *arrays)
    assert tpu.runs_a_kernel(compiled)
    assert tpu.temporary_bytes(compiled) < 64 * MB


@pytest.mark.slow
@pytest.mark.parametrize("chip", ["v5e", "v5p"])
def test_hidden_kernel_with_a_mask(chip):
    """A count of blocks that only the device knows, on one core and on two."""
    compiled = tpu.compile_for(
        tpu.mesh(chip, 1), scoring.token_stats_from_hidden, HIDDEN, UNEMBED, TOKENS
    )
    assert tpu.runs_a_kernel(compiled)
    assert tpu.temporary_bytes(compiled) < 80 * MB  # of which 67: the hidden states in order


def test_streamed_hidden():
    check_streamed("v6e")


def test_gradient_of_hidden():
    check_gradient("v5e")


@pytest.mark.slow
@pytest.mark.parametrize("chip", ["v5e", "v5p"])
def test_streamed_hidden_on_the_other_chips(chip):
    check_streamed(chip)


@pytest.mark.slow
@pytest.mark.parametrize("chip", ["v5p", "v6e"])
def test_gradient_of_hidden_on_the_other_chips(chip):
    check_gradient(chip)


@pytest.mark.parametrize("check_vma", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_sharded_vocabulary(check_vma):
    """Half of the vocabulary per chip, half of the rows per chip; the kernel inside."""
    on = tpu.mesh("v5e", 2, 2)
    function = jax.shard_map(
        stats_of(axis_name="vocab", valid_vocab=V - 100, stats=FULL),
        mesh=on,
        in_specs=(P("data", "vocab"), P("data")),
        out_specs=P("data"),
        check_vma=check_vma,
    )
    compiled = tpu.compile_for(on, function, LOGITS, TOKENS, specs=(P("data", "vocab"), P("data")))
    assert tpu.runs_a_kernel(compiled)
    assert tpu.collectives(compiled) == {"all-reduce": 2}
    assert tpu.temporary_bytes(compiled) < 1 * MB


@pytest.mark.parametrize("check_vma", [pytest.param(True, marks=pytest.mark.slow), False])
def test_sharded_unembedding(check_vma):
    on = tpu.mesh("v5e", 2, 2)
    specs = (P("data"), P("vocab"), P("data"))
    function = jax.shard_map(
        functools.partial(scoring.token_stats_from_hidden, axis_name="vocab"),
        mesh=on,
        in_specs=specs,
        out_specs=P("data"),
        check_vma=check_vma,
    )
    arrays = ((4096, 512), jnp.bfloat16), ((32000, 512), jnp.bfloat16), ((4096,), jnp.int32)
    compiled = tpu.compile_for(on, function, *arrays, specs=specs)
    assert tpu.runs_a_kernel(compiled)
    assert tpu.collectives(compiled) == {"all-reduce": 2}
    assert tpu.temporary_bytes(compiled) < 3 * MB  # of which 2: the hidden states in order


def test_compiler_sharded_batch_falls_back():
    """Under jit alone the compiler partitions; "auto" takes plain JAX, a kernel would not do."""
    on = tpu.mesh("v5e", 4, axes=("data",))
    specs = (P("data"), P("data"))
    compiled = tpu.compile_for(on, stats_of(), LOGITS, TOKENS, specs=specs)
    assert not tpu.runs_a_kernel(compiled)
    assert tpu.collectives(compiled) == {}
    assert tpu.temporary_bytes(compiled) < 1 * MB
    with pytest.raises(ValueError, match=r"mesh axes \['data'\].*jax.shard_map"):
        tpu.compile_for(on, stats_of(implementation="pallas_tpu"), LOGITS, TOKENS, specs=specs)


def compiled_on_a_slice(function, kind, *specs):
    """Hidden states, unembedding and tokens on v5e 2x4, spread by the compiler alone."""
    topology = topologies.get_topology_desc(platform="tpu", topology_name="v5e:2x4")
    devices = np.array(topology.devices).reshape(2, 4)
    on = jax.sharding.Mesh(devices, ("fsdp", "tensor"), axis_types=(kind,) * 2)
    return tpu.compile_for(on, function, HIDDEN, UNEMBED, TOKENS, specs=specs)


@pytest.mark.parametrize(
    "kind", [AxisType.Auto, pytest.param(AxisType.Explicit, marks=pytest.mark.slow)]
)
def test_a_vocabulary_spread_by_the_compiler_is_not_gathered(kind):
    specs = P("fsdp"), P("tensor"), P("fsdp")
    compiled = compiled_on_a_slice(scoring.token_stats_from_hidden, kind, *specs)
    assert set(tpu.collectives(compiled)) == {"all-reduce"}
    assert tpu.temporary_bytes(compiled) < 50 * MB
    assert tpu.work(compiled)[0] == pytest.approx(2 * T * V * D / 8, rel=0.05)


@pytest.mark.slow
def test_nor_in_the_gradient():
    specs = P("fsdp"), P("tensor"), P("fsdp")
    compiled = compiled_on_a_slice(jax.grad(loss_of, (0, 1)), AxisType.Auto, *specs)
    assert set(tpu.collectives(compiled)) == {"all-reduce"}
    assert tpu.temporary_bytes(compiled) < 600 * MB  # of which 525: this device's dW in float32
    assert tpu.work(compiled)[0] == pytest.approx(8 * T * V * D / 8, rel=0.05)


@pytest.mark.slow
@pytest.mark.parametrize("gradient", [False, True])
def test_rows_and_width_over_the_same_axis(gradient):
    """The unembedding is gathered over that axis once, before the loop."""
    function = jax.grad(loss_of, (0, 1)) if gradient else scoring.token_stats_from_hidden
    specs = P("fsdp"), P("tensor", "fsdp"), P("fsdp")
    compiled = compiled_on_a_slice(function, AxisType.Explicit, *specs)
    assert tpu.collectives(compiled).get("all-gather", 0) == 1
    gathered = 2 * V * D // 4
    assert tpu.temporary_bytes(compiled) < (600 * MB if gradient else 50 * MB) + gathered


@pytest.mark.slow
def test_both_axes_of_the_unembedding_spread():
    specs = P(), P("tensor", "fsdp"), P()
    compiled = compiled_on_a_slice(scoring.token_stats_from_hidden, AxisType.Auto, *specs)
    assert set(tpu.collectives(compiled)) == {"all-reduce"}
    assert tpu.temporary_bytes(compiled) < 50 * MB
