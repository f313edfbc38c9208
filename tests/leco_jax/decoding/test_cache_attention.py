"""Attention over prefix and cache, both forms, against float64 loops; kernels in interpret mode."""

import contextlib
import logging

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental.pallas import tpu as pltpu

from leco_jax.decoding import attention_decode_tpu, cache_attention
from leco_jax.decoding.cache_attention import decode_attend, prefill_attend
from leco_jax.models.config import ModelConfig
from leco_jax.models.sharding import make_mesh


def _config(kv_heads=2, groups=2, head_width=64, window=None, dtype="float32", soft_cap=None):
    return ModelConfig(
        vocab_size=8,
        width=8,
        mlp_width=8,
        num_layers=1,
        num_heads=kv_heads * groups,
        num_kv_heads=kv_heads,
        head_width=head_width,
        sliding_window=window,
        attention_soft_cap=soft_cap,
        dtype=dtype,
    )


def _running(implementation):
    if implementation == "pallas_tpu":
        return pltpu.force_tpu_interpret_mode()
    return contextlib.nullcontext()


def _exact(q_TNH, k_KSH, v_KSH, seen_TS, soft_cap=None):
    """Softmax attention of one row in float64, one query and head at a time."""
    q, k, v = (np.asarray(x, np.float64) for x in (q_TNH, k_KSH, v_KSH))
    groups = q.shape[1] // k.shape[0]
    out = np.zeros(q.shape)
    for t, n in np.ndindex(q.shape[:2]):
        scores = k[n // groups][seen_TS[t]] @ q[t, n] / np.sqrt(q.shape[-1])
        if soft_cap is not None:
            scores = soft_cap * np.tanh(scores / soft_cap)
        weights = np.exp(scores - scores.max())
        out[t, n] = weights / weights.sum() @ v[n // groups][seen_TS[t]]
    return out


def _seen(position, keys, window):
    distance = position - keys
    return (distance >= 0) & (distance < (window or np.inf))


def _decode_case(config, lengths, slots, prefix_length, seed=0):
    """Arguments of `attend`; slots that hold nothing hold NaN if the form promises to skip them."""
    rng = np.random.default_rng(seed)
    batch, kv_heads, width = len(lengths), config.num_kv_heads, config.head_width

    def draw(*shape):
        return rng.standard_normal(shape).astype(config.dtype)

    q = draw(batch, 1, config.num_heads, width)
    k, v = (draw(batch, 1, kv_heads, width) for _ in "kv")
    state = {name: draw(batch, kv_heads, slots, width) for name in ("k", "v")}
    if prefix_length:
        state |= {f"prefix_{name}": draw(kv_heads, prefix_length, width) for name in ("k", "v")}
    return q, k, v, state, np.asarray(lengths, np.int32)


def _exact_decode(config, q, k, v, state, lengths, prefix_length):
    out, cache = np.zeros(q.shape), {}
    for name, new in (("k", k), ("v", v)):
        cache[name] = state[name].copy()
        for b, length in enumerate(lengths):
            if length < cache[name].shape[2]:
                cache[name][b, :, length] = new[b, 0]
    slots = cache["k"].shape[2]
    own = np.arange(slots)
    for b, length in enumerate(lengths):
        key, value, at = cache["k"][b], cache["v"][b], own
        if prefix_length:
            at = np.concatenate([np.arange(-prefix_length, 0), own])
            key = np.concatenate([state["prefix_k"], key], axis=1)
            value = np.concatenate([state["prefix_v"], value], axis=1)
        seen = _seen(length, at, config.sliding_window)[None]
        out[b] = _exact(q[b], key, value, seen, config.attention_soft_cap)
    return out, cache


def _decode(config, case, prefix_length, implementation):
    *arrays, lengths = case

    def run(q, k, v, state, length_B):
        attend = decode_attend(
            config, length_B=length_B, prefix_length=prefix_length, implementation=implementation
        )
        return attend(q, k, v, state)

    with _running(implementation):
        return jax.device_get(jax.jit(run)(*arrays, lengths))


def _with_transposed_keys(case):
    q, k, v, state, lengths = case
    rest = {name: x for name, x in state.items() if name != "k"}
    return q, k, v, {"kt": state["k"].swapaxes(2, 3), **rest}, lengths


DECODE_CASES = {
    "grouped, narrow, prefix": (_config(2, 3), [0, 1, 383, 200, 128], 384, 37),
    "one query per key head, full row": (_config(2, 1, 128), [0, 256, 255, 127], 256, 0),
    "window across blocks": (_config(1, 8, 128, window=150), [0, 140, 255, 383, 384], 384, 5),
    "few slots, their number odd": (_config(3, 4, 32, window=9), [0, 60, 61, 20], 61, 12),
    "soft-capped": (_config(2, 2, 128, window=90, soft_cap=0.7), [0, 30, 200, 255], 256, 12),
}


@pytest.mark.heavy
@pytest.mark.parametrize("implementation", ["xla", "pallas_tpu"])
@pytest.mark.parametrize("name", DECODE_CASES)
def test_decode_is_softmax_over_prefix_and_own_tokens(name, implementation, monkeypatch):
    monkeypatch.setattr(attention_decode_tpu, "_BLOCK_SLOTS", (128,))  # several blocks a row
    config, lengths, slots, prefix_length = DECODE_CASES[name]
    case = _decode_case(config, lengths, slots, prefix_length)
    out, cache = _decode(config, case, prefix_length, implementation)
    expected, expected_cache = _exact_decode(config, *case, prefix_length)
    np.testing.assert_allclose(out, expected, atol=2e-6)
    for name in ("k", "v"):
        np.testing.assert_array_equal(cache[name], expected_cache[name])


@pytest.mark.parametrize("name", DECODE_CASES)
def test_decode_over_transposed_keys_gives_the_same(name):
    config, lengths, slots, prefix_length = DECODE_CASES[name]
    case = _decode_case(config, lengths, slots, prefix_length)
    expected, cache = _exact_decode(config, *case, prefix_length)
    turned, turned_cache = _decode(config, _with_transposed_keys(case), prefix_length, "xla")
    np.testing.assert_allclose(turned, expected, atol=2e-6)
    np.testing.assert_array_equal(turned_cache["kt"], cache["k"].swapaxes(2, 3))
    np.testing.assert_array_equal(turned_cache["v"], cache["v"])


def test_xla_reads_any_number_of_slots():
    config = _config(2, 4, 16)
    case = _decode_case(config, [0, 332, 333, 129], 333, 7)
    out, _ = _decode(config, case, 7, "xla")
    np.testing.assert_allclose(out, _exact_decode(config, *case, 7)[0], atol=2e-6)


@pytest.mark.heavy
def test_decode_kernel_in_bfloat16_is_as_close_as_xla():
    config = _config(2, 4, 128, dtype="bfloat16")
    case = _decode_case(config, [0, 100, 300, 511], 512, 60)
    expected, _ = _exact_decode(config, *case, 60)
    errors = {}
    for implementation in ("xla", "pallas_tpu"):
        out, _ = _decode(config, case, 60, implementation)
        errors[implementation] = np.abs(np.asarray(out, np.float64) - expected).max()
    assert errors["pallas_tpu"] <= errors["xla"] + 2e-3
    assert errors["pallas_tpu"] < 2e-2


@pytest.mark.heavy
def test_decode_kernel_ignores_what_lies_past_a_length():
    config = _config(1, 2, 128)
    q, k, v, state, lengths = _decode_case(config, [0, 130, 250], 256, 0)
    expected, _ = _exact_decode(config, q, k, v, state, lengths, 0)
    for b, length in enumerate(lengths):
        for name in ("k", "v"):
            state[name][b, :, length:] = np.nan
    out, _ = _decode(config, (q, k, v, state, lengths), 0, "pallas_tpu")
    np.testing.assert_allclose(out, expected, atol=2e-6)


@pytest.mark.heavy
def test_decode_kernel_takes_only_the_blocks_that_rows_hold():
    def steps(lengths, window):
        def span(length):
            return attention_decode_tpu._span(length, slots=1024, block=128, window=window)

        work = attention_decode_tpu._work_list(jnp.asarray(lengths, jnp.int32), span, 8)
        count = int(work.steps)
        return list(zip(work.row[:count].tolist(), work.block[:count].tolist(), strict=True))

    expected = [(0, 0), (1, 0), (2, 0), (2, 1), *((3, i) for i in range(8))]
    assert steps([0, 127, 128, 1024], None) == expected
    assert steps([0, 127, 128, 1000], 100) == [(0, 0), (1, 0), (2, 0), (2, 1), (3, 7)]


PREFILL_CASES = {
    "one block": (_config(2, 2), 1, 100, 0),
    "prefix, several blocks": (_config(2, 3, 128), 2, 200, 333),
    "window": (_config(1, 2, 64, window=70), 1, 300, 50),
    "soft-capped": (_config(1, 2, 128, soft_cap=0.7), 1, 150, 10),
}


@pytest.mark.heavy
@pytest.mark.parametrize("implementation", ["xla", "pallas_tpu"])
@pytest.mark.parametrize("name", PREFILL_CASES)
def test_prefill_is_softmax_over_prefix_and_what_came_before(name, implementation):
    config, batch, length, before = PREFILL_CASES[name]
    rng = np.random.default_rng(1)

    def draw(*shape):
        return rng.standard_normal(shape).astype(np.float32)

    q = draw(batch, length, config.num_heads, config.head_width)
    k, v = (draw(batch, length, config.num_kv_heads, config.head_width) for _ in "kv")
    state = {}
    if before:
        shape = (config.num_kv_heads, before, config.head_width)
        state = {"prefix_k": draw(*shape), "prefix_v": draw(*shape)}
    attend = prefill_attend(config, prefix_length=before, implementation=implementation)
    with _running(implementation):
        out, chunk = jax.device_get(jax.jit(attend)(q, k, v, state))

    at = np.arange(-before, length)
    seen = np.stack([_seen(t, at, config.sliding_window) for t in range(length)])
    for b in range(batch):
        key, value = k[b].swapaxes(0, 1), v[b].swapaxes(0, 1)
        np.testing.assert_array_equal(chunk["k"][b], key)
        np.testing.assert_array_equal(chunk["v"][b], value)
        if before:
            key = np.concatenate([state["prefix_k"], key], axis=1)
            value = np.concatenate([state["prefix_v"], value], axis=1)
        expected = _exact(q[b], key, value, seen, config.attention_soft_cap)
        np.testing.assert_allclose(out[b], expected, atol=3e-6)


def test_a_layers_own_window_takes_the_place_of_the_models():
    config = _config(1, 2, 16, window=3).replace(num_layers=2, global_every=2)
    case = _decode_case(config, [9, 20], 32, 4)
    q, k, v, state, length_B = case
    attend = decode_attend(config, length_B=length_B, prefix_length=4)
    for window, alike in ((3, config), (None, _config(1, 2, 16))):
        expected, _ = _exact_decode(alike, *case, 4)
        np.testing.assert_allclose(attend(q, k, v, state, window)[0], expected, atol=2e-6)
    scanned = decode_attend(config, length_B=length_B, prefix_length=4, implementation="pallas_tpu")
    with pytest.raises(ValueError, match="each scanned layer has its own window"):
        scanned(q, k, v, state, jnp.int32(3))


@pytest.mark.heavy
@pytest.mark.parametrize("implementation", ["xla", "pallas_tpu"])
def test_over_a_mesh_decode_gives_the_same(implementation):
    config = _config(2, 2, 64)
    case = _decode_case(config, [0, 5, 64, 127], 128, 9)
    if implementation == "xla":
        case = _with_transposed_keys(case)
    alone = _decode(config, case, 9, implementation)
    mesh = make_mesh(data=2, tensor=2, devices=jax.devices()[:4])
    with jax.set_mesh(mesh):
        spread = _decode(config, case, 9, implementation)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), alone, spread)


