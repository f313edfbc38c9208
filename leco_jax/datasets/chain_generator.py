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
import random
from collections.abc import Callable, Iterator, Sequence

from leco_jax.datasets import chain_words as words

SPLITS = ("train", "validation", "test")
LEVELS = (1, 2, 3, 4, 5)
DISTRACTORS = ("none", "object", "person", "fact")

_STEPS = {1: 2, 2: 3, 3: 4, 4: 5, 5: 6}  # level -> number of equations
_LARGEST = {1: 30, 2: 60, 3: 100, 4: 150, 5: 300}  # level -> largest value in the chain
_HELD_OUT_PERCENT = {"validation": 3, "test": 5}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Equation:
    """One operation `left operator right = result` in exact integers."""

    left: int
    operator: str
    right: int
    result: int

    def __str__(self) -> str:
        return f"{self.left} {self.operator} {self.right} = {self.result}"


@dataclasses.dataclass(frozen=True, kw_only=True)
class ChainProblem:
    """A question, its chain and what is known about it.

    Attributes:
      question: the story and what it asks for, on one line.
      steps: the text of each step with an equation, without its label.
      equations: the equation of each step.
      answer: the gold answer.
      level: 1 (two equations, small numbers) to 5 (six equations, up to three digits).
      distractor: the kind of sentence that the answer does not need, or "none".
    """

    question: str
    steps: tuple[str, ...]
    equations: tuple[Equation, ...]
    answer: int
    level: int
    distractor: str

    def chain(self) -> str:
        """The worked answer: lines `Step i: ...`, the last of which gives the answer in a box."""
        lines = (*self.steps, words.LAST_STEP % self.answer)
        return "\n".join(f"Step {i}: {line}" for i, line in enumerate(lines, start=1))


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
        result = _compute(left, operator, right)
        numbers = {"x": left, "n": right, "k": left, "m": right, "op": operator, "y": result}
        self.steps.append(template.format(**self.names, **numbers))
        self.equations.append(Equation(left=left, operator=operator, right=right, result=result))
        return result


def _compute(left: int, operator: str, right: int) -> int:
    if operator == "+":
        return left + right
    if operator == "-":
        return left - right
    if operator == "*":
        return left * right
    quotient, rest = divmod(left, right)
    if rest:
        raise ValueError(f"{left} / {right} is not a whole number")
    return quotient


# Events: each tells one thing that happens and adds its one or two steps, or returns False where
# the value allows no such event.


