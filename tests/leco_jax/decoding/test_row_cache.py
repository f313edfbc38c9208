"""What an engine says when its cache does not fit, and which prompts it keeps."""

import jax
import numpy as np
import pytest

from leco_jax.decoding import row_cache
from leco_jax.decoding.engine import Engine
from leco_jax.decoding.row_cache import OutOfMemoryError, PromptChunks, cache_bytes
from leco_jax.models.architectures import preset
from leco_jax.models.llama import Llama
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
        Engine(Llama(wide, params=params), slots=10**6)


class _Device:
    def __init__(self, limit):
        self._limit = limit

    def memory_stats(self):
        return {"bytes_limit": self._limit, "bytes_in_use": 1_000}


def test_a_cache_that_will_grow_too_large_is_refused_at_the_start(params, monkeypatch):
    need = cache_bytes(CONFIG, rows=4 + 1, slots=2048)  # a row's worth of prompts is kept
    monkeypatch.setattr(row_cache.jax, "local_devices", lambda: [_Device(need + 1_000)])
    Engine(Llama(CONFIG, params=params), slots=4, max_length=2000)
    monkeypatch.setattr(row_cache.jax, "local_devices", lambda: [_Device(need + 999)])
    with pytest.raises(OutOfMemoryError, match=r"slots=4 rows of 2048 tokens.*has 0\.01 GB free"):
        Engine(Llama(CONFIG, params=params), slots=4, max_length=2000)


def test_other_errors_pass_unchanged():
    with (
        pytest.raises(jax.errors.JaxRuntimeError, match="INTERNAL"),
        row_cache.explained(CONFIG, rows=1, slots=1),
    ):
        raise jax.errors.JaxRuntimeError("INTERNAL: something else")


def _chunk(length):
    return {"k": [np.zeros((1, 2, length, 4))], "v": [np.zeros((1, 2, length, 4))]}


def _use(chunks, prompt, length=32):
    """One chain that comes and goes; whether its prompt was there."""
    chunks.expect(prompt)
    chunk = chunks.take(prompt)
    if chunk is None:
        chunks.put(prompt, _chunk(length))
    return chunk is not None


def test_the_latest_prompts_stay_as_far_as_there_is_room():
    chunks = PromptChunks(spare=96)
    assert not any(_use(chunks, (i,)) for i in range(3))
    assert _use(chunks, (0,))  # now the latest one
    assert not _use(chunks, (3,))
    assert [_use(chunks, (i,)) for i in (3, 0, 2)] == [True] * 3
    assert not _use(chunks, (1,))  # was the oldest one
    assert not _use(chunks, (4,), length=128)  # too long to be kept for nobody
    assert not _use(chunks, (4,), length=128)


def test_what_is_waited_for_stays_whatever_comes_between():
    chunks = PromptChunks(spare=32)
    for _ in range(3):
        chunks.expect((7,))
    assert chunks.take((7,)) is None
    mine = _chunk(64)
    assert not chunks.put((7,), mine)
    assert not any(_use(chunks, (i,)) for i in range(3))
    assert chunks.take((7,)) is mine
    assert chunks.take((7,)) is mine
    assert not _use(chunks, (7,))  # nobody waited any longer, and it is longer than the spare room


def test_a_prompt_that_comes_back_is_known():
    chunks = PromptChunks(spare=0)
    assert not chunks.put((1, 2), _chunk(32))
    assert not chunks.put((2, 1), _chunk(32))
    assert chunks.put((1, 2), _chunk(32))
