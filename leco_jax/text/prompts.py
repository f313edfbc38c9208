r"""Prompts: few-shot with worked examples, zero-shot chat, and how kept steps are put back.

The few-shot layout is

    Question: ...
    Answer:
    Step 1: ...
    Step 2: The answer is \boxed{...}.

with a blank line between examples. The examples are the same for every question, so that their
cache is filled once: `few_shot_prefix` and `few_shot_question` are tokenised apart, and so is the
response, on a line of its own. The cut between the first two lies inside the blank line, where
byte-level tokenizers with GPT-2's regex (SmolLM2) cut anyway.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence

SYSTEM_PROMPT = (
    "You solve math word problems step by step. Write each step on its own line, as "
    '"Step 1: ...", "Step 2: ..." and so on, with one short calculation in each. The last step is '
    '"The answer is \\boxed{...}." with only the final number in the box.'
)
BOX_INSTRUCTION = (
    'Go on step by step from here, and give the final number as "The answer is \\boxed{...}.".'
)
# A model that has answered tends to go on with a question of its own.
FEW_SHOT_STOP = "\nQuestion:"
_LABEL_NUMBER = re.compile(r"[ \t]*Step[ \t]*([0-9]{1,9})")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Demonstration:
    """A question and its steps, without labels; the last step states the answer."""

    question: str
    steps: tuple[str, ...]
    answer: str


def _demonstration(question: str, steps: list[str], answer: str) -> Demonstration:
    last = f"The answer is \\boxed{{{answer}}}."
    return Demonstration(question=question, steps=(*steps, last), answer=answer)


# Worked grade-school problems of our own.
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


def step_lines(steps: Sequence[str]) -> str:
    """Returns steps as lines "Step 1: ...", with a line break after each."""
    return "".join(f"Step {n}: {step}\n" for n, step in enumerate(steps, 1))


def few_shot_prefix(demonstrations: Sequence[Demonstration] = DEMONSTRATIONS) -> str:
    """Returns the worked examples, which all few-shot prompts share."""
    blocks = [_block(d.question) + step_lines(d.steps) for d in demonstrations]
    return "\n".join(blocks)


def few_shot_question(question: str) -> str:
    """Returns what follows the worked examples: the question, up to where the response begins."""
    return "\n" + _block(question)


def few_shot_prompt(question: str, demonstrations: Sequence[Demonstration] = DEMONSTRATIONS) -> str:
    """Returns the whole few-shot prompt; without demonstrations the bare question layout."""
    if not demonstrations:
        return _block(question)
    return few_shot_prefix(demonstrations) + few_shot_question(question)


def chat_messages(question: str, *, system: str | None = SYSTEM_PROMPT) -> list[dict[str, str]]:
    """Returns the zero-shot conversation that asks for steps and a boxed answer.

    `system=None` leaves the system message out, for models whose template refuses one.
    """
    messages = [{"role": "user", "content": question.strip()}]
    return messages if system is None else [{"role": "system", "content": system}, *messages]


REPROMPT_LAYOUTS = ("label", "instruction")


def reprompt(kept: Sequence[str], *, layout: str) -> str:
    """Returns what is put after kept steps so that the model goes another way.

    The layout "label" is the published program's for chat models: the next step's label, numbered
    after the last kept one. "instruction" is its layout for local models: the boxed-answer
    instruction on a line of its own.
    """
    if layout == "label":
        return f"Step {_next_number(kept)}:"
    if layout == "instruction":
        return f"\n{BOX_INSTRUCTION}\n" if kept else f"{BOX_INSTRUCTION}\n"
    raise ValueError(f"layout={layout!r} is not one of {', '.join(REPROMPT_LAYOUTS)}")


def _block(question: str) -> str:
    return f"Question: {question.strip()}\nAnswer:\n"


def _next_number(kept: Sequence[str]) -> int:
    for line in reversed(kept):
        if match := _LABEL_NUMBER.match(line):
            return int(match[1]) + 1
    return len(kept) + 1
