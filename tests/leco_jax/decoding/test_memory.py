"""What an engine says when its cache does not fit."""

import jax
import pytest

from leco_jax.decoding import memory
from leco_jax.decoding.engine import Engine
from leco_jax.decoding.memory import OutOfMemoryError, cache_bytes
from leco_jax.models.architectures import preset
from leco_jax.models.weights import init_params

CONFIG = preset("tiny", max_positions=4096)


@pytest.fixture(scope="module")
def params():
    return init_params(CONFIG, jax.random.key(0))


def test_bytes_are_those_of_keys_and_values():
    # 2 layers x (keys and values) x 4 rows x 2 heads x 128 slots x 16 numbers x 4 bytes.
    assert cache_bytes(CONFIG, rows=4, slots=128) == 2 * 2 * 4 * 2 * 128 * 16 * 4


def test_the_runtime_s_complaint_names_the_cache_and_the_way_out(params):
    # Half a petabyte: the allocator refuses at once.
    wide = CONFIG.replace(head_width=2**20)
    with pytest.raises(OutOfMemoryError, match=r"slots=1000000 rows.*lower slots or max_length"):
        Engine(wide, params, slots=10**6)


class _Device:
    def __init__(self, limit):
        self._limit = limit

    def memory_stats(self):
        return {"bytes_limit": self._limit, "bytes_in_use": 1_000}


def test_a_cache_that_will_grow_too_large_is_refused_at_the_start(params, monkeypatch):
    need = cache_bytes(CONFIG, rows=4 + 1, slots=2048)  # a row's worth of prompts is kept
    monkeypatch.setattr(memory.jax, "local_devices", lambda: [_Device(need + 1_000)])
    Engine(CONFIG, params, slots=4, max_length=2000)
    monkeypatch.setattr(memory.jax, "local_devices", lambda: [_Device(need + 999)])
    with pytest.raises(OutOfMemoryError, match=r"slots=4 rows of 2048 tokens.*has 0\.01 GB free"):
        Engine(CONFIG, params, slots=4, max_length=2000)


def test_other_errors_pass_unchanged():
    with (
        pytest.raises(jax.errors.JaxRuntimeError, match="INTERNAL"),
        memory.explained(CONFIG, rows=1, slots=1),
    ):
        raise jax.errors.JaxRuntimeError("INTERNAL: something else")
