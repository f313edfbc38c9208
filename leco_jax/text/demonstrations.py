"""Eight worked grade-school problems of our own, for few-shot prompts."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True, kw_only=True)
class Demonstration:
    """A question and its steps, without labels; the last step states the answer."""

    question: str
    steps: tuple[str, ...]
    answer: str


def _demonstration(question: str, steps: list[str], answer: str) -> Demonstration:
    last = f"The answer is \\boxed{{{answer}}}."
    return Demonstration(question=question, steps=(*steps, last), answer=answer)


DEMONSTRATIONS: tuple[Demonstration, ...] = (
    _demonstration(
        "A baker fills 6 trays with 8 rolls each and then sells 29 rolls before noon. How many "
        "rolls are left?",
        [
            "The baker makes 6 * 8 = 48 rolls.",
            "After the sale there are 48 - 29 = 19 rolls left.",
        ],
        "19",
    ),
    _demonstration(
        "Ines reads 14 pages on each school day and 25 pages on each day of the weekend. How many "
        "pages does she read in one week?",
        [
            "On the 5 school days she reads 5 * 14 = 70 pages.",
            "On the 2 days of the weekend she reads 2 * 25 = 50 pages.",
            "In the whole week she reads 70 + 50 = 120 pages.",
        ],
        "120",
    ),
    _demonstration(
        "A bicycle costs $240. Omar has saved $96 and earns $12 for each lawn that he mows. How "
        "many lawns must he mow to buy the bicycle?",
        [
            "Omar still needs 240 - 96 = 144 dollars.",
            "That takes 144 / 12 = 12 lawns.",
        ],
        "12",
    ),
    _demonstration(
        "A water tank holds 900 liters and is one third full. A pump adds 40 liters a minute. How "
        "many minutes does it take to fill the tank?",
        [
            "The tank already holds 900 / 3 = 300 liters.",
            "The pump has to add 900 - 300 = 600 liters.",
            "This takes 600 / 40 = 15 minutes.",
        ],
        "15",
    ),
    _demonstration(
        "Three friends share a taxi for $27 and a parking ticket for $15 equally. How much does "
        "each of them pay, in dollars?",
        [
            "Together they pay 27 + 15 = 42 dollars.",
            "Each of the 3 friends pays 42 / 3 = 14 dollars.",
        ],
        "14",
    ),
    _demonstration(
        "A jacket costs $80. In the sale it is 25% cheaper, and Nadia also has a coupon for $7. "
        "How many dollars does she pay?",
        [
            "The sale takes 80 * 25 / 100 = 20 dollars off.",
            "The jacket then costs 80 - 20 = 60 dollars.",
            "With the coupon Nadia pays 60 - 7 = 53 dollars.",
        ],
        "53",
    ),
    _demonstration(
        "Viktor is 4 years older than his sister, and his sister is half as old as their cousin. "
        "The cousin is 22. How old is Viktor?",
        [
            "The sister is 22 / 2 = 11 years old.",
            "Viktor is 11 + 4 = 15 years old.",
        ],
        "15",
    ),
    _demonstration(
        "A school rents buses with 45 seats each for 170 pupils and 10 teachers. Each bus costs "
        "$130. How much does the school pay for the buses?",
        [
            "In all there are 170 + 10 = 180 people.",
            "They need 180 / 45 = 4 buses.",
            "The school pays 4 * 130 = 520 dollars.",
        ],
        "520",
    ),
)
