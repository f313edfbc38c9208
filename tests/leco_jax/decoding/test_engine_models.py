"""Roll-back of every kind of model against a loop that reads the whole sequence for every token."""

import jax
import numpy as np
import pytest

from leco_jax.decoding.request import Request
from leco_jax.models.config import RopeConfig
from leco_jax.models.weights import init_params
from tests.leco_jax.decoding.plain_loop import (
    CONFIG,
    greedy,
    logits_of,
    logprobs,
    make_engine,
    run,
)

PROMPT = tuple(range(1, 18))
PREFIX = (50, 60, 70)

_GEMMA2 = CONFIG.replace(
    scale_embedding=True, norm_plus_one=True, activation="gelu_tanh", norms="both",
    sliding_window=6, global_every=2, attention_soft_cap=1.0, logit_soft_cap=2.0, score_width=40,
)  # fmt: skip
CONFIGS = {
    "qwen3": CONFIG.replace(qk_norm="head"),
    "gemma2": _GEMMA2,
    "gemma3": _GEMMA2.replace(
        qk_norm="head", num_layers=3, local_rope_theta=50.0, attention_soft_cap=None
    ),
    "olmo2": CONFIG.replace(qk_norm="projection", norms="after"),
    "smollm3, yarn": CONFIG.replace(
        no_rope_every=2, rope=RopeConfig(scaling="yarn", factor=4.0, original_max_positions=64)
    ),
}


@pytest.mark.heavy
@pytest.mark.parametrize("name", CONFIGS)
def test_a_chain_that_is_rolled_back_goes_on_as_if_read_anew(name):
    config = CONFIGS[name]
    params = init_params(config, jax.random.key(7))
    engine = make_engine(params, config, prefix=PREFIX)
    chain = engine.submit(Request(prompt=PROMPT, max_new_tokens=8, hold=True))
    run(engine, [chain])
    first = list(chain.tokens)
    assert first == greedy(params, (*PREFIX, *PROMPT), 8, config)

    engine.resume(chain, keep=3, append=(8, 6, 7))
    run(engine, [chain])
    known = (*first[:3], 8, 6, 7)
    assert chain.tokens == [*known, *greedy(params, (*PREFIX, *PROMPT, *known), 8, config)]
    logits = logits_of(params, [*PREFIX, *PROMPT, *chain.tokens], config)
    logits = logits[len(PREFIX) + len(PROMPT) - 1 : -1]
    np.testing.assert_allclose(chain.stats["logprob"], logprobs(logits, chain.tokens), atol=1e-5)
    assert engine.counters.prefilled == len(PROMPT) - 1
