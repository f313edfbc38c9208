import copy
from fractions import Fraction

import pytest

from leco_jax.datasets.problem import Problem
from leco_jax.decoding.request import Sampling
from leco_jax.evaluation.experiment_config import ExperimentConfig, Generation
from leco_jax.evaluation.questions import common_prefix, make_questions, without_prefix
from leco_jax.examples import bundled_path
from leco_jax.text.prompts import COMPLEX_DEMONSTRATIONS, SYSTEM_PROMPT, few_shot_prefix
from leco_jax.text.tokenizer import load_tokenizer

PROBLEMS = [
    Problem(id=f"p/{i}", question=text, answer=Fraction(i), gold=str(i))
    for i, text in enumerate(["Mia has 3 pens. How many?", "Tom has 12 coins. How many?"])
]


@pytest.fixture(scope="module")
def tokenizer():
    return load_tokenizer(bundled_path("arithmetic-1m"))


def _config(prompt, **fields):
    return ExperimentConfig(prompt=prompt, **fields)


def test_a_model_of_our_own_is_asked_as_it_was_trained(tokenizer):
    first, second = make_questions(PROBLEMS, tokenizer, _config("question"))
    # The template of configs/sft_arithmetic.py.
    trained = tokenizer.encode(f"Question: {PROBLEMS[0].question}\nAnswer:\n")
    assert first.request.prompt == (tokenizer.bos_id, *trained)
    assert first.request.stop == ("\nQuestion:",)
    assert (first.id, first.gold, second.gold) == ("p/0", 0, 1)
    assert first.text == PROBLEMS[0].question
    assert first.request.problem != second.request.problem


TURNS = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}<assistant>"
REFUSES = "{% if messages[0].role == 'system' %}{{ raise_exception('no system') }}{% endif %}"
IGNORES = "{% set messages = messages | selectattr('role', 'ne', 'system') | list %}"


@pytest.mark.parametrize("before", ["", REFUSES, IGNORES], ids=["takes", "refuses", "ignores"])
def test_instructions_stand_before_the_question_where_there_is_no_system_turn(tokenizer, before):
    spoken = copy.copy(tokenizer)
    spoken.chat_template = before + TURNS
    request = make_questions(PROBLEMS, spoken, _config("chat"))[0].request
    if before:
        text = f"<user>{SYSTEM_PROMPT}\n\n{PROBLEMS[0].question}<assistant>"
    else:
        text = f"<system>{SYSTEM_PROMPT}<user>{PROBLEMS[0].question}<assistant>"
    assert list(request.prompt) == tokenizer.encode(text, allow_special=True)


def test_a_template_that_refuses_everything_says_so(tokenizer):
    spoken = copy.copy(tokenizer)
    spoken.chat_template = "{{ raise_exception('never') }}"
    with pytest.raises(ValueError, match="never"):
        make_questions(PROBLEMS, spoken, _config("chat"))


def test_few_shot_puts_the_same_examples_before_every_question(tokenizer):
    questions = make_questions(PROBLEMS, tokenizer, _config("few_shot"))
    examples = tokenizer.encode(few_shot_prefix(), add_bos=True)
    prefix = common_prefix([q.request.prompt for q in questions])
    assert list(prefix[: len(examples)]) == examples
    for question, problem in zip(questions, PROBLEMS, strict=True):
        rest = without_prefix(question, len(examples)).request.prompt
        text = tokenizer.decode(rest, continuation=True)
        assert text == f"\nQuestion: {problem.question}\nAnswer:\n"


def test_complex_examples_are_longer_ones(tokenizer):
    question = make_questions(PROBLEMS, tokenizer, _config("few_shot_complex"))[0]
    examples = tokenizer.encode(few_shot_prefix(COMPLEX_DEMONSTRATIONS), add_bos=True)
    assert list(question.request.prompt[: len(examples)]) == examples
    assert len(examples) > len(tokenizer.encode(few_shot_prefix(), add_bos=True))


def test_the_sampling_of_the_config_is_that_of_the_request(tokenizer):
    generation = Generation(max_new_tokens=9, temperature=0.5, top_k=3, top_p=0.9)
    config = _config("question", seed=7, generation=generation)
    request = make_questions(PROBLEMS, tokenizer, config)[0].request
    assert (request.seed, request.max_new_tokens, request.sample) == (7, 9, 0)
    assert request.sampling == Sampling(temperature=0.5, top_k=3, top_p=0.9)


@pytest.mark.parametrize(
    ("rows", "prefix"),
    [
        ([], ()),
        ([(1, 2, 3)], (1, 2)),  # something is left for every row
        ([(1, 2, 3), (1, 2, 4), (1, 2)], (1,)),
        ([(1, 2, 3), (1, 2, 4)], (1, 2)),
        ([(5, 2), (4, 2)], ()),
    ],
)
def test_common_prefix(rows, prefix):
    assert common_prefix(rows) == prefix
