"""The engine against a plain loop that reads the whole sequence again for every token."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from leco_jax.decoding import engine as engine_module
from leco_jax.decoding import programs
from leco_jax.decoding.engine import Engine
from leco_jax.decoding.request import Request, Sampling
from leco_jax.models import transformer
from leco_jax.models.attention import causal_attend
from leco_jax.models.presets import preset
from leco_jax.models.weights import init_params

CONFIG = preset("tiny")
STATS = ("logprob", "entropy", "self_certainty")
PROMPTS = [(5, 9, 2), (7,), tuple(range(1, 40)), (3, 3, 3, 8, 1)]


@pytest.fixture(scope="module")
def params():
    return init_params(CONFIG, jax.random.key(7))


def _engine(params, **options):
    return Engine(CONFIG, params, **({"slots": 4, "max_length": 100, "stats": STATS} | options))


def _run(engine, chains):
    while any(not c.done for c in chains):
        engine.step()
    return chains


@functools.partial(jax.jit, static_argnames="config")
def _all_logits(params, tokens, config):
    positions = jnp.arange(tokens.shape[1])[None]
    hidden, _ = transformer.forward(
        params, tokens, positions, config=config, attend=causal_attend(positions, config)
    )
    return transformer.logits(params, hidden, config=config)[0]


def _logits(params, tokens, config=CONFIG):
    padded = np.zeros((1, 128), np.int32)  # behind the tokens: nothing before sees it
    padded[0, : len(tokens)] = tokens
    return np.asarray(_all_logits(params, padded, config)[: len(tokens)], np.float64)


def _greedy(params, prompt, count, config=CONFIG):
    tokens = list(prompt)
    for _ in range(count):
        tokens.append(int(np.argmax(_logits(params, tokens, config)[-1])))
    return tokens[len(prompt) :]


def _logprobs(logits, tokens):
    shifted = logits - logits.max(-1, keepdims=True)
    logp = shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
    return logp[np.arange(len(tokens)), tokens]


def test_greedy_tokens_and_their_log_probabilities_are_those_of_a_plain_loop(params):
    engine = _engine(params)
    chains = _run(engine, [engine.submit(Request(prompt=p, max_new_tokens=11)) for p in PROMPTS])
    for prompt, chain in zip(PROMPTS, chains, strict=True):
        assert chain.tokens == _greedy(params, prompt, 11)
        assert chain.finish == "length"
        logits = _logits(params, [*prompt, *chain.tokens])[len(prompt) - 1 : -1]
        np.testing.assert_allclose(
            chain.stats["logprob"], _logprobs(logits, chain.tokens), atol=1e-5
        )
        assert all(len(chain.stats[name]) == 11 for name in STATS)
    assert engine.counters.prefilled == sum(len(p) - 1 for p in PROMPTS)


def test_a_sliding_window_and_a_prefix_change_nothing_but_the_work(params):
    config = CONFIG.replace(sliding_window=6)
    prefix = tuple(range(10, 23))
    for prompt in ((4, 5), tuple(range(30, 49))):
        engine = Engine(config, params, slots=2, max_length=64, prefix=prefix)
        (chain,) = _run(engine, [engine.submit(Request(prompt=prompt, max_new_tokens=9))])
        assert chain.tokens == _greedy(params, (*prefix, *prompt), 9, config)
        assert engine.counters.prefilled == len(prompt) - 1


@pytest.mark.parametrize("temperature", [0.0, 0.9])
def test_a_chain_does_not_depend_on_its_company(params, temperature):
    def request(i, prompt):
        return Request(
            prompt=prompt, max_new_tokens=20, problem=i,
            sampling=Sampling(temperature=temperature, top_p=0.9), seed=3,
        )  # fmt: skip

    alone = []
    for i, prompt in enumerate(PROMPTS):
        engine = _engine(params, slots=1)
        alone += _run(engine, [engine.submit(request(i, prompt))])
    # Two slots for four requests: later ones are put into slots that others have left.
    engine = _engine(params, slots=2, chunk=5)
    together = _run(engine, [engine.submit(request(i, p)) for i, p in enumerate(PROMPTS)])
    for a, b in zip(alone, together, strict=True):
        assert a.tokens == b.tokens
        np.testing.assert_allclose(a.stats["logprob"], b.stats["logprob"], atol=1e-5)


def test_seed_problem_sample_and_round_each_change_what_is_drawn(params):
    engine = _engine(params, slots=6)
    hot = Sampling(temperature=1.5)
    base = {"prompt": PROMPTS[0], "max_new_tokens": 16, "sampling": hot}
    variants = [{}, {}, {"seed": 1}, {"problem": 1}, {"sample": 1}]
    first, again, *others = _run(
        engine, [engine.submit(Request(**base, **v, hold=True)) for v in variants]
    )
    assert first.tokens == again.tokens
    drawn = [tuple(c.tokens) for c in (first, *others)]
    assert len(set(drawn)) == 4
    before = list(first.tokens)
    engine.resume(first, keep=0)
    _run(engine, [first])
    assert first.tokens != before


def test_roll_back_keeps_what_stood_before_and_prefills_nothing(params):
    engine = _engine(params)
    request = Request(prompt=PROMPTS[2], max_new_tokens=12, hold=True)
    chain = engine.submit(request)
    _run(engine, [chain])
    first = list(chain.tokens)
    prefilled = engine.counters.prefilled

    engine.resume(chain, keep=5)  # greedy from the same place: the same tokens again
    _run(engine, [chain])
    assert chain.tokens == first + _greedy(params, (*PROMPTS[2], *first), 5)

    engine.resume(chain, keep=4, append=(8, 6, 7, 5, 3, 0, 9, 1, 2, 4), forbid=None)
    _run(engine, [chain])
    known = (*first[:4], 8, 6, 7, 5, 3, 0, 9, 1, 2, 4)
    assert chain.tokens == [*known, *_greedy(params, (*PROMPTS[2], *known), 12)]
    logits = _logits(params, [*PROMPTS[2], *chain.tokens])[len(PROMPTS[2]) - 1 : -1]
    np.testing.assert_allclose(chain.stats["logprob"], _logprobs(logits, chain.tokens), atol=1e-5)

    engine.resume(chain, keep=3, forbid=first[3])
    _run(engine, [chain])
    assert chain.tokens[:3] == first[:3]
    runner_up = _logits(params, [*PROMPTS[2], *first[:3]])[-1]
    runner_up[first[3]] = -np.inf
    assert chain.tokens[3] == int(np.argmax(runner_up))

    assert engine.counters.prefilled == prefilled
    assert engine.counters.prefilled_twice == 0
    assert engine.counters.discarded == 7 + 13 + 23
    engine.release(chain)


def test_keeping_nothing_starts_again_at_the_prompt(params):
    engine = _engine(params)
    chain = engine.submit(Request(prompt=(7,), max_new_tokens=4, hold=True))
    _run(engine, [chain])
    first = list(chain.tokens)
    engine.resume(chain, keep=0)
    _run(engine, [chain])
    assert chain.tokens == first


def test_samples_of_one_prompt_share_its_prefill(params):
    engine = _engine(params, slots=2)
    chains = [
        engine.submit(
            Request(prompt=PROMPTS[2], max_new_tokens=5, sample=i, sampling=Sampling(temperature=1))
        )
        for i in range(5)
    ]
    _run(engine, chains)
    assert engine.counters.prefilled == len(PROMPTS[2]) - 1
    assert engine.counters.reused == 4 * (len(PROMPTS[2]) - 1)
    assert len({tuple(c.tokens) for c in chains}) > 1


def test_held_rows_make_room_when_nothing_else_can_run(params):
    engine = _engine(params, slots=1)
    held = engine.submit(Request(prompt=PROMPTS[0], max_new_tokens=6, hold=True))
    _run(engine, [held])
    first = list(held.tokens)
    other = engine.submit(Request(prompt=PROMPTS[1], max_new_tokens=6))
    _run(engine, [other])
    assert other.tokens == _greedy(params, PROMPTS[1], 6)
    engine.resume(held, keep=6)
    _run(engine, [held])
    assert held.tokens[:6] == first
    assert held.tokens == _greedy(params, PROMPTS[0], 12)
    assert engine.counters.prefilled_twice == len(PROMPTS[0]) + 5


def test_a_stop_token_that_comes_first_ends_that_chain_alone(params):
    first = _greedy(params, PROMPTS[0], 1)[0]
    engine = _engine(params, slots=2, stop_ids=[first])
    ended, other = _run(
        engine, [engine.submit(Request(prompt=p, max_new_tokens=6)) for p in PROMPTS[:2]]
    )
    assert ended.tokens == [first]
    assert ended.finish == "eos"
    assert len(ended.stats["logprob"]) == 1
    plain = _greedy(params, PROMPTS[1], 6)
    assert other.tokens == (plain[: plain.index(first) + 1] if first in plain else plain)


def test_stop_tokens_and_stop_texts_end_a_chain(params):
    prompt = PROMPTS[0]
    plain = _greedy(params, prompt, 12)
    engine = _engine(params, stop_ids=[plain[3]])
    (chain,) = _run(engine, [engine.submit(Request(prompt=prompt, max_new_tokens=12))])
    end = plain.index(plain[3]) + 1
    assert chain.finish == "eos"
    assert chain.tokens == plain[:end]

    # Every token is four letters; the stop text begins inside one token and ends in the next.
    def spell(token):
        return f"{token:04x}".encode()

    text = b"".join(map(spell, plain)).decode()
    stop = text[14:18]
    cut = text.index(stop)
    engine = _engine(params, token_bytes=spell)
    (chain,) = _run(
        engine, [engine.submit(Request(prompt=prompt, max_new_tokens=12, stop=(stop,)))]
    )
    assert chain.finish == "stop"
    assert chain.tokens == plain[: cut // 4]
    assert chain.tail.decode() == text[cut // 4 * 4 : cut]
    assert len(chain.stats["entropy"]) == len(chain.tokens)


def test_a_nan_ends_its_own_chain_and_no_other(params):
    poison = 17
    # Untied, so that the bad row of the embedding meets only those who read it.
    bad = params | {"embed": params["embed"].at[poison].set(jnp.nan), "unembed": params["embed"]}
    engine = Engine(CONFIG.replace(tied=False), bad, slots=2, max_length=20)
    sick = engine.submit(Request(prompt=(4, poison), max_new_tokens=5))
    well = engine.submit(Request(prompt=(4, 5), max_new_tokens=5))
    _run(engine, [sick, well])
    assert sick.finish == "nan"
    assert sick.tokens == []
    assert well.finish == "length"
    assert well.tokens == _greedy(params, (4, 5), 5)
    # What it left behind in its slot does not reach the next one there.
    later = [engine.submit(Request(prompt=(4, 5), max_new_tokens=5)) for _ in range(2)]
    _run(engine, later)
    assert [c.tokens for c in later] == [well.tokens] * 2


def test_captured_statistics_are_of_the_distribution_asked_for(params):
    options = {"prompt": PROMPTS[0], "max_new_tokens": 6}
    for capture, temperature in (("raw", 1.0), ("processed", 0.5)):
        engine = _engine(params, capture=capture)
        chain = engine.submit(Request(**options, sampling=Sampling(temperature=0.5)))
        _run(engine, [chain])
        logits = _logits(params, [*PROMPTS[0], *chain.tokens])[len(PROMPTS[0]) - 1 : -1]
        np.testing.assert_allclose(
            chain.stats["logprob"], _logprobs(logits / temperature, chain.tokens), atol=1e-5
        )


def test_what_cannot_be_done_is_refused_by_name(params):
    engine = _engine(params)
    with pytest.raises(ValueError, match="max_length=100"):
        engine.submit(Request(prompt=tuple(range(90)), max_new_tokens=11))
    with pytest.raises(ValueError, match="empty"):
        Request(prompt=(), max_new_tokens=1)
    with pytest.raises(ValueError, match="token_bytes"):
        engine.submit(Request(prompt=(1,), max_new_tokens=1, stop=("x",)))
    chain = engine.submit(Request(prompt=(1, 2), max_new_tokens=3))
    with pytest.raises(ValueError, match="has ended"):
        engine.resume(chain, keep=0)
    _run(engine, [chain])
    with pytest.raises(ValueError, match="keep=4"):
        engine.resume(chain, keep=4)
    with pytest.raises(ValueError, match="capture"):
        _engine(params, capture="cooked")


def test_shapes_compiled_are_bounded_by_the_buckets(params):
    for program in (
        programs.decode,
        programs.prefill,
        engine_module._insert,
        engine_module._resize,
    ):
        program.clear_cache()
    engine = _engine(params, slots=8, max_length=240, chunk=8)
    rng = np.random.default_rng(0)
    chains = [
        engine.submit(
            Request(
                prompt=tuple(rng.integers(1, 50, size=rng.integers(1, 180))),
                max_new_tokens=int(rng.integers(1, 12)),
                sampling=Sampling(temperature=i % 2, top_k=i % 9),
                problem=i,
            )
        )
        for i in range(200)
    ]
    _run(engine, chains)
    assert engine.program_bound == {"decode": 3, "prefill": 4}  # 128, 192, 256; 32, 64, 128, 256
    assert programs.decode._cache_size() <= 3
    assert programs.prefill._cache_size() <= 4
    assert engine_module._insert._cache_size() <= 3 * 4
    assert engine_module._resize._cache_size() <= 3 * 2
