import random
import string
import time
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from leco_jax.text.number_answers import (
    extract_number,
    format_number,
    parse_number,
    read_gold_number,
)


def number(text):
    return None if text is None else Fraction(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # Mistakes of the published programs (reference page of LeCo, sections 4 and 6).
        (r"\boxed{4} hours in 3 days", "4"),
        (r"\boxed{1,234,567}", "1234567"),
        (r"\boxed{\frac{1}{2}}", "1/2"),
        (r"Step 3: The answer is $5$.", "5"),
        (r"So \boxed{3}$ and the answer is correct", "3"),
        ("The answer is 1,000", "1000"),
        ("The answer is 1{,}000", "1000"),
        ("The answer is 0.50", "1/2"),
        ("The answer is 1/2", "1/2"),
        (r"\boxed{b}", None),
        (r"\boxed{yes}", None),
        (r"\boxed{(B)}", None),
        # A run-on second question must not supply the answer; the word alone cuts nothing.
        ("The answer is \\boxed{7}.\n\nQuestion: Tom has 3 cats?\nAnswer: \\boxed{3}", "7"),
        ("The Question asks for 5.\nThe answer is \\boxed{6}.", "6"),
        ("Question 1: 4 or 5?\nThe answer is 5.", "5"),
        # A key that is not on the last line; a final full stop; N%; trailing .0 and .00.
        ("The answer is: 42\nI hope this helps!", "42"),
        ("#### 42.\nThanks", "42"),
        ("The answer is 20%.", "20"),
        ("#### 7.00", "7"),
        ("#### 7.0", "7"),
        # The box.
        (r"\boxed{18}", "18"),
        (r"$\boxed{18}$.", "18"),
        (r"\boxed 18", "18"),
        (r"\boxed{\boxed{18}}", "18"),
        (r"\boxed{\text{\$}18}", "18"),
        (r"\boxed{\$1,000.50}", "1000.50"),
        (r"\boxed{-\$5}", "-5"),
        (r"\boxed{\$-5}", "-5"),
        (r"\boxed{- 5}", "-5"),
        (r"\boxed{−5}", "-5"),
        (r"\boxed{+5}", "5"),
        (r"\boxed{50\%}", "50"),
        (r"\boxed{x = 18}", "18"),
        (r"\boxed{9 \times 2 = 18 \text{ dollars}}", "18"),
        (r"\boxed{18 \text{ dollars}}", "18"),
        (r"\boxed{5\text{ cm}^2}", "5"),
        (r"\boxed{90^\circ}", "90"),
        (r"\boxed{90^{\circ}C}", "90"),
        (r"\boxed{\textbf{18}}", "18"),
        (r"\boxed{\mathrm{18}}", "18"),
        (r"\boxed{\left(18\right)}", "18"),
        (r"\boxed{\dfrac{3}{4}}", "3/4"),
        (r"\boxed{\tfrac34}", "3/4"),
        (r"\boxed{-\frac{3}{4}}", "-3/4"),
        (r"\boxed{\frac{-3}{4}}", "-3/4"),
        (r"\boxed{2\frac{1}{2}}", "5/2"),
        (r"\boxed{\frac{1,000}{3}}", "1000/3"),
        (r"\boxed{1 1/2 cups}", "3/2"),
        (r"\boxed{-1 1/2}", "-3/2"),
        (r"\boxed{3/4 \text{ cup}}", "3/4"),
        (r"\boxed{½}", "1/2"),
        (r"\boxed{1½}", "3/2"),
        (r"\boxed{12,\!345}", "12345"),
        (r"\boxed{12\,345}", "12345"),
        ("\\boxed{12\u202f345}", "12345"),
        (r"\boxed{12 345}", "12345"),
        (r"\boxed{3 4}", None),
        (r"\boxed{.5}", "1/2"),
        (r"\boxed{1.5 \times 10^{3}}", "1500"),
        (r"\boxed{1e3}", "1000"),
        (r"\boxed{5 million}", "5000000"),
        (r"\boxed{£2.5 billion}", "2500000000"),
        (r"\boxed{007}", "7"),
        (r"\boxed{18", "18"),
        ("\\boxed{18\nand more 3", "18"),
        (r"boxed{18}", "18"),
        (r"\boxed{3} or rather \boxed{4}", "4"),
        (r"\boxed{18} as in \boxed{}", "18"),
        ("Write \\boxed{...}.\nIt is 2 * 9 = 18", "18"),
        # The box holds no single number, so nothing else may be taken for it.
        (r"\boxed{16 - 3}", None),
        (r"\boxed{16-3}", None),
        (r"\boxed{2 + 3}", None),
        (r"\boxed{3 \times 4}", None),
        (r"\boxed{3, 4}", None),
        (r"\boxed{3 \text{ and } 4}", None),
        (r"\boxed{3-4}", None),
        (r"\boxed{3:4}", None),
        (r"\boxed{10:30}", None),
        (r"\boxed{2^3}", None),
        (r"\boxed{2\sqrt{3}}", None),
        (r"\boxed{\sqrt{3}}", None),
        (r"\boxed{2\pi}", None),
        (r"\boxed{5x}", None),
        (r"\boxed{x+5}", None),
        (r"\boxed{12,34}", None),
        (r"\boxed{1/0}", None),
        (r"\boxed{\frac{1}{0}}", None),
        (r"\boxed{1/2/3}", None),
        (r"There are 7 days. \boxed{\text{none}}", None),
        (r"The answer is \boxed{16-3}", None),
        (r"\boxed{1e999999999}", None),
        (r"\boxed{10^{-9999999999}}", None),
        (rf"\boxed{{{'9' * 5000}}}", None),
        # The last box decides, one without a letter or digit apart.
        (r"\boxed{5} and finally \boxed{x + 1}", None),
        (r"\boxed{5} and finally \boxed{}", "5"),
        ("He boxed 5 apples. The answer is 6.", "6"),
        (r"\boxed{x = 3 \text{ or } x = 5}", None),
        (r"\boxed{a = 3, b = 4}", None),
        (r"\boxed{x^2 + y^2 = 25}", None),
        (r"\boxed{2x = 6}", None),
        (r"\boxed{\theta = 30^\circ}", "30"),
        (r"\boxed{\text{Total} = \$18}", "18"),
        (r"\boxed{x > 5}", None),
        (r"\boxed{18 \text{ apples and } 3 \text{ pears}}", None),
        (r"\boxed{5 \text{ p.m.}}", None),
        (r"\boxed{5\text{ or more}}", None),
        (r"\boxed{3xy}", None),
        (r"\boxed{3 xy}", None),
        (r"\boxed{18kg}", "18"),
        (r"\boxed{18\text{ m}}", "18"),
        (r"\boxed{5 hundred}", "500"),
        (r"\boxed{111,\! 111}", "111111"),
        # Hashes.
        ("#### 1:45", None),
        ("#### 4:33", None),
        ("#### 10:1", None),
        ("The time is 6.\n#### 6:40", None),
        ("#### 2 hours 30 minutes", None),
        ("#### x + 5", None),
        (r"#### \frac{\pi}{2}", None),
        ("#### 1. Add 4 and 5\n#### 2. The total is 9", "9"),
        ("So it is 9.\n#### 18", "18"),
        ("#### $1,080 dollars", "1080"),
        ("#### -3", "-3"),
        ("#### Step 1: She has 4.\n#### Step 2: The total is 18", "18"),
        # In words.
        ("The answer is 18.", "18"),
        ("the final answer is: **18**", "18"),
        ("The answer is $18", "18"),
        ("Answer: 18 eggs", "18"),
        ("**Answer:** 18", "18"),
        ("**Final Answer**: $18", "18"),
        ("The answer is 9 * 2 = 18 dollars for 3 days.", "18"),
        ("The answer is that 4 people sit in 3 rows.", "4"),
        ("The answer is 18. She has 3 cats.", "18"),
        ("The answer is 4. No, the answer is 5.", "5"),
        ("The answer is:\n18", "18"),
        ("The answer is -18.5 degrees", "-18.5"),
        ("The answer is unknown. There were 5 cats", "5"),
        ("There were 5 cats. The answer is unknown.", None),
        ("Answer: Sam sells 3 eggs.\nHe has 4 * 5 = 20 left.", "20"),
        ("The answer is 2 hours 30 minutes.", None),
        ("It takes 2 hours and 30 minutes", None),
        (r"The answer is $\frac{\pi}{2}$.", None),
        (r"The answer is $\dfrac{a+b}{4}$.", None),
        ("The answer is 4:33.", None),
        ("The answer is 18. I checked it twice, and the answer is right.", "18"),
        ("The answer is 2 + 3.", None),
        ("Answer:\n1. Add 4 and 5.\n2. The total is 9", "9"),
        ("Question 1: yes\n\nQuestion 2: no\n\nThe sum is \\boxed{14}", "14"),
        ("It is \\boxed{7}.\nQuestion 2: And?\n\\boxed{3}", "7"),
        # No marker at all.
        ("So 9 * 2 = 18 dollars in 3 days.", "18"),
        ("She gets 2 points/answer = 48 points.\nIn all 48 + 16 = 64.", "64"),
        ("The total is 18 000 in 30 days", "30"),
        ("He pays $400 000 - $282 000 = $118 000.", "118000"),
        ("= 18", "18"),
        ("= $18", "18"),
        ("She pays $12 for 3 pens, 18 in all.", "18"),
        ("It costs Rs.500", "500"),
        ("He makes **18**", "18"),
        ("It is 18\nStep 3: That is all.", "18"),
        ("It is 18\n3. That is all.", "18"),
        ("about 7 or 8 cats", "8"),
        ("water is H2O", None),
        ("no number here", None),
        ("", None),
        ("#", None),
    ],
)
def test_extract_number(text, expected):
    assert extract_number(text) == number(expected)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("18", "18"),
        ("-18", "-18"),
        ("1/2", "0.5"),
        ("-1/8", "-0.125"),
        ("1/50", "0.02"),
        ("41/40", "1.025"),
        ("1/3", "1/3"),
        ("1000", "1000"),
        ("0", "0"),
    ],
)
def test_format_number(value, text):
    assert format_number(Fraction(value)) == text


