import json
import time

import pytest

from leco_jax.text.arithmetic_check import arithmetic
from tests.real_data import data_file


@pytest.mark.parametrize(
    ("text", "span", "truth"),
    [
        ("Step 1: 5 * 7 = 36 apples.", "5 * 7 = 36", "35"),
        ("Step 1: The bags hold 5 * 7 = 35.\nStep 2: She has 12 + 35 = 48.", "12 + 35 = 48", "47"),
        ("3 bags x 7 apples/bag = 20 apples", "3 bags x 7 apples/bag = 20", "21"),
        ("80,000+50,000=$<<80000+50000=130000>>130,001", None, "130000"),
        ("He pays $40 * 20% = $9", "40 * 20% = $9", "8"),
        ("3/12 = 24%", "3/12 = 24%", "25"),
        ("10/4 = 3", "10/4 = 3", "2.5"),
        ("10/3 = 3.35", "10/3 = 3.35", "3.33"),
        ("(2 + 3) * 4 = 21", "(2 + 3) * 4 = 21", "20"),
        ("2(3 + 4) = 15", "2(3 + 4) = 15", "14"),
        ("so 5 + 3 = 8 + 2 = 11", "8 + 2 = 11", "10"),
        ("3 - -2 = 1", "3 - -2 = 1", "5"),
        ("-2 * 3 = 6", "-2 * 3 = 6", "-6"),
        ("1 1/2 * 4 = 7", "1 1/2 * 4 = 7", "6"),
        ("2 + 3 * 4 = 20", "2 + 3 * 4 = 20", "14"),
        ("2^3 = 9", "2^3 = 9", "8"),
        (r"6 \times 7 = 43", r"6 \times 7 = 43", "42"),
        ("[5 * 3 = 16]", "5 * 3 = 16", "15"),
    ],
)
def test_a_false_equation_is_found_with_its_true_value(text, span, truth):
    failure = arithmetic(text)
    assert failure.truth == truth
    if span is not None:
        assert text[failure.start : failure.end] == span
    start, end = failure.value
    assert text[start:end] == text[: failure.end].split("=")[-1].split(">>")[-1].strip(" $%")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no equations here, 5 and 3",
        "5 * 7 = 35 apples",
        "5 apples + 7 pears = 12 pieces of fruit",
        "He sold 20% of 50 = 10 of them",
        "50 * 20% = 10", "100% - 20% = 80%", "3/12 = 25%", "10/50 * 100 = 20%",
        "10/3 = 3.33", "10/3 = 3.3", "2/3 = .67",
        "2 miles / 1/6 hour = 12 miles/hour",
        "2 weeks * 7 days/week = 14 days",
        "$1,000 + $500 = $1,500", "80 000 * 2 = 160 000",
        "5 + 3 = 8 + 2 = 10",
        "(5 * 3 = 15)",
        "- 5 + 3 = -2",
        # What cannot be read for sure:
        "x + 5 = 12", "2x + 3 = 9", "B + 24 = 60", "2xy + 65 = 105", "f(2) = 4", "f(2 + 1) = 4",
        "3 hours * 2 = 360 minutes", "5 * 10 cents = $.50", "2 * 3 dozen = 72",
        "13 / 6 = 2 with a remainder of 1", "6:00 + 18 = 24:00", "5 friends = 250/5",
        r"\frac{1}{2}(48) = 24", "3 * = 5", "= 5", "5 / 0 = 1", "2 + 2 = four", "9^9^9^9^9 = 1",
        "5 * (3 + 2 = 15",
    ],
)  # fmt: skip
def test_what_is_true_or_cannot_be_read_is_not_flagged(text):
    assert arithmetic(text) is None


@pytest.mark.parametrize(
    "part", ["1", "9*", "(", "1,1", "5 * 7 = 35 ", "a b ", "<<", "=", "1 ", "2^", "\\", "5 = "]
)
def test_the_time_is_linear_in_the_text(part):
    def seconds(length):
        text = (part * length)[:length]
        start = time.process_time()
        arithmetic(text)
        return time.process_time() - start

    seconds(1000)
    # Ten times the text, far from a hundred times the processor time.
    assert seconds(20_000) < 60 * max(seconds(2_000), 2e-3)


def test_gsm8ks_own_solutions_are_hardly_ever_flagged():
    path = data_file("gsm8k/test.jsonl")
    solutions = [json.loads(line)["answer"] for line in path.read_text().splitlines()[:400]]
    assert sum(arithmetic(text) is not None for text in solutions) <= 0.01 * len(solutions)
