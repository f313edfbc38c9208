"""Word problems with worked chains, drawn from a seed: the content of `arithmetic_chains`.

A problem tells how a number of things changes, one event after another, and asks for the end. Its
chain has one line "Step i: ..." per operation, each with one equation, and a last one with the
answer in a box, as in `leco_jax.text.prompts`. Everything is exact integer arithmetic. Which split
a problem belongs to follows from its arithmetic alone (`split_of`): a chain of equations seen in
training occurs in no other split, whatever the names and things around it.
"""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import operator
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

from leco_jax.datasets import chain_words as words
from leco_jax.text.prompts import step_lines

SPLITS = ("train", "validation", "test")
LEVELS = (1, 2, 3, 4, 5)
DISTRACTORS = ("none", "object", "person", "fact")

_EQUATIONS = {level: level + 1 for level in LEVELS}
_LARGEST = {1: 30, 2: 60, 3: 100, 4: 150, 5: 300}  # level -> largest value in the chain
_HELD_OUT_PERCENT = {"validation": 3, "test": 5}


class Equation(NamedTuple):
    """One operation `left operator right = result` in exact integers."""

    left: int
    operator: str
    right: int
    result: int

    def __str__(self) -> str:
        return f"{self.left} {self.operator} {self.right} = {self.result}"


@dataclasses.dataclass(frozen=True, kw_only=True)
class ChainProblem:
    """A question, its chain and what is known about it."""

    question: str  # the story and what it asks for, on one line
    steps: tuple[str, ...]  # the text of each step with an equation, without its label
    equations: tuple[Equation, ...]  # the equation of each step
    answer: int  # the gold answer
    level: int  # 1 (two equations, small numbers) to 5 (six equations, up to three digits)
    distractor: str  # the kind of sentence that the answer does not need, or "none"

    def chain(self) -> str:
        """The worked answer: lines `Step i: ...`, the last of which gives the answer in a box."""
        return step_lines((*self.steps, words.LAST_STEP % self.answer)).rstrip("\n")


@dataclasses.dataclass
class _Story:
    """A problem while it is being told; `value` is how many things the person has."""

    rng: random.Random
    names: dict[str, str]
    largest: int
    value: int
    sentences: list[str]
    steps: list[str]
    equations: list[Equation]

    def say(self, templates: Sequence[str], **numbers: int) -> None:
        self.sentences.append(self.rng.choice(templates).format(**self.names, **numbers))

    def step(self, template: str, left: int, operator: str, right: int) -> int:
        result = _OPERATORS[operator](left, right)
        numbers = {"x": left, "op": operator, "n": right, "y": result}
        self.steps.append(template.format(**self.names, **numbers))
        self.equations.append(Equation(left, operator, right, result))
        return result


_OPERATORS: dict[str, Callable[[int, int], int]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.floordiv,  # events divide without rest only
}

# An event or an ending: tells what happens or is asked and adds its steps, or returns False where
# the story's value allows no such one.
_Event = Callable[[_Story], bool]


def _event(
    operator: str,
    fitting: Callable[[int, int], Sequence[int]],
    templates: Sequence[str] | Mapping[int, Sequence[str]],
    *,
    step: str = words.STEP_SUM,
    question: Sequence[str] = (),
) -> _Event:
    """An event with one number and one step; with a `question`, it is an ending.

    `fitting` gives the numbers that fit to a story's value and its largest value, `templates` the
    sentences, one set for all or one for each number.
    """

    def tell(story: _Story) -> bool:
        numbers = fitting(story.value, story.largest)
        if not numbers:
            return False
        n = story.rng.choice(numbers)
        story.say(templates[n] if isinstance(templates, Mapping) else templates, n=n)
        if question:
            story.say(question)
        story.value = story.step(step, story.value, operator, n)
        return True

    return tell


def _bags(operator: str, templates: Sequence[str]) -> _Event:
    """Bags of the same size come or go: two steps."""

    def tell(story: _Story) -> bool:
        limit = story.largest - story.value if operator == "+" else story.value - 1
        pairs = [(k, m) for k in range(2, 10) for m in range(2, 13) if k * m <= limit]
        if not pairs:
            return False
        bags, size = story.rng.choice(pairs)
        story.say(templates, k=bags, m=size)
        held = story.step(words.STEP_BAGS, bags, "*", size)
        story.value = story.step(words.STEP_SUM, story.value, operator, held)
        return True

    return tell


def _ask_now(story: _Story) -> bool:
    story.say(words.ASK_NOW)
    return True


def _ask_together(story: _Story) -> bool:
    """Asks for the sum with a second person, who has some more or fewer: two steps."""
    if story.value < 4 or 2 * story.value > story.largest:
        return False
    more = story.rng.random() < 0.5
    most = story.largest - 2 * story.value if more else story.value - 2
    if most < 1:
        return False
    n = story.rng.randint(1, most)
    story.say(words.MORE_THAN if more else words.FEWER_THAN, n=n)
    story.say(words.ASK_TOGETHER)
    other = story.step(words.STEP_OTHER, story.value, "+" if more else "-", n)
    story.value = story.step(words.STEP_TOGETHER, story.value, "+", other)
    return True