def _gain(story: _Story) -> bool:
    room = story.largest - story.value
    if room < 2:
        return False
    n = story.rng.randint(2, min(room, max(10, story.largest // 2)))
    story.say(words.GAINS, n=n)
    story.value = story.step(words.STEP_SUM, story.value, "+", n)
    return True


def _lose(story: _Story) -> bool:
    if story.value < 4:
        return False
    n = story.rng.randint(2, story.value - 1)
    story.say(words.LOSSES, n=n)
    story.value = story.step(words.STEP_SUM, story.value, "-", n)
    return True


def _times(story: _Story) -> bool:
    most = min(5, story.largest // max(story.value, 1))
    if most < 2:
        return False
    k = story.rng.randint(2, most)
    story.say(words.TIMES.get(k, words.TIMES_MORE), k=k)
    story.value = story.step(words.STEP_SUM, story.value, "*", k)
    return True


def _share(story: _Story) -> bool:
    factors = [k for k in range(2, 7) if story.value % k == 0 and story.value // k > 1]
    if not factors:
        return False
    k = story.rng.choice(factors)
    story.say(words.SHARES.get(k, words.SHARES_MORE), k=k)
    story.value = story.step(words.STEP_SUM, story.value, "/", k)
    return True


def _bags(story: _Story, limit: int) -> tuple[int, int] | None:
    pairs = [(k, m) for k in range(2, 10) for m in range(2, 13) if k * m <= limit]
    return story.rng.choice(pairs) if pairs else None


def _bags_in(story: _Story) -> bool:
    bags = _bags(story, story.largest - story.value)
    if bags is None:
        return False
    story.say(words.BAGS_IN, k=bags[0], m=bags[1])
    held = story.step(words.STEP_BAGS, bags[0], "*", bags[1])
    story.value = story.step(words.STEP_SUM, story.value, "+", held)
    return True


def _bags_out(story: _Story) -> bool:
    bags = _bags(story, story.value - 1)
    if bags is None:
        return False
    story.say(words.BAGS_OUT, k=bags[0], m=bags[1])
    held = story.step(words.STEP_BAGS, bags[0], "*", bags[1])
    story.value = story.step(words.STEP_SUM, story.value, "-", held)
    return True


# Endings: what is asked, with the steps that the question itself needs.


def _ask_now(story: _Story) -> bool:
    story.say(words.ASK_NOW)
    return True


def _ask_together(story: _Story) -> bool:
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


def _ask_price(story: _Story) -> bool:
    most = min(9, story.largest // max(story.value, 1))
    if most < 2:
        return False
    k = story.rng.randint(2, most)
    story.say(words.PRICES, k=k)
    story.say(words.ASK_PRICE)
    story.value = story.step(words.STEP_PRICE, story.value, "*", k)
    return True


def _ask_boxes(story: _Story) -> bool:
    factors = [k for k in range(2, 10) if story.value % k == 0 and story.value // k > 1]
    if not factors:
        return False
    k = story.rng.choice(factors)
    story.say(words.BOXES, k=k)
    story.say(words.ASK_BOXES)
    story.value = story.step(words.STEP_BOXES, story.value, "/", k)
    return True


_EVENTS: dict[Callable[[_Story], bool], tuple[int, float]] = {  # -> (steps, how often)
    _gain: (1, 3.0),
    _lose: (1, 3.0),
    _times: (1, 1.5),
    _share: (1, 1.5),
    _bags_in: (2, 1.5),
    _bags_out: (2, 1.5),
}
_ENDINGS: dict[Callable[[_Story], bool], tuple[int, float]] = {
    _ask_now: (0, 4.0),
    _ask_together: (2, 1.5),
    _ask_price: (1, 1.5),
    _ask_boxes: (1, 1.5),
}


def _tell(
    story: _Story, kinds: dict[Callable[[_Story], bool], tuple[int, float]], most: int
) -> int:
    """Adds one event of at most `most` steps and returns how many steps it took; 0 if none fits."""
    allowed = {kind: often for kind, (steps, often) in kinds.items() if steps <= most}
    while allowed:
        kind = story.rng.choices(list(allowed), weights=list(allowed.values()))[0]
        if kind(story):
            return kinds[kind][0]
        del allowed[kind]
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
      largest: the largest value in the chain, in place of the level's own.

    Raises:
      ValueError: if `level` or `distractor` is unknown, or `largest` is below 20.
    """
    if level not in LEVELS:
        raise ValueError(f"level {level!r} is not one of {LEVELS}")
    if distractor not in DISTRACTORS:
        raise ValueError(f"distractor {distractor!r} is not one of {DISTRACTORS}")
    largest = _LARGEST[level] if largest is None else largest
    if largest < 20:
        raise ValueError(f"largest must be 20 or more for every event to fit, got {largest}")
    while True:
        problem = _draw_once(rng, level, distractor, largest)
        if problem is not None:
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
    steps = _STEPS[level]
    ending = rng.choices(list(_ENDINGS), weights=[often for _, often in _ENDINGS.values()])[0]
    left = steps - _ENDINGS[ending][0]
    while left > 0:
        took = _tell(story, _EVENTS, left)
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

    Args:
      split: one of `SPLITS`.
      seed: names the stream.
      levels: drawn from with equal chance.
      distractors: drawn from with equal chance.

    Raises:
      ValueError: if `split` is unknown.
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
