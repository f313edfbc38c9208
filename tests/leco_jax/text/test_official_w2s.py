"""Figures worked out by hand from the published programs' rules, quirks included."""

import pytest

from leco_jax.text.answers import answers_equal, read_answer
from leco_jax.text.gold import read_gold
from leco_jax.text.official_w2s import normal_form


@pytest.mark.parametrize(
    ("response", "value"),
    [
        ("2 + 3 = 5\n#### 5", "5"),
        ("  #### 1,234.00  \n", "1,234.00"),  # the comma is dropped from whole numbers alone
        ("#### 1,234", "1234"),
        ("#### 5\nThat is all.", None),  # only the last line counts
        ("#### 5 #### 6", "5####6"),
        ("####5", None),  # the space is needed
        ("It is so.\nThe answer is 1,234.5.", "1234.5"),
        ("The answer is $18. ", "18"),
        ("The answer is \\boxed{18}", "18"),
        ("The answer is -5 or 6", "-5"),
        ("#### 5\nQuestion: what?\n#### 6", "5"),
        ("#### 18 apples</s>", "18apples"),
        ("#### 1</s>8", "1<"),  # four characters are cut, wherever the sign stands
        ("The answer is unknown", None),
        ("", None),
    ],
)
def test_answers_of_gsm8k(response, value):
    assert read_answer(response, kind="number", grader="official_w2s").value == value


@pytest.mark.parametrize(
    ("response", "value"),
    [
        (r"So. The answer is: $\frac12$.", r"\frac{1}{2}"),
        (r"The answer is: \dfrac{1}{2}", r"\dfrac{1}{2}"),
        ("The answer is: x = 5", "5"),
        (r"The answer is: 90^\circ", "90"),
        (r"The answer is: \text{(C)}", "(C)"),
        ("The answer is: C", "c"),
        ("The answer is: 0.50", "0.50"),
        ("The answer is 7", "7"),
    ],
)
def test_answers_of_math(response, value):
    assert read_answer(response, kind="latex", grader="official_w2s").value == value


@pytest.mark.parametrize(
    ("text", "form"),
    [
        ("a = b = 3", "3"),
        (r"\$5", "5"),
        ("25 dollars", "25"),
        (r"10\%", "10"),
        ("12.5%", "12.5%"),
        (r"\mbox{5 cm}", "5"),
        (r"12,\text{and}13", "1213"),
        (r"7\text{m}", "7"),
        (r"\sqrt3x", r"\sqrt{3}x"),
        (r"\frac ab", r"\frac{a}{b}"),
        (r"\textbf{B}", "b"),
        (r"\overline{AB}", "AB"),
        (r"\boxed{x{1}}", "x{1}"),
        ("3.0", "3"),
        ("-3.0", "-3.0"),
        ("18.00", "18"),
        ("10,000", "10000"),
        ("(1, 2)", "(1,2)"),
        ("5.$", "5"),
        (r"5\ldots", "5"),
        ("an apple", "apple"),
        ("issue", "is"),
    ],
)
def test_normal_form(text, form):
    assert normal_form(text) == form


def test_equality_is_of_strings():
    def read(text):
        return read_gold(text, kind="latex", grader="official_w2s")

    def same(a, b):
        return answers_equal(read(a), read(b), kind="latex", grader="official_w2s")

    assert same("1,000", "1000")
    assert not same("0.5", r"\frac{1}{2}")
    assert not same("0.50", "0.5")
