"""A small vocabulary and problems for the tests of training data."""

import itertools

import pytest

from leco_jax.datasets.chain_generator import problems
from leco_jax.text.tokenizer import load_tokenizer
from w2s_jax.training.data import Example, Pair
from w2s_jax.training.data.vocabulary import train_vocabulary, write_tokenizer


@pytest.fixture(scope="session")
def texts():
    """Questions with their chains."""
    found = itertools.islice(problems("train"), 200)
    return [(f"Question: {p.question}\nAnswer:\n", p.chain()) for p in found]


@pytest.fixture(scope="session")
def tokenizer(texts, tmp_path_factory):
    """A tokenizer of 560 tokens without a pad token: pads are EOS."""
    directory = tmp_path_factory.mktemp("tokenizer")
    write_tokenizer(train_vocabulary((x for pair in texts for x in pair), size=560), directory)
    found = load_tokenizer(directory)
    assert found.pad_id == found.eos_ids[0]
    return found


@pytest.fixture(scope="session")
def examples(texts):
    """Examples of different lengths."""
    return [Example(f"row {i}", *text) for i, text in enumerate(texts)]


@pytest.fixture(scope="session")
def pairs(texts):
    """Pairs whose rejected side is another problem's chain."""
    return [
        Pair(f"row {i}", prompt, chain, texts[i - 1][1]) for i, (prompt, chain) in enumerate(texts)
    ]
