"""The engine against a plain loop that reads the whole sequence again for every token."""

import jax.numpy as jnp
import numpy as np
import pytest

from leco_jax import scoring
from leco_jax.decoding.engine import Engine
from leco_jax.decoding.request import Request, Sampling
from leco_jax.models.llama import Llama
from tests.leco_jax.decoding.plain_loop import (
    CONFIG,
    PROMPTS,
    STATS,
    greedy,
    logits_of,
    logprobs,
    make_engine,
    run,
    spell,
)


@pytest.mark.heavy
def test_greedy_tokens_and_their_log_probabilities_are_those_of_a_plain_loop(params):
    engine = make_engine(params)
    chains = run(engine, [engine.submit(Request(prompt=p, max_new_tokens=11)) for p in PROMPTS])
    for prompt, chain in zip(PROMPTS, chains, strict=True):
        assert chain.tokens == greedy(params, prompt, 11)
        assert chain.finish == "length"
        logits = logits_of(params, [*prompt, *chain.tokens])[len(prompt) - 1 : -1]
        np.testing.assert_allclose(
            chain.stats["logprob"], logprobs(logits, chain.tokens), atol=1e-5
        )
        assert all(len(chain.stats[name]) == 11 for name in STATS)
    assert engine.counters.prefilled == sum(len(p) - 1 for p in PROMPTS)


@pytest.mark.heavy
def test_a_sliding_window_and_a_prefix_change_nothing_but_the_work(params):
    config = CONFIG.replace(sliding_window=6)
    prefix = tuple(range(10, 23))
    for prompt in ((4, 5), tuple(range(30, 49))):
        engine = Engine(Llama(config, params=params), slots=2, max_length=64, prefix=prefix)
        (chain,) = run(engine, [engine.submit(Request(prompt=prompt, max_new_tokens=9))])
        assert chain.tokens == greedy(params, (*prefix, *prompt), 9, config)
        assert engine.counters.prefilled == len(prompt) - 1


@pytest.mark.heavy
@pytest.mark.parametrize("temperature", [0.0, 0.9])
def test_a_chain_does_not_depend_on_its_company(params, temperature):
    def request(i, prompt):
        return Request(
            prompt=prompt, max_new_tokens=20, problem=i,
            sampling=Sampling(temperature=temperature, top_p=0.9), seed=3,
        )  # fmt: skip

    alone = []
    for i, prompt in enumerate(PROMPTS):
        engine = make_engine(params, slots=1)
        alone += run(engine, [engine.submit(request(i, prompt))])
    # Two slots for four requests: later ones are put into slots that others have left.
    engine = make_engine(params, slots=2, chunk=5)
    together = run(engine, [engine.submit(request(i, p)) for i, p in enumerate(PROMPTS)])
    for a, b in zip(alone, together, strict=True):
        assert a.tokens == b.tokens
        np.testing.assert_allclose(a.stats["logprob"], b.stats["logprob"], atol=1e-5)


@pytest.mark.heavy
def test_seed_problem_sample_and_round_each_change_what_is_drawn(params):
    engine = make_engine(params, slots=6)
    hot = Sampling(temperature=1.5)
    base = {"prompt": PROMPTS[0], "max_new_tokens": 16, "sampling": hot}
    variants = [{}, {}, {"seed": 1}, {"problem": 1}, {"sample": 1}]
    first, again, *others = run(
        engine, [engine.submit(Request(**base, **v, hold=True)) for v in variants]
    )
    assert first.tokens == again.tokens
    drawn = [tuple(c.tokens) for c in (first, *others)]
    assert len(set(drawn)) == 4
    before = list(first.tokens)
    engine.resume(first, keep=0)
    run(engine, [first])
    assert first.tokens != before


@pytest.mark.heavy
def test_roll_back_keeps_what_stood_before_and_prefills_nothing(params):
    engine = make_engine(params)
    request = Request(prompt=PROMPTS[2], max_new_tokens=12, hold=True)
    chain = engine.submit(request)
    run(engine, [chain])
    first = list(chain.tokens)
    prefilled = engine.counters.prefilled

    engine.resume(chain, keep=5)  # greedy from the same place: the same tokens again
    run(engine, [chain])
    assert chain.tokens == first + greedy(params, (*PROMPTS[2], *first), 5)

    engine.resume(chain, keep=4, append=(8, 6, 7, 5, 3, 0, 9, 1, 2, 4))
    run(engine, [chain])
    known = (*first[:4], 8, 6, 7, 5, 3, 0, 9, 1, 2, 4)
    assert chain.tokens == [*known, *greedy(params, (*PROMPTS[2], *known), 12)]
    logits = logits_of(params, [*PROMPTS[2], *chain.tokens])[len(PROMPTS[2]) - 1 : -1]
    np.testing.assert_allclose(chain.stats["logprob"], logprobs(logits, chain.tokens), atol=1e-5)

    logits = logits_of(params, [*PROMPTS[2], *first[:3]])[-1]
    likeliest = [int(token) for token in np.argsort(-logits)]
    for forbidden in (1, 5):  # more than four are a wider program
        engine.resume(chain, keep=3, forbid=likeliest[:forbidden])
        run(engine, [chain])
        assert chain.tokens[:4] == [*first[:3], likeliest[forbidden]]

    assert engine.counters.prefilled == prefilled
    assert engine.counters.prefilled_twice == 0
    assert engine.counters.discarded == 7 + 13 + 23 + 12
    engine.release(chain)


