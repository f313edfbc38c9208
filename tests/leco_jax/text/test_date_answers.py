import datetime

import pytest

from leco_jax.text.answers import format_answer, read_answer
from leco_jax.text.gold import BadGoldError, read_gold

CHRISTMAS = datetime.date(1937, 12, 25)


@pytest.mark.parametrize(
    "text",
    [
        r"\boxed{12/25/1937}",
        "#### 12/25/1937",
        "The answer is 1937-12-25.",
        "The answer is December 25, 1937.",
        r"\boxed{Dec. 25th 1937}",
        "It is 25 December 1937",
        r"\boxed{\text{25th of December, 1937}}",
        "From 12/24/1937 on, tomorrow is 12/25/1937",
        r"\boxed{12/25/1937 = December 25, 1937}",
    ],
)
def test_dates(text):
    assert read_answer(text, kind="date").value == CHRISTMAS


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (r"\boxed{12/25/37}", "the box does not hold one date"),
        (r"\boxed{25/12/1937}", "the box does not hold one date"),  # months come first
        (r"\boxed{12/25/1937 or 12/26/1937}", "the box does not hold one date"),
        (r"\boxed{02/30/1937}", "the box does not hold one date"),
        ("Tomorrow is 02/30/1937", "the last date is not in the calendar"),
        ("Tomorrow.", "there is no date"),
        ("Part 112/25/1937/4", "there is no date"),
    ],
)
def test_no_dates(text, problem):
    answer = read_answer(text, kind="date")
    assert (answer.value, answer.problem) == (None, problem)


def test_gold_and_format():
    assert format_answer(read_gold("Jan 5, 2020", kind="date"), kind="date") == "01/05/2020"
    with pytest.raises(BadGoldError, match="is not one date and nothing else"):
        read_gold("on 01/05/2020", kind="date")
