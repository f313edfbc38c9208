from fractions import Fraction

import pytest

from leco_jax.text.answers import (
    ANSWER_KINDS,
    AnswerKind,
    answer_kind,
    answers_equal,
    extract_answer,
    format_answer,
    read_answer,
    register_answer_kind,
)
from leco_jax.text.parsed_answer import ParsedAnswer


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


def _colour(text):
    return ParsedAnswer(value=text.strip())


@pytest.mark.parametrize(
    ("response", "value", "text", "problem"),
    [
        ("So \\boxed{18} it is.", 18, "18", None),
        ("\\boxed{(1, 5)}", None, "(1, 5)", "the box does not hold one number"),
        ("#### 7 or 8", None, "7 or 8", 'the line "####" does not hold one number'),
        ("The answer is 2 + 3.", None, "2 + 3", "the answer is an expression"),
        ("2 + 3 = 5 apples", 5, "2 + 3 = 5 apples", None),
        (
            "That is 3 * 4",
            None,
            "That is 3 * 4",
            "the last line with a number ends in an expression",
        ),
        ("I do not know.", None, "", "there is no number"),
    ],
)
def test_a_reading_says_what_was_read_and_why_not(response, value, text, problem):
    answer = read_answer(response)
    assert (answer.value, answer.text, answer.problem) == (value, text, problem)


def test_graders():
    assert extract_answer("#### 1,234", grader="official_w2s") == "1234"
    assert extract_answer("The answer is: $x$", kind="latex", grader="official_w2s") == "x"
    assert answer_kind("official_w2s_number", grader="official_w2s").name == "official_w2s_number"
    with pytest.raises(
        ValueError, match=r"no grader 'theirs'; known are \['official_w2s', 'ours'\]"
    ):
        extract_answer("5", grader="theirs")


def test_kinds():
    assert answer_kind("number").name == "number"
    with pytest.raises(ValueError, match=r"no answer kind 'colour'; known are \[.*'number'"):
        extract_answer("red", kind="colour")
    with pytest.raises(ValueError, match="already"):
        register_answer_kind(ANSWER_KINDS["number"])
    colour = AnswerKind(
        name="colour", read=_colour, read_gold=_colour, equal=str.__eq__, format=str
    )
    try:
        register_answer_kind(colour)
        assert answers_equal(extract_answer(" red", kind="colour"), "red", kind="colour")
        with pytest.raises(
            ValueError, match="'official_w2s' grades number and latex, not 'colour'"
        ):
            answer_kind("colour", grader="official_w2s")
    finally:
        del ANSWER_KINDS["colour"]
