"""How often LeCo cuts a wrong chain at the step that goes wrong first, where steps are known."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

_EQUATION = re.compile(r"(-?\d+) *([-+*/]) *(-?\d+) *= *(-?\d+)")


class Localisation(NamedTuple):
    """How the first cuts of wrong chains lie.

    Attributes:
      chains: first passes with a wrong answer that were cut.
      exact: share that was cut at the very step that goes wrong first.
      within_one: share that was cut there or at a step beside it.
      random: expected `exact` of a cut at a random one of the steps that may be cut.
    """

    chains: int
    exact: float
    within_one: float
    random: float


def first_wrong_step(steps: Sequence[str], solution: Sequence[str]) -> int:
    """The first step whose equation is not that of the solution's step, or is missing.

    Args:
      steps: of a chain with a wrong answer.
      solution: the right chain's steps, one equation `a op b = c` in each but the last.

    Returns:
      An index; that of the answer's step where all equations are right.
    """
    expected = [equation for step in solution if (equation := _equation(step)) is not None]
    for i, equation in enumerate(expected):
        if i >= len(steps) or _equation(steps[i]) != equation:
            return i
    return len(expected)


def _equation(step: str) -> tuple[str, ...] | None:
    match = _EQUATION.search(step)
    return match.groups() if match else None


def localisation(rows: Iterable[Mapping], solutions: Mapping[str, str]) -> Localisation:
    """Compares where LeCo cut wrong first passes with where they go wrong first.

    Args:
      rows: results lines; those of LeCo are read.
      solutions: the right chain of each problem, a line a step, by the problem's id.

    Raises:
      ValueError: no wrong first pass was cut.
    """
    distances: list[int] = []
    chances: list[float] = []
    for row in rows:
        if row["method"] != "leco" or row["error"] is not None or row["first_correct"] is not False:
            continue
        first = row["rounds"][0]
        if first["cut"] is None:
            continue
        texts = [step["text"] for step in first["steps"]]
        wrong = first_wrong_step(texts, solutions[row["id"]].splitlines())
        exclude = [text.lower() for text in row["settings"]["exclude"]]
        candidates = [
            i for i, text in enumerate(texts) if not any(part in text.lower() for part in exclude)
        ]
        distances.append(abs(first["cut"] - wrong))
        chances.append((wrong in candidates) / len(candidates))
    if not distances:
        raise ValueError("there is no wrong first pass of LeCo that was cut")
    count = len(distances)
    return Localisation(
        chains=count,
        exact=sum(distance == 0 for distance in distances) / count,
        within_one=sum(distance <= 1 for distance in distances) / count,
        random=sum(chances) / count,
    )
