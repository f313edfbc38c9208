"""Two halves of a training set: one for the weak model's labels, one for its questions alone."""

import collections
import dataclasses
import random
from collections.abc import Iterable

from leco_jax.datasets.problem import Problem
from w2s_jax.curation.answer_rows import question_key


@dataclasses.dataclass(frozen=True, kw_only=True)
class DuplicateReport:
    """Questions that occur more than once (letter case and white space apart)."""

    problems: int  # problems that were given
    repeated: int  # of them, those whose question stands further in front already
    in_test: int  # of the others, those whose question is in the test set
    dropped: int  # problems that were left out for either
    within_first: int  # repeated ones within the first half that was made
    within_second: int  # within the second half
    between: int  # problems of the second half whose question is in the first
    test_in_halves: int  # problems of both halves whose question is in the test set


@dataclasses.dataclass(frozen=True, kw_only=True)
class QuestionSplit:
    """Two sets of problems, each in the order of the data set."""

    first: list[Problem]  # D_gold,1, whose solutions the weak model learns from
    # D_gold,2, whose questions both models answer; its gold is for the strong ceiling and for
    # measuring
    second: list[Problem]
    duplicates: DuplicateReport  # questions found twice

    @property
    def unsolved(self) -> int:
        """Problems of D_gold,2 without a solution; with any, no ceiling can be trained."""
        return sum(problem.solution is None for problem in self.second)


def split_questions(
    problems: Iterable[Problem],
    *,
    sizes: tuple[int, int],
    seed: int,
    test: Iterable[Problem] = (),
    drop_duplicates: bool = True,
    first_solved: bool = False,
) -> QuestionSplit:
    """Draws two sets of questions that share none.

    The published GSM8K halves share 279 questions: their duplicates were not looked for.

    Args:
      problems: to draw from; each has its own id.
      sizes: of the first half and of the second.
      seed: of the draw.
      test: problems that neither half may hold.
      drop_duplicates: leave out, before the draw, every question but the first of its kind and
        those of the test set; False keeps them, and still counts them.
      first_solved: draw the first half from the problems that have a solution.

    Raises:
      ValueError: fewer questions than asked for, sizes below 1, or two problems with one id.
    """
    pool = list(problems)
    if min(sizes) < 1:
        raise ValueError(f"sizes={sizes} must both be at least 1")
    twice = [id_ for id_, n in collections.Counter(p.id for p in pool).items() if n > 1]
    if twice:
        raise ValueError(f"{len(twice)} ids belong to several problems: {twice[0]!r} among them")

    test_keys = set(_keys(test))
    seen, repeated, in_test = set[str](), set[str](), set[str]()
    for problem, key in zip(pool, _keys(pool), strict=True):
        if key in seen:
            repeated.add(problem.id)
        elif key in test_keys:
            in_test.add(problem.id)
        seen.add(key)
    dropped = repeated | in_test if drop_duplicates else set()
    left = [problem for problem in pool if problem.id not in dropped]
    if sum(sizes) > len(left):
        why = (
            f" after {len(repeated)} repeated ones and {len(in_test)} of the test set were left "
            "out; ask for fewer, or give drop_duplicates=False"
            if dropped
            else "; ask for fewer"
        )
        raise ValueError(
            f"sizes={sizes} want {sum(sizes)} questions; there are {len(left)} of {len(pool)}{why}"
        )
    solved = {i for i, p in enumerate(left) if p.solution is not None or not first_solved}
    if sizes[0] > len(solved):
        raise ValueError(
            f"the first of sizes={sizes} wants {sizes[0]} problems with a solution to learn from; "
            f"{len(solved)} of {len(left)} have one"
        )
    order = random.Random(seed).sample(range(len(left)), len(left))
    drawn = [i for i in order if i in solved][: sizes[0]]
    taken = set(drawn)
    others = [i for i in order if i not in taken][: sizes[1]]
    first, second = ([left[i] for i in sorted(part)] for part in (drawn, others))
    first_keys, second_keys = _keys(first), _keys(second)
    return QuestionSplit(
        first=first,
        second=second,
        duplicates=DuplicateReport(
            problems=len(pool),
            repeated=len(repeated),
            in_test=len(in_test),
            dropped=len(dropped),
            within_first=len(first) - len(set(first_keys)),
            within_second=len(second) - len(set(second_keys)),
            between=sum(key in set(first_keys) for key in second_keys),
            test_in_halves=sum(key in test_keys for key in first_keys + second_keys),
        ),
    )


def _keys(problems: Iterable[Problem]) -> list[str]:
    return [question_key(problem.question) for problem in problems]
