"""What an engine refuses before it is queued, and what cancelling a chain leaves alone."""

import numpy as np
import pytest

from leco_jax.decoding.request import Chain, Request, Sampling
from leco_jax.decoding.tasks import run_tasks
from tests.leco_jax.decoding.plain_loop import CONFIG, PROMPTS, greedy, make_engine, run

GOOD = {"prompt": (5, 9, 2), "max_new_tokens": 6}


@pytest.mark.heavy
@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"prompt": (1, 2**31)}, "prompt holds the token id 2147483648 at place 1"),
        ({"prompt": (1, CONFIG.vocab_size)}, r"at place 1, outside the vocabulary 0\.\.255"),
        ({"prompt": (-1,)}, "the token id -1"),
        ({"prompt": (1.0, 2.0)}, "must be a list of token ids"),
        ({"prompt": "text"}, "must be a list of token ids"),
        ({"prompt": ()}, "prompt is empty"),
        ({"max_new_tokens": 2.5}, "max_new_tokens=2.5 must be a whole number"),
        ({"max_new_tokens": 0}, "max_new_tokens=0"),
        ({"seed": 1.5}, "seed=1.5 must be a whole number"),
        ({"seed": -1}, r"seed=-1 lies outside 0\.\.4294967295"),
        ({"problem": 2**32}, "problem=4294967296"),
        ({"sample": "0"}, "sample='0'"),
        ({"stop": "text"}, "stop='text' must be a tuple of texts"),
        ({"stop": ("",)}, "none of them empty"),
        ({"stop": (b"x",)}, "must be a tuple of texts"),
        ({"stop": ("\ud800",)}, "surrogates not allowed"),
        ({"sampling": 0.5}, "sampling=0.5 must be a Sampling"),
    ],
)
def test_a_bad_request_is_refused_and_disturbs_nobody(params, fields, message):
    engine = make_engine(params, token_bytes=lambda token: b"x")
    neighbour = engine.submit(Request(**GOOD))
    with pytest.raises(ValueError, match=message):
        engine.submit(Request(**(GOOD | fields)))
    run(engine, [neighbour])
    assert neighbour.tokens == greedy(params, GOOD["prompt"], 6)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"top_k": 2**31}, r"top_k=2147483648 lies outside 0\.\.2147483647"),
        ({"top_k": -1}, "top_k=-1"),
        ({"top_k": 1.0}, "top_k=1.0 must be a whole number"),
        ({"temperature": float("nan")}, "temperature=nan"),
        ({"temperature": float("inf")}, "temperature=inf"),
        ({"temperature": 1e-30}, r"must be 0 \(greedy\) or lie in \[1e-06, 1e\+06\]"),
        ({"temperature": -1}, "temperature=-1"),
        ({"temperature": "hot"}, "temperature='hot' must be a number"),
        ({"top_p": 0.0}, "top_p=0.0"),
        ({"top_p": 1e-60}, r"must lie in \(0, 1\]"),
        ({"top_p": None}, "top_p=None must be a number"),
    ],
)
def test_sampling_options_out_of_range_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        Sampling(**fields)


def test_ids_of_the_padded_vocabulary_are_refused(params):
    engine = make_engine(params, config=CONFIG.replace(valid_vocab=200))
    with pytest.raises(ValueError, match=r"vocabulary 0\.\.199"):
        engine.submit(Request(prompt=(200,), max_new_tokens=1))


def test_numpy_integers_are_integers(params):
    engine = make_engine(params)
    prompt = np.asarray(GOOD["prompt"])
    sampling = Sampling(temperature=np.float32(0.7), top_k=np.int64(300))
    plain = Request(**GOOD, seed=2, sampling=Sampling(temperature=float(np.float32(0.7))))
    other = Request(prompt=prompt, max_new_tokens=np.int32(6), seed=np.uint32(2), sampling=sampling)
    assert other.prompt == GOOD["prompt"]
    a, b = run(engine, [engine.submit(plain), engine.submit(other)])
    assert a.tokens == b.tokens


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"prefix": (1, 2**31)}, "prefix holds the token id 2147483648"),
        ({"prefix": (1.5,)}, "prefix must be a list of token ids"),
        ({"stop_ids": (-1,)}, "stop_ids holds the token id -1"),
        ({"slots": 2.0}, "slots=2.0 must be a whole number"),
        ({"chunk": 0}, "chunk=0"),
        ({"max_length": 1}, "max_length=1"),
    ],
)
def test_engine_options_out_of_range_are_refused(params, options, message):
    with pytest.raises(ValueError, match=message):
        make_engine(params, **options)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"keep": 1.5}, "keep=1.5 must be a whole number"),
        ({"keep": 7}, r"keep=7 lies outside 0\.\.6"),
        ({"keep": 2, "append": (1, 256)}, "append holds the token id 256 at place 1"),
        ({"keep": 2, "forbid": (2**31,)}, "forbid holds the token id"),
        ({"keep": 2, "sampling": "greedy"}, "must be a Sampling"),
    ],
)
def test_a_bad_resume_leaves_the_chain_as_it_is(params, fields, message):
    engine = make_engine(params)
    (chain,) = run(engine, [engine.submit(Request(**GOOD, hold=True))])
    before, discarded = list(chain.tokens), engine.counters.discarded
    with pytest.raises(ValueError, match=message):
        engine.resume(chain, **fields)
    assert (chain.tokens, chain.finish, chain.round) == (before, "length", 0)
    assert engine.counters.discarded == discarded


