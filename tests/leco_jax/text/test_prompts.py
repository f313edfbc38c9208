import re
from fractions import Fraction

import pytest

from leco_jax.text.answers import answers_equal, extract_answer
from leco_jax.text.gold import read_gold
from leco_jax.text.prompts import (
    COMPLEX_DEMONSTRATIONS,
    DEMONSTRATIONS,
    FEW_SHOT_STOP,
    SYSTEM_PROMPT,
    box_instruction,
    chat_messages,
    demonstrations_of,
    few_shot_prefix,
    few_shot_prompt,
    few_shot_question,
    reprompt,
    step_lines,
    system_prompt,
)
from leco_jax.text.steps import split_steps

EQUATION = re.compile(r"([0-9]+(?: [-+*/] [0-9]+)+) = ([0-9]+)")


def value_of(expression):
    """Left to right, which is right for the chains of * and / and the single + and - used here."""
    first, *rest = expression.split(" ")
    value = Fraction(first)
    for operator, number in zip(rest[::2], rest[1::2], strict=True):
        number = Fraction(number)
        value = {
            "+": lambda a, b: a + b,
            "-": lambda a, b: a - b,
            "*": lambda a, b: a * b,
            "/": lambda a, b: a / b,
        }[operator](value, number)
    return value


@pytest.mark.parametrize(
    ("demonstrations", "least"), [(DEMONSTRATIONS, 3), (COMPLEX_DEMONSTRATIONS, 8)]
)
def test_there_are_eight_demonstrations_and_their_arithmetic_is_right(demonstrations, least):
    assert len(demonstrations) == 8
    for demonstration in demonstrations:
        assert len(demonstration.steps) >= least
        *steps, last = demonstration.steps
        equations = [EQUATION.search(step) for step in steps]
        assert all(equations), demonstration
        for equation in equations:
            assert value_of(equation[1]) == Fraction(equation[2])
        assert equations[-1][2] == demonstration.answer
        assert last == f"The answer is \\boxed{{{demonstration.answer}}}."
        text = step_lines(demonstration.steps)
        assert answers_equal(extract_answer(text), Fraction(demonstration.answer))


def test_few_shot_layout():
    prompt = few_shot_prompt(" How many? \n", DEMONSTRATIONS[:2])
    blocks = prompt.split("\n\n")
    assert len(blocks) == 3
    assert blocks[-1] == "Question: How many?\nAnswer:\n"
    assert re.fullmatch(r"Question: .*\nAnswer:\nStep 1: .*\nStep 2: .*\nStep 3: .*", blocks[0])
    assert prompt.count(FEW_SHOT_STOP) == 2
    assert few_shot_prompt("How many?", ()) == "Question: How many?\nAnswer:\n"


def test_prefix_is_shared_and_cut_where_the_tokenizer_cuts(byte_level):
    prefix = byte_level.encode(few_shot_prefix())
    for question in ("How many?", "3 pens\nor 4?"):
        rest = byte_level.encode(few_shot_question(question))
        assert prefix + rest == byte_level.encode(few_shot_prompt(question))
        # The response begins on its own line, in the prompt as in the examples.
        response = byte_level.encode("Step 1: 3 pens.")
        assert prefix + rest + response == byte_level.encode(
            few_shot_prompt(question) + "Step 1: 3 pens."
        )


def test_demonstrations_split_into_their_steps(byte_level):
    steps = split_steps(byte_level.encode(step_lines(DEMONSTRATIONS[1].steps)), byte_level)
    assert [text.partition(": ")[2] for text in steps.texts] == list(DEMONSTRATIONS[1].steps)


def test_chat_asks_for_steps_and_a_box():
    messages = chat_messages(" How many? ")
    assert [m["role"] for m in messages] == ["system", "user"]
    assert messages[1]["content"] == "How many?"
    assert "Step 1:" in SYSTEM_PROMPT
    assert "\\boxed{" in SYSTEM_PROMPT
    assert [m["role"] for m in chat_messages("How many?", system=None)] == ["user"]


@pytest.mark.parametrize(
    ("kept", "label"),
    [
        ([], "Step 1:"),
        (["Step 1: 3 pens."], "Step 2:"),
        (["Let us see.", "Step 1: 3 pens."], "Step 2:"),
        (["3 pens.", "4 pens."], "Step 3:"),
        (["Step 7: 3 pens."], "Step 8:"),
    ],
)
def test_label_layout_is_the_next_label(kept, label):
    assert reprompt(kept, layout="label") == label


def test_instruction_layout_puts_the_instruction_on_a_line_of_its_own():
    text = reprompt(["Step 1: 3 pens."], layout="instruction")
    assert text == f"\n{box_instruction()}\n"
    assert reprompt([], layout="instruction") == f"{box_instruction()}\n"
    assert extract_answer(text) is None  # the instruction must not be read as an answer


def test_an_unknown_layout_is_refused():
    with pytest.raises(ValueError, match="'letter'"):
        reprompt([], layout="letter")


@pytest.mark.parametrize("kind", ["choice", "yes_no", "date", "official_w2s_number"])
def test_the_examples_of_a_kind_give_answers_of_that_kind(kind):
    examples = demonstrations_of(kind)
    assert len(examples) >= 3
    for example in examples:
        text = step_lines(example.steps)
        kind = kind.removeprefix("official_w2s_")
        assert extract_answer(text, kind=kind) == read_gold(example.answer, kind=kind)


def test_instructions_ask_for_the_kind_of_answer():
    assert "the letter of the right option" in system_prompt("choice")
    assert "give yes or no as" in reprompt([], layout="instruction", kind="yes_no")
    assert system_prompt("official_w2s_latex") == system_prompt("latex") != SYSTEM_PROMPT
    with pytest.raises(ValueError, match="'choice' have no complex examples"):
        demonstrations_of("choice", complex_ones=True)
