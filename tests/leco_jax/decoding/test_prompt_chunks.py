import numpy as np

from leco_jax.decoding.prompt_chunks import PromptChunks


def _chunk(length):
    return {"k": [np.zeros((1, 2, length, 4))], "v": [np.zeros((1, 2, length, 4))]}


def _use(chunks, prompt, length=32):
    """One chain that comes and goes; whether it found its prompt."""
    chunks.expect(prompt)
    found = chunks.take(prompt)
    if found is None:
        chunks.put(prompt, _chunk(length))
    return found is not None


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