def _divisors(most: int) -> Callable[[int, int], list[int]]:
    return lambda value, _: [k for k in range(2, most + 1) if value % k == 0 and value // k > 1]


def _factors(most: int) -> Callable[[int, int], range]:
    return lambda value, largest: range(2, min(most, largest // max(value, 1)) + 1)


def _additions(value: int, largest: int) -> range:
    return range(2, min(largest - value, max(10, largest // 2)) + 1)


def _losses(value: int, _: int) -> range:
    return range(2, value if value >= 4 else 2)


_EVENTS: dict[_Event, tuple[int, float]] = {  # -> (steps, how often)
    _event("+", _additions, words.GAINS): (1, 3.0),
    _event("-", _losses, words.LOSSES): (1, 3.0),
    _event("*", _factors(5), words.TIMES): (1, 1.5),
    _event("/", _divisors(6), words.SHARES): (1, 1.5),
    _bags("+", words.BAGS_IN): (2, 1.5),
    _bags("-", words.BAGS_OUT): (2, 1.5),
}
_ENDINGS: dict[_Event, tuple[int, float]] = {
    _ask_now: (0, 4.0),
    _ask_together: (2, 1.5),
    _event("*", _factors(9), words.PRICES, step=words.STEP_PRICE, question=words.ASK_PRICE): (
        1,
        1.5,
    ),
    _event("/", _divisors(9), words.BOXES, step=words.STEP_BOXES, question=words.ASK_BOXES): (
        1,
        1.5,
    ),
}


def _tell(story: _Story, most: int) -> int:
    """Adds one event of at most `most` steps and returns how many steps it took; 0 if none fits."""
    allowed = {event: often for event, (steps, often) in _EVENTS.items() if steps <= most}
    while allowed:
        event = story.rng.choices(list(allowed), weights=list(allowed.values()))[0]
        if event(story):
            return _EVENTS[event][0]
        del allowed[event]
    return 0


def _distract(story: _Story, kind: str) -> None:
    other_kind = story.rng.choice([t for t in words.THINGS if t != story.names["thing"]])
    names = {
        "who": story.names["who"],
        "other": story.rng.choice([p for p in words.PEOPLE if p not in story.names.values()]),
        "things": words.THINGS[other_kind],
        "n": story.rng.randint(2, story.largest // 2),
    }
    if kind == "person" and story.rng.random() < 0.5:
        names["things"] = story.names["things"]
    sentence = story.rng.choice(words.DISTRACTORS[kind]).format(**names)
    # After the opening and before the question, which stays the last sentence.
    story.sentences.insert(story.rng.randint(1, len(story.sentences) - 1), sentence)


def draw_problem(
    rng: random.Random, *, level: int, distractor: str = "none", largest: int | None = None
) -> ChainProblem:
    """Draws one problem.

    Args:
      rng: the source of every choice.
      level: one of `LEVELS`.
      distractor: one of `DISTRACTORS`.
      largest: the largest value in the chain, in place of the level's own; at least 20.
    """
    if level not in LEVELS:
        raise ValueError(f"level {level!r} is not one of {LEVELS}")
    if distractor not in DISTRACTORS:
        raise ValueError(f"distractor {distractor!r} is not one of {DISTRACTORS}")
    largest = _LARGEST[level] if largest is None else largest
    if largest < 20:
        raise ValueError(f"largest must be 20 or more for every event to fit, got {largest}")
    while (problem := _draw_once(rng, level, distractor, largest)) is None:
        pass
    return problem


def _draw_once(
    rng: random.Random, level: int, distractor: str, largest: int
) -> ChainProblem | None:
    who, other = rng.sample(words.PEOPLE, 2)
    thing = rng.choice(list(words.THINGS))
    names = {"who": who, "other": other, "thing": thing, "things": words.THINGS[thing]}
    start = rng.randint(4, max(8, largest // 2))
    story = _Story(rng, names, largest, start, [], [], [])
    story.say(words.OPENINGS, n=start)
    ending = rng.choices(list(_ENDINGS), weights=[often for _, often in _ENDINGS.values()])[0]
    left = _EQUATIONS[level] - _ENDINGS[ending][0]
    while left > 0:
        took = _tell(story, left)
        if took == 0:
            return None
        left -= took
    if not ending(story):
        return None
    if distractor != "none":
        _distract(story, distractor)
    return ChainProblem(
        question=" ".join(story.sentences),
        steps=tuple(story.steps),
        equations=tuple(story.equations),
        answer=story.value,
        level=level,
        distractor=distractor,
    )


def split_of(problem: ChainProblem) -> str:
    """The split of a problem, from a hash of its equations alone."""
    text = ";".join(str(e) for e in problem.equations)
    bucket = int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") % 100
    for split, percent in _HELD_OUT_PERCENT.items():
        if bucket < percent:
            return split
        bucket -= percent
    return "train"


def problems(
    split: str,
    *,
    seed: int = 0,
    levels: Sequence[int] = LEVELS,
    distractors: Sequence[str] = DISTRACTORS,
) -> Iterator[ChainProblem]:
    """An endless stream of different problems of one split; the first n are the same for every n.

    The seed names the stream; levels and distractors are drawn with equal chance.
    """
    if split not in SPLITS:
        raise ValueError(f"split {split!r} is not one of {SPLITS}")
    seen: set[str] = set()
    for index in itertools.count():
        rng = random.Random(f"arithmetic_chains:{seed}:{index}")
        level, distractor = rng.choice(list(levels)), rng.choice(list(distractors))
        problem = draw_problem(rng, level=level, distractor=distractor)
        if split_of(problem) == split and problem.question not in seen:
            seen.add(problem.question)
            yield problem
