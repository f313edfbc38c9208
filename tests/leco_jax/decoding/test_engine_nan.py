"""A model whose weights hold a NaN: what it ends, and what it leaves alone."""

import jax.numpy as jnp
import numpy as np
import pytest

from leco_jax.decoding.engine import Engine
from leco_jax.decoding.request import Request, Sampling
from leco_jax.models.llama import Llama
from tests.leco_jax.decoding.plain_loop import CONFIG, greedy, run, spell
from tests.leco_jax.reasoning.scripted import scripted_model


@pytest.mark.heavy
def test_a_nan_ends_its_own_chain_and_no_other(params):
    poison = 17
    # Untied, so that the bad row of the embedding meets only those who read it.
    bad = params | {"embed": params["embed"].at[poison].set(jnp.nan), "unembed": params["embed"]}
    engine = Engine(Llama(CONFIG.replace(tied=False), params=bad), slots=2, max_length=20)
    sick = engine.submit(Request(prompt=(4, poison), max_new_tokens=5))
    well = engine.submit(Request(prompt=(4, 5), max_new_tokens=5))
    run(engine, [sick, well])
    assert sick.finish == "nan"
    assert sick.tokens == []
    assert well.finish == "length"
    assert well.tokens == greedy(params, (4, 5), 5)
    # What it left behind in its slot does not reach the next one there.
    later = [engine.submit(Request(prompt=(4, 5), max_new_tokens=5)) for _ in range(2)]
    run(engine, later)
    assert [c.tokens for c in later] == [well.tokens] * 2


# Each token has one that follows it; reading 4 is not to be survived.
WAY = {1: 2, 2: 3, 3: 4, 5: 6, 6: 7, 7: 5}


@pytest.fixture(scope="module")
def poisoned():
    model = scripted_model(12, {a: {b: 0.9} for a, b in WAY.items()})
    model.embed[...] = model.embed[...].at[4].set(jnp.nan)
    return model


@pytest.mark.heavy
@pytest.mark.parametrize("hold", [False, True])
def test_a_nan_behind_a_stop_text_stays_with_its_chain(poisoned, hold):
    engine = Engine(poisoned, slots=1, max_length=60, token_bytes=spell)
    request = Request(prompt=(5, 1), max_new_tokens=8, stop=(spell(3).decode(),), hold=hold)
    chain = engine.submit(request)
    run(engine, [chain])
    # The chunk went on past the stop text, into the poison.
    assert (chain.finish, chain.tokens) == ("stop", [2])
    if hold:
        engine.resume(chain, keep=1, append=(6,))
        run(engine, [chain])
        assert (chain.finish, chain.tokens) == ("length", [2, 6, 7, 5, 6, 7, 5, 6, 7, 5])
        engine.release(chain)
    # A prompt of one token prefills nothing over what is there.
    later = engine.submit(Request(prompt=(5,), max_new_tokens=8))
    run(engine, [later])
    assert (later.finish, later.tokens) == ("length", [6, 7, 5, 6, 7, 5, 6, 7])


@pytest.mark.heavy
@pytest.mark.parametrize("temperature", [0.0, 0.01])
def test_a_nan_in_the_midst_ends_a_chain_with_what_came_before(poisoned, temperature):
    engine = Engine(poisoned, slots=2, max_length=60, token_bytes=spell, chunk=2)
    sampling = Sampling(temperature=temperature, top_k=3)
    request = Request(prompt=(1,), max_new_tokens=6, sampling=sampling, stop=("never",), hold=True)
    chain = engine.submit(request)
    run(engine, [chain])
    assert (chain.finish, chain.tokens) == ("nan", [2, 3, 4])
    engine.resume(chain, keep=2, append=(6,))
    run(engine, [chain])
    assert (chain.finish, chain.tokens) == ("length", [2, 3, 6, 7, 5, 6, 7, 5, 6])
    assert np.isfinite(chain.stats["logprob"]).all()


@pytest.mark.heavy
def test_a_nan_among_given_tokens_ends_the_chain_before_it_is_scored(poisoned):
    engine = Engine(poisoned, slots=1, max_length=60, chunk=4)
    chain = engine.submit(Request(prompt=(1,), max_new_tokens=1, hold=True))
    run(engine, [chain])
    engine.resume(chain, keep=1, append=(4, 5, 6))
    run(engine, [chain])
    assert (chain.finish, chain.tokens) == ("nan", [2, 4])
    assert np.isfinite(chain.stats["logprob"]).all()
