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
from importlib import resources

from leco_jax.storage.jsonl import read_rows

# Lines that methods put into a chain; each begins and ends one.
REFLECTION = "\nWait, something here may be wrong. I look at it again before I go on.\n"
CRITICISE = "\nNow look for mistakes in the answer above, step by step.\n"
IMPROVE = "\nWith these mistakes put right, the whole answer is as follows.\n"
# For each kind of answers: what the model does, what a step holds, what stands in the box.
_TASKS = {
    "number": ("solve math word problems", "calculation", "the final number"),
    "latex": ("solve mathematics problems", "calculation", "the final answer in LaTeX"),
    "choice": ("answer questions with options", "argument", "the letter of the right option"),
    "yes_no": ("answer yes-or-no questions", "argument", "yes or no"),
    "date": ("answer questions about dates", "calculation", "the date as MM/DD/YYYY"),
}
# A model that has answered tends to go on with a question of its own.
FEW_SHOT_STOP = "\nQuestion:"
_OFFICIAL = "official_w2s_"  # these kinds differ in reading and comparing alone
_LABEL_NUMBER = re.compile(r"[ \t]*Step[ \t]*([0-9]{1,9})")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Demonstration:
    """A question and its steps, without labels; the last step states the answer."""

    question: str
    steps: tuple[str, ...]
    answer: str


def _read(file: str) -> dict[str, tuple[Demonstration, ...]]:
    """Worked problems of our own, by the kind of their answers; "number" where none is given."""
    found: dict[str, list[Demonstration]] = {}
    for _, row in read_rows(resources.files("leco_jax.text") / file):
        last = f"The answer is \\boxed{{{row['answer']}}}."
        made = Demonstration(
            question=row["question"], steps=(*row["steps"], last), answer=row["answer"]
        )
        found.setdefault(row.get("kind", "number"), []).append(made)
    return {kind: tuple(made) for kind, made in found.items()}


# Those of numbers have 3.5 steps on average, and 10 for complex chain of thought (Fu et al. 2022,
# arXiv 2210.00720), whose examples are those with the most steps.
_SIMPLE = _read("demonstrations.jsonl")
_COMPLEX = _read("demonstrations_complex.jsonl")
DEMONSTRATIONS = _SIMPLE["number"]
COMPLEX_DEMONSTRATIONS = _COMPLEX["number"]


def demonstrations_of(kind: str, *, complex_ones: bool = False) -> tuple[Demonstration, ...]:
    """The worked examples for a kind of answers; a kind of one's own has those of numbers.

    Raises:
      ValueError: complex ones are asked for, and the kind has none.
    """
    kind = kind.removeprefix(_OFFICIAL)
    if complex_ones and kind in _TASKS and kind not in _COMPLEX:
        raise ValueError(f"answers of the kind {kind!r} have no complex examples: use few_shot")
    found = _COMPLEX if complex_ones else _SIMPLE
    return found.get(kind, found["number"])


def system_prompt(kind: str = "number") -> str:
    """Returns the instructions for a kind of answers; a kind of one's own has those of numbers."""
    what, step, box = _task(kind)
    return (
        f"You {what} step by step. Write each step on its own line, as "
        f'"Step 1: ...", "Step 2: ..." and so on, with one short {step} in each. The last step is '
        f'"The answer is \\boxed{{...}}." with only {box} in the box.'
    )


def box_instruction(kind: str = "number") -> str:
    """Returns the instruction that is put after kept steps; see `reprompt`."""
    box = _task(kind)[2]
    return f'Go on step by step from here, and give {box} as "The answer is \\boxed{{...}}.".'


def _task(kind: str) -> tuple[str, str, str]:
    return _TASKS.get(kind.removeprefix(_OFFICIAL), _TASKS["number"])


SYSTEM_PROMPT = system_prompt()


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


def reprompt(kept: Sequence[str], *, layout: str, kind: str = "number") -> str:
    """Returns what is put after kept steps so that the model goes another way.

    The layout "label" is the published program's for chat models: the next step's label, numbered
    after the last kept one. "instruction" is its layout for local models: the boxed-answer
    instruction on a line of its own, worded for the kind of answers.
    """
    if layout == "label":
        return f"Step {_next_number(kept)}:"
    if layout == "instruction":
        return f"\n{box_instruction(kind)}\n" if kept else f"{box_instruction(kind)}\n"
    raise ValueError(f"layout={layout!r} is not one of {', '.join(REPROMPT_LAYOUTS)}")


def _block(question: str) -> str:
    return f"Question: {question.strip()}\nAnswer:\n"


def _next_number(kept: Sequence[str]) -> int:
    for line in reversed(kept):
        if match := _LABEL_NUMBER.match(line):
            return int(match[1]) + 1
    return len(kept) + 1
