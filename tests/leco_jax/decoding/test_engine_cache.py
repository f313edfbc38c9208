"""The engine's cache: prompts that are shared, growth and shrinkage, and how much is compiled."""

import jax
import numpy as np
import pytest

from leco_jax.decoding import cache, programs
from leco_jax.decoding.request import Request, Sampling
from tests.leco_jax.decoding.plain_loop import CONFIG, PROMPTS, greedy, make_engine, run


@pytest.mark.heavy
def test_samples_of_one_prompt_share_its_prefill(params):
    engine = make_engine(params, slots=2)
    chains = [
        engine.submit(
            Request(prompt=PROMPTS[2], max_new_tokens=5, sample=i, sampling=Sampling(temperature=1))
        )
        for i in range(5)
    ]
    run(engine, chains)
    assert engine.counters.prefilled == len(PROMPTS[2]) - 1
    assert engine.counters.reused == 4 * (len(PROMPTS[2]) - 1)
    assert len({tuple(c.tokens) for c in chains}) > 1


def test_samples_that_come_one_after_another_share_a_prefill_too(params):
    engine = make_engine(params, slots=2)
    requests = [
        Request(prompt=prompt, max_new_tokens=3, sample=i)
        for prompt in (PROMPTS[2], PROMPTS[3])
        for i in range(3)
    ]
    for request in requests:
        run(engine, [engine.submit(request)])
    assert engine.counters.prefilled == len(PROMPTS[2]) - 1 + len(PROMPTS[3]) - 1
    assert engine.counters.prefilled_twice == 0
    assert engine.counters.reused == 2 * engine.counters.prefilled


def test_a_prompt_that_was_not_kept_counts_as_prefilled_twice(params):
    engine = make_engine(params, slots=2)
    prompts = [tuple(range(i, i + 80)) for i in (1, 2, 3, 1)]  # room for one of them is spare
    for prompt in prompts:
        run(engine, [engine.submit(Request(prompt=prompt, max_new_tokens=3))])
    assert engine.counters.prefilled == 4 * 79
    assert engine.counters.prefilled_twice == 79
    assert engine.counters.reused == 0


@pytest.mark.heavy
def test_held_rows_make_room_when_nothing_else_can_run(params):
    engine = make_engine(params, slots=1)
    held = engine.submit(Request(prompt=PROMPTS[0], max_new_tokens=6, hold=True))
    run(engine, [held])
    first = list(held.tokens)
    other = engine.submit(Request(prompt=PROMPTS[1], max_new_tokens=6))
    run(engine, [other])
    assert other.tokens == greedy(params, PROMPTS[1], 6)
    engine.resume(held, keep=6)
    run(engine, [held])
    assert held.tokens[:6] == first
    assert held.tokens == greedy(params, PROMPTS[0], 12)
    assert engine.counters.prefilled_twice == len(PROMPTS[0]) + 5


@pytest.mark.heavy
def test_a_held_row_lives_through_growth_and_shrinkage(params):
    engine = make_engine(params, slots=2, max_length=480)
    held = engine.submit(Request(prompt=PROMPTS[2], max_new_tokens=12, hold=True))
    run(engine, [held])
    first = list(held.tokens)
    sizes = [engine.cache_shape[2]]
    long = tuple(np.random.default_rng(1).integers(1, 50, size=300).tolist())
    neighbour = engine.submit(Request(prompt=long, max_new_tokens=150))
    while not neighbour.done:
        engine.step()
        sizes.append(engine.cache_shape[2])
    engine.resume(held, keep=5, append=(8, 6))  # greedy in a small cache again
    known = [*first[:5], 8, 6]
    run(engine, [held])
    sizes.append(engine.cache_shape[2])
    assert held.tokens == [*known, *greedy(params, (*PROMPTS[2], *known), 12)]
    assert sizes[0] == sizes[-1] == 128
    assert len(set(sizes)) >= 3
    assert max(sizes) >= 450
    alone = make_engine(params, slots=2, max_length=480)
    (again,) = run(alone, [alone.submit(Request(prompt=long, max_new_tokens=150))])
    assert neighbour.tokens == again.tokens
    assert engine.counters.prefilled_twice == 0


@pytest.mark.heavy
def test_a_cache_grows_array_by_array(params, monkeypatch):
    engine = make_engine(params, slots=3, max_length=480)
    alive = []

    def note(arrays, slots):
        new = original(arrays, slots=slots)
        shapes = [x.shape for x in jax.live_arrays()]
        alive.append(sum(len(s) == 4 and s[0] == 3 for s in shapes))
        return new

    original = cache.resize
    monkeypatch.setattr(cache, "resize", note)
    run(engine, [engine.submit(Request(prompt=tuple(range(1, 200)), max_new_tokens=4))])
    assert alive
    assert max(alive) <= 2 * CONFIG.num_layers + 1  # keys and values, and one of them twice


@pytest.mark.heavy
def test_shapes_compiled_are_bounded_by_the_buckets(params):
    compiled = {
        "decode": programs.decode, "prefill": programs.prefill, "insert": cache.insert,
        "resize": cache.resize,
    }  # fmt: skip
    before = {name: program._cache_size() for name, program in compiled.items()}
    engine = make_engine(params, slots=8, max_length=180, chunk=8)  # 8 slots: here alone
    rng = np.random.default_rng(0)
    chains = [
        engine.submit(
            Request(
                prompt=tuple(rng.integers(1, 50, size=rng.integers(1, 160))),
                max_new_tokens=int(rng.integers(1, 12)),
                sampling=Sampling(temperature=i % 2, top_k=i % 9),
                problem=i,
            )
        )
        for i in range(60)
    ]
    run(engine, chains)
    caches, chunks = 2, 4  # 128, 192; 32, 64, 128, 256
    bound = {
        "decode": caches, "prefill": chunks, "insert": caches * chunks,
        "resize": 2 * caches * (caches - 1),  # keys and values
    }  # fmt: skip
    for name, program in compiled.items():
        assert program._cache_size() - before[name] <= bound[name], name
    assert compiled["decode"]._cache_size() > before["decode"]