@given(st.fractions(max_denominator=1000, min_value=-(10**9), max_value=10**9))
def test_written_numbers_are_read_back(value):
    text = format_number(value)
    for layout in (r"\boxed{%s}", "#### %s", "The answer is %s.", "= %s", r"so \boxed{\$%s} is it"):
        assert extract_number(layout % text) == value
    assert parse_number(text) == value


@given(st.integers(0, 10**15), st.sampled_from(["{:,}", "${:,}", "{:,}.00", "{:,} eggs", "{:,}%"]))
def test_thousands(value, layout):
    assert parse_number(layout.format(value)) == value


COMMON = ["\\boxed{", "}", "The answer is ", "=", "-", "1", " ", "/", ".", ",", "\n"]
RARE = [
    "{",
    "####",
    "Answer:",
    "\\frac",
    "\\",
    "$",
    "1,000",
    "0",
    "^",
    "e9",
    "½",
    "\\text{",
    "٣",
    "%",
]
FRAGMENTS = st.sampled_from([*COMMON, *COMMON, *RARE, "Question:", "٣"])


@pytest.mark.heavy
@settings(max_examples=300)
@given(st.one_of(st.text(), st.lists(FRAGMENTS, max_size=30).map("".join)))
def test_any_text_is_safe(text):
    value = extract_number(text)
    assert value is None or isinstance(value, Fraction)
    if value is not None:
        assert Fraction(format_number(value)) == value


