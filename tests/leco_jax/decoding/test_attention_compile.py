"""Decoding and prefill compiled for TPU topologies: kernels fit, and the cache is never copied.

The figures asserted are the compiler's, not measured times.
"""

import functools
import re

import jax
import jax.numpy as jnp
import pytest
from jax.experimental import topologies
from jax.sharding import NamedSharding

from leco_jax.decoding import programs
from leco_jax.decoding.attention_decode_tpu import decode_attention
from leco_jax.decoding.cache import AXES
from leco_jax.decoding.cache_attention import prefill_attend
from leco_jax.models.architectures import preset
from leco_jax.models.config import ModelConfig
from leco_jax.models.sharding import make_mesh, named_sharding
from leco_jax.models.weights import abstract_params

pytestmark = pytest.mark.tpu_compile

WIDE = ModelConfig(
    vocab_size=1024,
    width=512,
    mlp_width=1024,
    num_layers=2,
    num_heads=16,
    num_kv_heads=4,
    head_width=128,
    param_dtype="bfloat16",
    dtype="bfloat16",
)
NARROW = WIDE.replace(num_heads=9, num_kv_heads=3, head_width=64, width=576)
WINDOWED = WIDE.replace(sliding_window=1024)
ROWS, SLOTS, PREFIX = 32, 2048, 300
CACHE_AXES = AXES["k"]


@functools.cache
def _mesh(chip: str, *, data: int = 1, tensor: int = 1):
    pytest.importorskip("libtpu")
    one_chip = {
        "chip_config_name": "default",
        "chips_per_host_bounds": (1, 1, 1),
        "num_slices": 1,
        "wrap": (False,) * 3,
    }
    several = data * tensor > 1
    topology = topologies.get_topology_desc(
        platform="tpu",
        topology_name=f"{chip}:2x2" if several else f"{chip}:1x1",
        **({} if several else one_chip),
    )
    return make_mesh(data=data, tensor=tensor, devices=topology.devices)


def _array(mesh, shape, axes, dtype):
    sharding = named_sharding("array", shape, axes, mesh)
    return jax.ShapeDtypeStruct(shape, dtype, sharding=sharding)


def _cache(mesh, config, axes, *leading):
    shape = (*leading, config.head_width)
    one = _array(mesh, shape, axes, config.dtype)
    return {name: [one] * config.num_layers for name in ("k", "v")}


def _params(mesh, config):
    params = abstract_params(config, mesh)
    layers = [
        {
            name: jax.ShapeDtypeStruct(
                x.shape[1:], x.dtype, sharding=NamedSharding(mesh, jax.P(*x.sharding.spec[1:]))
            )
            for name, x in params["layers"].items()
        }
        for _ in range(config.num_layers)
    ]
    return params | {"layers": layers}


def _compile_decode(mesh, config, *, prefix: bool):
    """The engine's own program, two tokens of it."""

    def row(dtype, *more):
        return _array(mesh, (ROWS, *more), ("batch", *["length"] * len(more)), dtype)

    i32 = row(jnp.int32)
    rows = programs.Rows(
        token=i32, length=i32, remaining=i32, forced=row(jnp.int32, 2), num_forced=i32,
        temperature=row(jnp.float32), top_k=i32, top_p=row(jnp.float32), forbid=row(jnp.int32, 4),
        key_ids=row(jnp.uint32, 4),
    )  # fmt: skip
    cache = _cache(mesh, config, CACHE_AXES, ROWS, config.num_kv_heads, SLOTS)
    shared = _cache(mesh, config, CACHE_AXES[1:], config.num_kv_heads, PREFIX) if prefix else None
    stop_ids = _array(mesh, (2,), ("length",), jnp.int32)
    with jax.set_mesh(mesh):
        return programs.decode.lower(
            _params(mesh, config), cache, shared, rows, stop_ids, config=config,
            prefix_length=PREFIX if prefix else 0, steps=2, stats=("logprob", "entropy"), topk=20,
            capture="raw",
        ).compile()  # fmt: skip


def _copies_of_the_cache(compiled, elements: int):
    """Copies, transposes and gathers that write at least half as much as one layer's cache."""
    found = []
    pattern = r"= \(?\w+\[([\d,]+)\]\S* (copy|copy-start|transpose|all-gather|all-to-all)\("
    for match in re.finditer(pattern, compiled.as_text()):
        count = 1
        for size in match[1].split(","):
            count *= int(size)
        if count >= elements // 2:
            found.append(match[0])
    return found


