"""The cache as a data structure: shapes, what is written where, and that it stays in place."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding

from leco_jax.decoding import cache as kv
from leco_jax.models.architectures import preset
from leco_jax.models.sharding import make_mesh

CONFIG = preset("tiny", dtype="bfloat16")


def _filled(rows=3, kv_heads=2, slots=8, width=4, layers=2):
    size = rows * kv_heads * slots * width
    x = jnp.arange(1, size + 1, dtype=jnp.float32).reshape(rows, kv_heads, slots, width)
    return {name: [x + i for i in range(layers)] for name in ("k", "v")}


def _transposed(cache):
    return {"kt": [k.swapaxes(2, 3) for k in cache["k"]], "v": cache["v"]}


def _copy(cache):
    """What is donated is not to be read again."""
    return jax.tree.map(jnp.array, cache)


@pytest.mark.parametrize(("keys", "shape"), [("k", (3, 2, 64, 16)), ("kt", (3, 2, 16, 64))])
def test_empty_has_the_models_shape_and_type(keys, shape):
    cache = kv.empty_cache(CONFIG, rows=3, slots=64, keys=keys)
    assert sorted(cache) == [keys, "v"]
    for name, arrays in cache.items():
        expected = shape if name == keys else (3, 2, 64, 16)
        assert [(x.shape, x.dtype) for x in arrays] == [(expected, jnp.bfloat16)] * 2
        assert not any(x.any() for x in arrays)
    buffers = {x.unsafe_buffer_pointer() for x in jax.tree.leaves(cache)}
    assert len(buffers) == 4  # arrays of their own, or donating one would take another


def test_resize_keeps_the_first_slots_and_adds_zeros():
    cache = _filled()
    longer, shorter = kv.resize(cache, 11), kv.resize(cache, 5)
    for name, arrays in cache.items():
        for x, more, less in zip(arrays, longer[name], shorter[name], strict=True):
            np.testing.assert_array_equal(more[:, :, :8], x)
            assert more.shape[2] == 11
            assert not more[:, :, 8:].any()
            np.testing.assert_array_equal(less, x[:, :, :5])


@pytest.mark.parametrize(
    "change",
    [
        lambda cache, chunk: kv.resize(cache, 11),
        lambda cache, chunk: kv.resize(cache, 5),
        lambda cache, chunk: kv.insert(cache, chunk, np.int32(1)),
        lambda cache, chunk: kv.clear(cache, np.int32(1), start=3),
    ],
    ids=["longer", "shorter", "insert", "clear"],
)
def test_transposed_keys_are_changed_alike(change):
    cache = _filled()
    chunk = jax.tree.map(lambda x: -x[:1, :, :3], cache)
    turned = change(_copy(_transposed(cache)), chunk)
    plain = change(_copy(cache), chunk)
    jax.tree.map(np.testing.assert_array_equal, turned, _transposed(plain))


def test_insert_touches_one_row_only():
    cache = _filled()
    chunk = jax.tree.map(lambda x: -x[:1, :, :3], cache)
    after = kv.insert(_copy(cache), chunk, np.int32(1))
    for old, new, part in zip(*map(jax.tree.leaves, (cache, after, chunk)), strict=True):
        np.testing.assert_array_equal(new[1, :, :3], part[0])
        np.testing.assert_array_equal(new[1, :, 3:], old[1, :, 3:])
        np.testing.assert_array_equal(new[::2], old[::2])


@pytest.mark.heavy
def test_insert_leaves_out_what_finds_no_slots():
    cache = _filled(slots=3)
    chunk = jax.tree.map(lambda x: -x[:1], _filled(slots=5))
    after = kv.insert(_transposed(cache), chunk, np.int32(2))
    np.testing.assert_array_equal(after["kt"][1][2], chunk["k"][1][0, :, :3].swapaxes(1, 2))
    np.testing.assert_array_equal(after["v"][1][2], chunk["v"][1][0, :, :3])


@pytest.mark.parametrize("axis", [2, 3])
def test_append_writes_at_each_length_and_leaves_a_full_row(axis):
    x = _filled()["k"][0]
    new = -jnp.ones((3, 2, 4))
    turned = x if axis == 2 else x.swapaxes(2, 3)
    after = np.asarray(kv.append(turned, new, jnp.asarray([0, 7, 8]), axis=axis))
    expected = np.array(x)
    expected[0, :, 0] = expected[1, :, 7] = -1
    np.testing.assert_array_equal(after if axis == 2 else after.swapaxes(2, 3), expected)


def test_clear_removes_nan_from_one_row():
    cache = jax.tree.map(lambda x: x.at[1, :, 3:].set(jnp.nan), _filled())
    after = kv.clear(_copy(cache), np.int32(1), start=3)
    for old, new in zip(*map(jax.tree.leaves, (cache, after)), strict=True):
        assert not new[1, :, 3:].any()
        np.testing.assert_array_equal(new[1, :, :3], old[1, :, :3])
        np.testing.assert_array_equal(new[::2], old[::2])
    assert not any(x[1].any() for x in jax.tree.leaves(kv.clear(cache, np.int32(1))))


def test_regrouping_by_layer_is_undone():
    cache = _filled()
    prefix = jax.tree.map(lambda x: x[0], cache)
    states = kv.layer_states(cache, prefix, 2)
    assert [sorted(s) for s in states] == [["k", "prefix_k", "prefix_v", "v"]] * 2
    np.testing.assert_array_equal(states[1]["prefix_v"], prefix["v"][1])
    own = [{name: state[name] for name in ("k", "v")} for state in states]
    jax.tree.map(np.testing.assert_array_equal, kv.cache_of(own), cache)
    assert kv.layer_states(None, None, 2) == [{}, {}]


@pytest.mark.parametrize("write", ["append", "append transposed", "insert"])
def test_a_sharded_cache_is_written_where_it_lies(write):
    mesh = make_mesh(data=4, tensor=2)

    def of(shape, *spec, dtype=jnp.float32):
        return jax.ShapeDtypeStruct(shape, dtype, sharding=NamedSharding(mesh, jax.P(*spec)))

    x = of((8, 2, 64, 16), "data", "tensor")
    if write.startswith("append"):
        axis = 3 if write == "append transposed" else 2
        function = functools.partial(kv.append, axis=axis)
        x = of((8, 2, 16, 64) if axis == 3 else x.shape, "data", "tensor")
        others = of((8, 2, 16), "data", "tensor"), of((8,), "data", dtype=jnp.int32)
    else:
        function = kv.insert
        x = {"kt": [of((8, 2, 16, 64), "data", "tensor")], "v": [x]}
        chunk = [of((1, 2, 32, 16), None, "tensor")]
        others = {"k": chunk, "v": chunk}, of((), dtype=jnp.int32)
    with jax.set_mesh(mesh):
        compiled = (
            jax.jit(function, donate_argnums=0, out_shardings=jax.tree.map(lambda x: x.sharding, x))
            .lower(x, *others)
            .compile()
        )
    assert re.findall(r" (all-\w+|collective-\w+)\(", compiled.as_text()) == []
    assert compiled.memory_analysis().temp_size_in_bytes < 64 * 16 * 4 * 2