# A part of each of these was once taken for the whole.
NO_NUMBERS = [
    r"\frac{\pi}{2}", r"\frac{x}{2}", r"\dfrac{a+b}{4}", "1+i", "5i", "6!", "5²", "42_7", "5k",
    "1.000.000", r"0.\overline{3}", "192.168.1.1", r"2-\sqrt3", "2 hours 30 minutes", "4:33",
    "10:1", "6:40", "1:45", r"\frac{3\sqrt{5}}{4}", r"\begin{pmatrix} 1 \\ 2 \end{pmatrix}", "[5]",
    r"(-\infty, 5)", "y^4-2y^3+7y^2+y-5", r"\{5\}", "|5|", r"\pm 5", "5 and a half",
    "5 mod 7", r"5 \pi", "5 pi", "9 a.m.", "1_000", "1/2/3", "5...", "0x10", r"5 \text{ or } 6",
]  # fmt: skip


@pytest.mark.parametrize("text", NO_NUMBERS)
@pytest.mark.parametrize("layout", ["%s", r"\boxed{%s}", "It is 5.\n#### %s", "$%s$"])
def test_parts_of_expressions_are_no_numbers(text, layout):
    if layout in ("%s", "$%s$"):
        assert parse_number(layout % text) is None
    else:
        assert extract_number(layout % text) is None


