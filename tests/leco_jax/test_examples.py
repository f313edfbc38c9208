"""The small reasoner that comes with the package."""

import itertools

import jax
import jax.numpy as jnp
import pytest

from leco_jax.datasets.chain_generator import problems
from leco_jax.decoding.engine import Engine
from leco_jax.decoding.request import Request
from leco_jax.examples import BUNDLED, bundled_path
from leco_jax.models.architectures import preset
from leco_jax.models.loading import load_model
from leco_jax.text.number_answers import extract_number
from leco_jax.text.prompts import few_shot_prompt
from leco_jax.text.steps import split_steps
from w2s_jax.training.data.vocabulary import train_vocabulary

NAME = "arithmetic-1m"


@pytest.fixture(scope="module")
def model():
    return load_model(NAME, dtype="float32")


def _prompt(tokenizer, problem):
    return tokenizer.encode(few_shot_prompt(problem.question, ()), add_bos=tokenizer.wants_bos)


@pytest.mark.parametrize("name", BUNDLED)
def test_a_bundled_model_is_small_enough_to_ship(name):
    files = [path for path in bundled_path(name).iterdir() if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= 8_000_000


@pytest.mark.heavy
def test_it_is_the_preset_that_its_config_trains(model):
    fields = {"param_dtype": "float32", "dtype": "float32"}
    assert model.config == preset("arithmetic_1m", **fields)
    assert sum(x.size for x in jax.tree.leaves(model.params)) <= 3_000_000
    assert all(jnp.isfinite(x).all() for x in jax.tree.leaves(model.params))
    assert model.tokenizer.wants_bos


@pytest.mark.heavy
def test_it_solves_most_problems_in_steps(model):
    # benchmarks/arithmetic_model.py has the accuracy itself; 24 problems have an error of 9 %.
    tokenizer = model.tokenizer
    asked = list(itertools.islice(problems("test"), 24))
    engine = Engine(model.model, slots=24, max_length=320, stop_ids=tokenizer.eos_ids)
    chains = [
        engine.submit(Request(prompt=tuple(_prompt(tokenizer, p)), max_new_tokens=160))
        for p in asked
    ]
    while engine.busy:
        engine.step()
    texts = [tokenizer.decode(c.tokens, skip_special=True, continuation=True) for c in chains]
    right = [extract_number(t) == p.answer for t, p in zip(texts, asked, strict=True)]
    assert sum(right) / len(right) >= 0.55
    # It writes what the step splitter reads: one step per equation and one with the answer.
    for chain, problem, ok in zip(chains, asked, right, strict=True):
        if ok:
            steps = split_steps(chain.tokens, tokenizer)
            assert len(steps) == len(problem.steps) + 1
            assert steps.texts[0].startswith("Step 1: ")


@pytest.mark.slow
def test_its_vocabulary_can_be_made_again(model):
    # launchers/vocabulary.py with its defaults.
    asked = itertools.islice(problems("train"), 20_000)
    texts = ((few_shot_prompt(p.question, ()), p.chain()) for p in asked)
    made = train_vocabulary(itertools.chain.from_iterable(texts), size=model.tokenizer.vocab_size)
    assert made == (bundled_path(NAME) / "tokenizer.model").read_bytes()