# Cancelling

HOT = Sampling(temperature=0.9)


def _submit(engine, prompts, **options):
    return [
        engine.submit(
            Request(prompt=p, max_new_tokens=20, sampling=HOT, problem=i) if not options
            else Request(prompt=p, max_new_tokens=20, sampling=HOT, problem=i, **options)
        )
        for i, p in enumerate(prompts)
    ]  # fmt: skip


@pytest.fixture(scope="module")
def undisturbed(params):
    engine = make_engine(params, slots=2, chunk=5)
    return [c.tokens for c in run(engine, _submit(engine, PROMPTS))]


@pytest.mark.heavy
@pytest.mark.parametrize("victim", range(4))
@pytest.mark.parametrize("steps", [0, 2])
def test_cancelling_frees_a_slot_and_leaves_the_neighbours_tokens(
    params, undisturbed, victim, steps
):
    engine = make_engine(params, slots=2, chunk=5)
    chains = _submit(engine, PROMPTS)
    for _ in range(steps):
        engine.step()
    running = steps > 0 and victim < 2
    written = list(chains[victim].tokens)
    waiting = engine.waiting
    engine.cancel(chains[victim])
    assert chains[victim].finish == "cancelled"
    assert chains[victim].tokens == written == undisturbed[victim][: 10 if running else 0]
    assert engine.waiting == waiting - (not running)
    ended = engine.step()
    assert chains[victim] in ended
    assert engine.waiting == max(waiting - 1 - (0 if steps else 2), 0)  # the slot is taken at once
    others = [c for i, c in enumerate(chains) if i != victim]
    while engine.busy:
        ended += engine.step()
    assert sorted(map(id, ended)) == sorted(map(id, chains))  # each comes back once
    assert [c.tokens for c in others] == [t for i, t in enumerate(undisturbed) if i != victim]
    engine.cancel(chains[victim])  # a second time: nothing
    assert not engine.busy


@pytest.mark.heavy
def test_cancelling_a_held_chain_gives_its_slot_back(params):
    engine = make_engine(params, slots=1)
    (held,) = run(engine, [engine.submit(Request(**GOOD, hold=True))])
    engine.cancel(held)
    assert (held.finish, held.tokens) == ("length", greedy(params, GOOD["prompt"], 6))
    assert engine.step() == []
    (other,) = run(engine, [engine.submit(Request(prompt=PROMPTS[1], max_new_tokens=6))])
    assert other.tokens == greedy(params, PROMPTS[1], 6)
    engine.resume(held, keep=2)  # as after `release`: its prompt is computed again
    run(engine, [held])
    assert held.tokens == greedy(params, GOOD["prompt"], 8)


@pytest.mark.heavy
def test_a_cancelled_chain_can_be_resumed(params):
    engine = make_engine(params, slots=1, chunk=2)
    chain = engine.submit(Request(**GOOD))
    engine.step()
    engine.cancel(chain)
    engine.resume(chain, keep=2)
    assert engine.step() == []  # it runs again
    run(engine, [chain])
    assert chain.tokens == greedy(params, GOOD["prompt"], 8)


def test_a_chain_of_another_engine_is_refused(params):
    stranger = Chain(Request(**GOOD))
    with pytest.raises(ValueError, match="not one of this engine's"):
        make_engine(params).cancel(stranger)


class _EndsTheOthers:
    """Cancels the other chains of a group as soon as its own has written so many tokens."""

    stats = ()

    def __init__(self, engine, group, tokens):
        self.engine, self.group, self.tokens = engine, group, tokens

    def look(self, chain, fresh):
        if len(chain.tokens) >= self.tokens:
            for other in self.group:
                if other is not chain and not other.done:
                    self.engine.cancel(other)
        return None


def test_a_task_goes_on_when_a_watch_cancelled_the_chains_that_it_waits_for(params):
    engine = make_engine(params, slots=2, chunk=5)

    def race():
        group = []
        watch = _EndsTheOthers(engine, group, tokens=10)
        group += _submit(engine, PROMPTS, watch=watch)
        yield group
        return [c.finish for c in group]

    def neighbour():
        (chain,) = _submit(engine, PROMPTS[:1])
        yield [chain]
        return chain.tokens

    outcomes = {o.key: o.result for o in run_tasks(engine, [("r", race()), ("n", neighbour())])}
    assert sorted(outcomes["r"]) == ["cancelled"] * 3 + ["length"]
    alone = make_engine(params, slots=1)
    assert outcomes["n"] == run(alone, _submit(alone, PROMPTS[:1]))[0].tokens
