"""A small engine, and what it is held to: a loop that reads the whole sequence for every token."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from leco_jax.decoding.engine import Engine
from leco_jax.models import transformer
from leco_jax.models.architectures import preset
from leco_jax.models.attention import causal_attend
from leco_jax.models.llama import Llama

CONFIG = preset("tiny")
STATS = ("logprob", "entropy", "self_certainty")
PROMPTS = [(5, 9, 2), (7,), tuple(range(1, 40)), (3, 3, 3, 8, 1)]


def make_engine(params, config=CONFIG, **options):
    model = Llama(config, params=params)
    return Engine(model, **({"slots": 4, "max_length": 100, "stats": STATS} | options))


def run(engine, chains):
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


def logits_of(params, tokens, config=CONFIG):
    padded = np.zeros((1, 128), np.int32)  # behind the tokens: nothing before sees it
    padded[0, : len(tokens)] = tokens
    return np.asarray(_all_logits(params, padded, config)[: len(tokens)], np.float64)


def greedy(params, prompt, count, config=CONFIG):
    tokens = list(prompt)
    for _ in range(count):
        tokens.append(int(np.argmax(logits_of(params, tokens, config)[-1])))
    return tokens[len(prompt) :]


def logprobs(logits, tokens):
    shifted = logits - logits.max(-1, keepdims=True)
    logp = shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
    return logp[np.arange(len(tokens)), tokens]


def spell(token):
    """Every token is four letters."""
    return f"{token:04x}".encode()