def test_keeping_nothing_starts_again_at_the_prompt(params):
    engine = make_engine(params)
    chain = engine.submit(Request(prompt=(7,), max_new_tokens=4, hold=True))
    run(engine, [chain])
    first = list(chain.tokens)
    engine.resume(chain, keep=0)
    run(engine, [chain])
    assert chain.tokens == first


@pytest.mark.heavy
def test_a_stop_token_that_comes_first_ends_that_chain_alone(params):
    first = greedy(params, PROMPTS[0], 1)[0]
    engine = make_engine(params, slots=2, stop_ids=[first])
    ended, other = run(
        engine, [engine.submit(Request(prompt=p, max_new_tokens=6)) for p in PROMPTS[:2]]
    )
    assert ended.tokens == [first]
    assert ended.finish == "eos"
    assert len(ended.stats["logprob"]) == 1
    plain = greedy(params, PROMPTS[1], 6)
    assert other.tokens == (plain[: plain.index(first) + 1] if first in plain else plain)


def test_stop_tokens_and_stop_texts_end_a_chain(params):
    prompt = PROMPTS[0]
    plain = greedy(params, prompt, 12)
    engine = make_engine(params, stop_ids=[plain[3]])
    (chain,) = run(engine, [engine.submit(Request(prompt=prompt, max_new_tokens=12))])
    end = plain.index(plain[3]) + 1
    assert chain.finish == "eos"
    assert chain.tokens == plain[:end]

    # Every token is four letters; the stop text begins inside one token and ends in the next.
    text = b"".join(map(spell, plain)).decode()
    stop = text[14:18]
    cut = text.index(stop)
    engine = make_engine(params, token_bytes=spell)
    (chain,) = run(engine, [engine.submit(Request(prompt=prompt, max_new_tokens=12, stop=(stop,)))])
    assert chain.finish == "stop"
    assert chain.tokens == plain[: cut // 4]
    assert chain.tail.decode() == text[cut // 4 * 4 : cut]
    assert len(chain.stats["entropy"]) == len(chain.tokens)
    assert engine.counters.discarded == engine.counters.sampled - len(chain.tokens) > 0


@pytest.mark.heavy
def test_every_statistic_is_that_of_a_forward_pass(params):
    stats = ("logprob", "entropy", "self_certainty", "max_logprob", "topk_logprob")
    for valid_vocab, capture in ((None, "raw"), (200, "processed")):
        config = CONFIG.replace(valid_vocab=valid_vocab)
        engine = Engine(
            Llama(config, params=params),
            slots=3,
            max_length=100,
            stats=stats,
            topk=7,
            capture=capture,
        )
        hot = Sampling(temperature=0.6)
        chain = engine.submit(Request(prompt=PROMPTS[2], max_new_tokens=12, sampling=hot))
        run(engine, [chain])
        logits = logits_of(params, [*PROMPTS[2], *chain.tokens], config)
        want = scoring.token_stats(
            jnp.asarray(logits[len(PROMPTS[2]) - 1 : -1], jnp.float32), jnp.asarray(chain.tokens),
            stats=stats, topk=7, valid_vocab=valid_vocab,
            temperature=0.6 if capture == "processed" else 1.0,
        )  # fmt: skip
        for name in stats:
            np.testing.assert_allclose(
                chain.stats[name], getattr(want, name), atol=2e-5, err_msg=f"{name}, {capture}"
            )


@pytest.mark.heavy
def test_captured_statistics_are_of_the_distribution_asked_for(params):
    options = {"prompt": PROMPTS[0], "max_new_tokens": 6}
    for capture, temperature in (("raw", 1.0), ("processed", 0.5)):
        engine = make_engine(params, capture=capture)
        chain = engine.submit(Request(**options, sampling=Sampling(temperature=0.5)))
        run(engine, [chain])
        logits = logits_of(params, [*PROMPTS[0], *chain.tokens])[len(PROMPTS[0]) - 1 : -1]
        np.testing.assert_allclose(
            chain.stats["logprob"], logprobs(logits / temperature, chain.tokens), atol=1e-5
        )


def test_what_cannot_be_done_is_refused_by_name(params):
    engine = make_engine(params)
    with pytest.raises(ValueError, match="max_length=100"):
        engine.submit(Request(prompt=tuple(range(90)), max_new_tokens=11))
    with pytest.raises(ValueError, match="empty"):
        Request(prompt=(), max_new_tokens=1)
    with pytest.raises(ValueError, match="token_bytes"):
        engine.submit(Request(prompt=(1,), max_new_tokens=1, stop=("x",)))
    chain = engine.submit(Request(prompt=(1, 2), max_new_tokens=3))
    with pytest.raises(ValueError, match="has ended"):
        engine.resume(chain, keep=0)
    run(engine, [chain])
    with pytest.raises(ValueError, match="keep=4"):
        engine.resume(chain, keep=4)
    with pytest.raises(ValueError, match="capture"):
        make_engine(params, capture="cooked")
    with pytest.raises(ValueError, match=r"prefix of 13 tokens .* max_positions=512"):
        make_engine(params, max_length=500, prefix=tuple(range(13)))
    with pytest.raises(ValueError, match="max_positions=512"):
        Engine(Llama(CONFIG, params=params), prefix=(1,) * 511)
    assert Engine(Llama(CONFIG, params=params), slots=1, prefix=(1, 2)).max_length == 510
