import itertools

import pytest

from leco_jax.datasets import chain_generator
from leco_jax.datasets.arithmetic_chains import ChainsConfig
from leco_jax.datasets.arithmetic_documents import (
    MOST_EXAMPLES,
    STYLES,
    documents,
    load_arithmetic_documents,
)
from leco_jax.datasets.registry import load_problems
from leco_jax.examples import bundled_path
from leco_jax.text.tokenizer import load_tokenizer


@pytest.fixture(scope="module")
def found():
    return load_arithmetic_documents("validation")


def whole(problem):
    return f"Question: {problem.question}\nAnswer:\n{problem.solution}"


def test_a_document_is_worked_examples_in_one_style_in_the_few_shot_layout(found):
    for problem, (style, problems) in zip(found, documents("validation"), strict=False):
        write = STYLES[style][0]
        blocks = whole(problem).split("\n\n")
        assert len(blocks) == len(problems)
        for block, expected in zip(blocks, problems, strict=True):
            assert block == f"Question: {expected.question}\nAnswer:\n{write(expected)}"


def test_every_style_and_number_of_examples_occurs(found):
    some = list(itertools.islice(documents("train"), 300))
    assert {style for style, _ in some} == set(STYLES)
    assert {len(problems) for _, problems in some} == set(range(1, MOST_EXAMPLES + 1))
    assert found == load_arithmetic_documents("validation")


def test_documents_fit_the_rows_that_the_base_is_trained_on(found):
    tokenizer = load_tokenizer(bundled_path("arithmetic-1m"))
    assert max(len(tokenizer.encode(whole(problem))) for problem in found) < 1024


@pytest.mark.heavy
def test_only_training_arithmetic_occurs_and_no_data_set_shares_its_problems():
    inside = [p for _, problems in itertools.islice(documents("train"), 200) for p in problems]
    assert {chain_generator.split_of(p) for p in inside} == {"train"}
    config = ChainsConfig(train=2_000, unseen=2_000)
    unseen = list(config.problems("unseen"))
    assert {chain_generator.split_of(p) for p in unseen} == {"train"}
    streams = [
        {p.question for p in stream} for stream in (inside, unseen, config.problems("train"))
    ]
    for one, other in itertools.combinations(streams, 2):
        # Easy ones may be drawn twice; a stream that is the same has all in common.
        assert len(one & other) < 0.02 * min(len(one), len(other))


def test_there_is_nothing_to_read_from_a_directory():
    with pytest.raises(ValueError, match=r"arithmetic_documents .* takes no data_dir"):
        load_problems("arithmetic_documents", split="train", data_dir="somewhere")