def _check_decode(compiled, config, *, devices=1, layer_bytes_of=2):
    elements = ROWS * config.num_kv_heads * SLOTS * config.head_width // devices
    assert _copies_of_the_cache(compiled, elements) == []
    # Less than one of the 2·L arrays of the cache, so no copy of one hides anywhere.
    assert compiled.memory_analysis().temp_size_in_bytes < elements * layer_bytes_of
    calls = re.findall(r"%decode_attention[.\d]* = ", compiled.as_text())
    assert len(calls) == config.num_layers


# One chip is enough to see that the kernels fit and the cache stays; the other is looked at slowly.
CHIPS = ["v5e", pytest.param("v6e", marks=pytest.mark.slow)]


@pytest.mark.parametrize("chip", CHIPS)
def test_a_decoding_step_updates_the_cache_in_place(chip):
    compiled = _compile_decode(_mesh(chip), WIDE, prefix=True)
    _check_decode(compiled, WIDE)


def test_narrow_heads_and_windows_are_read_without_a_copy():
    _check_decode(_compile_decode(_mesh("v5e"), NARROW, prefix=False), NARROW)
    _check_decode(_compile_decode(_mesh("v5e"), WINDOWED, prefix=True), WINDOWED)


# Of each kind of model a few layers, and its vocabulary cut: what it adds is in the layers.
KINDS = ["qwen3_8b", "gemma2_27b", "gemma3_1b", "olmo2_7b", "phi3_mini", "phi4", "smollm3_3b"]


@pytest.mark.slow
@pytest.mark.parametrize("name", KINDS)
def test_every_kind_of_model_decodes_with_the_kernel(name):
    config = preset(name, num_layers=2, vocab_size=1024, valid_vocab=None)
    if config.global_every is not None:
        config = config.replace(global_every=2)
    if config.no_rope_every is not None:
        config = config.replace(no_rope_every=2)
    compiled = _compile_decode(_mesh("v5e"), config, prefix=True)
    elements = ROWS * config.num_kv_heads * SLOTS * config.head_width
    assert _copies_of_the_cache(compiled, elements) == []
    calls = re.findall(r"%decode_attention[.\d]* = ", compiled.as_text())
    assert len(calls) == config.num_layers


def test_over_a_mesh_every_chip_reads_its_own_rows_and_heads():
    compiled = _compile_decode(_mesh("v5e", data=2, tensor=2), WIDE, prefix=True)
    _check_decode(compiled, WIDE, devices=4)


@pytest.mark.parametrize("chip", CHIPS)
def test_prefill_never_holds_all_scores(chip):
    mesh, length = _mesh(chip), 2048

    def layer(q, k, v, shared):
        return prefill_attend(WIDE, prefix_length=PREFIX)(q, k, v, shared)

    def heads(count):
        shape = (1, length, count, WIDE.head_width)
        return _array(mesh, shape, ("batch", "length", "act_heads", "head_width"), WIDE.dtype)

    shared = _array(mesh, (WIDE.num_kv_heads, PREFIX, WIDE.head_width), CACHE_AXES[1:], WIDE.dtype)
    key = heads(WIDE.num_kv_heads)
    with jax.set_mesh(mesh):
        compiled = (
            jax.jit(layer)
            .lower(heads(WIDE.num_heads), key, key, {"prefix_k": shared, "prefix_v": shared})
            .compile()
        )
    assert 'custom_call_target="tpu_custom_call"' in compiled.as_text()
    scores = WIDE.num_heads * length * (PREFIX + length) * 4
    assert compiled.memory_analysis().temp_size_in_bytes < scores / 8


@pytest.mark.parametrize(("groups", "head_width"), [(1, 128), (3, 64), (8, 256), (4, 32)])
@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_the_kernel_compiles_for_the_shapes_of_the_presets(groups, head_width, dtype):
    mesh = _mesh("v6e")
    cache = _array(mesh, (16, 4, 512, head_width), CACHE_AXES, dtype)
    new = _array(mesh, (16, 4, head_width), CACHE_AXES[:2] + CACHE_AXES[3:], dtype)
    query = _array(mesh, (16, 4 * groups, head_width), CACHE_AXES[:2] + CACHE_AXES[3:], dtype)
    length = _array(mesh, (16,), ("batch",), jnp.int32)
    with jax.set_mesh(mesh):
        compiled = (
            jax.jit(decode_attention, donate_argnums=(3, 4))
            .lower(query, new, new, cache, cache, length)
            .compile()
        )
    ideal = 2 * cache.size * cache.dtype.itemsize
    assert compiled.cost_analysis()["bytes accessed"] < 1.1 * ideal
    assert compiled.memory_analysis().temp_size_in_bytes < ideal / 8
