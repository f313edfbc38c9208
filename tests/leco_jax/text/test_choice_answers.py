import pytest

from leco_jax.text.answers import extract_answer, format_answer, read_answer
from leco_jax.text.gold import BadGoldError, read_gold


@pytest.mark.parametrize(
    ("response", "letter"),
    [
        # The published program reads none of the first three.
        (r"The answer is \boxed{b}.", "B"),
        (r"So the answer is \boxed{B}.", "B"),
        (r"\boxed{\text{(c)}}", "C"),
        (r"So the answer is \boxed{(B)}.", "B"),
        (r"\boxed{(B) mall}", "B"),
        (r"\boxed{B. mall}", "B"),
        (r"\boxed{\textbf{(D)}\ 12}", "D"),
        ("#### (a)", "A"),
        ("The answer is (e).", "E"),
        ("Answer: D", "D"),
        ("The answer is a bank.", None),  # an article, no letter
        ("**Final answer: (C)**", "C"),
        ("A mall has shops.\n(D)", "D"),
        ("A mall has shops.\nD.", "D"),
        ("A mall has shops.\nd", None),
        (r"\boxed{(A) or (B)}", None),
        (r"\boxed{mall}", None),
        ("Either (A) or (B).", None),
        ("So the answer is (B).\n\nQuestion: Where?\nThe answer is (C).", "B"),
        ("", None),
    ],
)
def test_choice(response, letter):
    answer = read_answer(response, kind="choice")
    assert answer.value == letter
    assert (answer.problem is None) == (letter is not None)


@pytest.mark.parametrize(
    ("response", "value"),
    [
        (r"The answer is \boxed{yes}.", True),  # the published program wants "(yes)"
        (r"\boxed{(No)}", False),
        (r"\boxed{\text{Yes}}", True),
        ("The answer is no, because yes-men are rare.", False),
        ("Answer: True", True),
        ("I think.\nStep 2: No, it is not.", False),
        ("Yes. College ceremonies are in winter.", True),
        (r"\boxed{yes and no}", True),
        (r"\boxed{it is no or yes}", None),
        (r"\boxed{maybe}", None),
        ("Not sure, nothing known.", None),
    ],
)
def test_yes_no(response, value):
    answer = read_answer(response, kind="yes_no")
    assert answer.value is value
    assert (answer.problem is None) == (value is not None)


def test_gold_and_format():
    assert read_gold("(B)", kind="choice") == read_gold(" b", kind="choice") == "B"
    assert read_gold("Yes", kind="yes_no") is True
    assert format_answer(False, kind="yes_no") == "no"
    assert format_answer("B", kind="choice") == "B"
    for text, kind in [("B or C", "choice"), ("(1)", "choice"), ("yes, but", "yes_no")]:
        with pytest.raises(BadGoldError, match="is n"):
            read_gold(text, kind=kind)


@pytest.mark.parametrize("kind", ["choice", "yes_no", "date"])
def test_long_texts_take_no_time(kind):
    for text in ("(" * 300_000, "a " * 200_000, "yes " * 100_000, "12/" * 100_000):
        extract_answer(text, kind=kind)
