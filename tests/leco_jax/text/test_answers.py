from fractions import Fraction

import pytest

from leco_jax.text.answers import (
    ANSWER_KINDS,
    AnswerKind,
    answer_kind,
    answers_equal,
    extract_answer,
    format_answer,
    register_answer_kind,
)


@pytest.mark.parametrize(
    ("a", "b", "same"),
    [
        ("0.50", "1/2", True),
        ("1,000", "1000", True),
        ("1{,}000", "1000", True),
        (r"\frac{1}{2}", "0.5", True),
        ("18.00", "18", True),
        ("0.33", "1/3", False),
        ("18", "-18", False),
        ("x", "x", False),  # no answer equals nothing
    ],
)
def test_equality_is_of_values(a, b, same):
    a, b = (extract_answer(f"\\boxed{{{text}}}") for text in (a, b))
    assert answers_equal(a, b) is same


def test_a_number_from_a_json_gold_equals_an_extracted_one():
    # The published program compares a float with a string, and so never finds SVAMP's answers.
    assert answers_equal(extract_answer("The answer is 145."), 145.0)
    assert answers_equal(extract_answer("The answer is 145."), Fraction(145))


def test_no_answer_equals_nothing():
    assert not answers_equal(None, None)
    assert not answers_equal(None, Fraction(0))
    assert not answers_equal(Fraction(0), None)


def test_format():
    assert format_answer(Fraction(1, 2)) == "0.5"
    assert format_answer(None) is None


def test_kinds():
    assert answer_kind("number").name == "number"
    with pytest.raises(ValueError, match=r"no answer kind 'colour'; known are \['number'\]"):
        extract_answer("red", kind="colour")
    with pytest.raises(ValueError, match="already"):
        register_answer_kind(ANSWER_KINDS["number"])
    colour = AnswerKind(
        name="colour", extract=str.strip, read_gold=str.strip, equal=str.__eq__, format=str
    )
    try:
        register_answer_kind(colour)
        assert answers_equal(extract_answer(" red", kind="colour"), "red", kind="colour")
    finally:
        del ANSWER_KINDS["colour"]