# Repeated, the slowest of some hundred patterns; many once took quadratic or cubic time.
WORST = [
    "\\boxed{", "\\boxed{}", "boxed{\n", "boxed", "\\boxed ", "\\frac{", " ", "\n", "1 ", "1,",
    "1 / ", "$", "9", "x\n", "1x\n", "H2O\n", "Q ", "Q1:\n", "\nQuestion ", "#### ", "#",
    "#### 1. ab\n",
    "answer: a 3 ", "the answer is ", "the answer is 5 ", "answer\u00a0", "answer*", "1)\n",
    "5 hours ",
]  # fmt: skip
READERS = (extract_number, parse_number, read_gold_number)


def seconds(reader, text):
    started = time.process_time()
    value = reader(text)
    assert value is None or isinstance(value, Fraction)
    return time.process_time() - started


@pytest.mark.parametrize("piece", WORST)
def test_200_000_characters_of_any_pattern_take_less_than_a_second(piece):
    for begin, end in (("", ""), ("5", "x"), ("\\frac{", "")):
        text = begin + piece * (200_000 // len(piece)) + end
        assert max(seconds(reader, text) for reader in READERS) < 1


def test_spaces_cost_nothing():
    assert parse_number("5" + " " * 1000 + "x") is None
    assert seconds(extract_number, "\\frac{" + " " * 12_000) < 0.1


@pytest.mark.slow
def test_200_000_generated_strings_and_500_repeated_ones():
    rng = random.Random(0)
    pieces = [*COMMON, *RARE, *WORST, *NO_NUMBERS, "boxed", "#### ", "answer is", "5", "km", "\\pi"]
    letters = "".join(map(chr, [*range(32, 127), 0xB2, 0xBD, 0x2212, 0x3C0, 0x661, 0x4E09, 10, 0]))
    for i in range(200_000):
        if i % 2:
            text = "".join(rng.choices(pieces, k=rng.randint(1, 12)))
        else:
            text = "".join(rng.choices(letters, k=rng.randint(1, 30)))
        value = extract_number(text)
        assert value is None or Fraction(format_number(value)) == value
        gold = read_gold_number(text)
        assert gold is None or extract_number(f"\\boxed{{{text}}}") == gold
        assert seconds(parse_number, text) < 0.1
    for _ in range(500):
        piece = "".join(rng.choices(pieces, k=rng.randint(1, 3)))
        text = piece * (50_000 // len(piece))
        assert max(seconds(reader, text) for reader in READERS) < 0.3, piece


def test_only_ascii_digits_count():
    assert extract_number("\\boxed{" + "٣" + "}") is None
    assert set(string.digits) == set("0123456789")