def test_an_explicit_kernel_is_strict_and_auto_falls_back():
    config = _config(1, 1, 20)
    case = _decode_case(config, [3], 64, 0)
    with pytest.raises(ValueError, match="head_width=20"):
        _decode(config, case, 0, "pallas_tpu")
    with pytest.raises(ValueError, match="300 slots"):
        _decode(_config(), _decode_case(_config(), [3], 300, 0), 0, "pallas_tpu")
    turned = _with_transposed_keys(_decode_case(_config(), [3], 128, 0))
    with pytest.raises(ValueError, match="holds its keys transposed"):
        _decode(_config(), turned, 0, "pallas_tpu")
    narrow = prefill_attend(_config(2, 1, 32), prefix_length=0, implementation="pallas_tpu")
    x = jnp.zeros((1, 4, 2, 32))
    with pytest.raises(ValueError, match="head_width=32"):
        narrow(x, x, x, {})
    length_B = jnp.zeros(1, jnp.int32)
    with pytest.raises(ValueError, match="'flash' is not one of auto, xla, pallas_tpu"):
        decode_attend(config, length_B=length_B, prefix_length=0, implementation="flash")
    auto, xla = (_decode(config, case, 0, name)[0] for name in ("auto", "xla"))
    np.testing.assert_array_equal(auto, xla)


def test_auto_says_once_what_it_took(monkeypatch, caplog):
    monkeypatch.setattr(cache_attention, "_platform", lambda: "tpu")
    cache_attention._log_once.cache_clear()
    with caplog.at_level(logging.INFO, cache_attention.__name__):
        assert not cache_attention._use_kernel("auto", "decode", "of the weather")
        assert not cache_attention._use_kernel("auto", "decode", "of the weather")
        assert cache_attention._use_kernel("auto", "decode", None)
    assert [r.getMessage() for r in caplog.records] == [
        "decode attention: xla, as of the weather",
        "decode attention: pallas_tpu",
    ]
