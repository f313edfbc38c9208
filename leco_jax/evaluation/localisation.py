"""How often a chain's first wrong step is found, by LeCo's cuts or by any figure of its steps."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from leco_jax.evaluation.calibration import auroc

FIGURE_COLUMNS = (
    ("figure", ""), ("exact", ".1%"), ("within_one", ".1%"), ("steps", ".3f"), ("chains", ".3f"),
    ("false_alarms", ".1%"),
)  # fmt: skip
FIGURE_CAPTION = (
    "exact, within_one: wrong chains whose least step is the first wrong one, or beside it; steps, "
    "chains: AUROC of\nfirst wrong steps against right ones, of wrong chains against right ones; "
    "false_alarms: right chains flagged where\n80 % of the wrong ones are."
)
_FOUND = 0.8  # share of wrong chains at whose threshold false alarms are counted
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


def has_equation(step: str) -> bool:
    """Whether a step has an equation by which it can be compared."""
    return _equation(step) is not None


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


class LabelledFigures(NamedTuple):
    """What is known and what a model says of one chain.

    Attributes:
      first_wrong: the first wrong step; None: all are right.
      candidates: bool `[S]`, the steps that may be named.
      figures: `[S]` each by name, small is suspect (see `step_figures.FIGURES`).
    """

    first_wrong: int | None
    candidates: np.ndarray
    figures: Mapping[str, np.ndarray]


def figure_table(chains: Sequence[LabelledFigures]) -> list[dict]:
    """How well the least value of each figure names the first wrong step, beside chance.

    A line has `exact` and `within_one`, shares of the wrong chains whose least step is the first
    wrong one, or beside it; `steps`, the AUROC of first wrong steps against those that are known to
    be right (of right chains, and before the first wrong one); `chains`, the AUROC of wrong chains
    against right ones by their least step; `false_alarms`, the share of right chains whose least
    step lies below what four in five of the wrong chains lie below. Of steps of the same value the
    first is named.

    Raises:
      ValueError: there is no wrong chain.
    """
    wrong = [chain for chain in chains if chain.first_wrong is not None]
    right = [chain for chain in chains if chain.first_wrong is None]
    if not wrong:
        raise ValueError("none of the chains is known to have a wrong step")
    lines = [_figure_line(name, wrong, right) for name in chains[0].figures]
    return [*lines, _chance_line(wrong, right)]


def _figure_line(
    name: str, wrong: Sequence[LabelledFigures], right: Sequence[LabelledFigures]
) -> dict:
    def least(chain: LabelledFigures) -> float:
        return float(chain.figures[name][chain.candidates].min())

    distances = []
    for chain in wrong:
        values = np.where(chain.candidates, chain.figures[name], np.inf)
        distances.append(abs(int(np.argmin(values)) - _wrong(chain)))
    good = [chain.figures[name][: chain.first_wrong] for chain in (*wrong, *right)]
    bad = np.array([chain.figures[name][_wrong(chain)] for chain in wrong])
    worst, best = np.array([least(c) for c in wrong]), np.array([least(c) for c in right])
    return {
        "figure": name,
        "exact": float(np.mean([distance == 0 for distance in distances])),
        "within_one": float(np.mean([distance <= 1 for distance in distances])),
        "steps": auroc(np.concatenate(good), bad),
        "chains": auroc(best, worst),
        "false_alarms": float(np.mean(best <= np.quantile(worst, _FOUND))) if right else None,
    }


def _wrong(chain: LabelledFigures) -> int:
    assert chain.first_wrong is not None
    return chain.first_wrong


def _chance_line(wrong: Sequence[LabelledFigures], right: Sequence[LabelledFigures]) -> dict:
    def share(chain: LabelledFigures, reach: int) -> float:
        first = max(_wrong(chain) - reach, 0)
        near = chain.candidates[first : _wrong(chain) + reach + 1]
        return near.sum() / chain.candidates.sum()

    return {
        "figure": "a random step",
        "exact": float(np.mean([share(chain, 0) for chain in wrong])),
        "within_one": float(np.mean([share(chain, 1) for chain in wrong])),
        "steps": 0.5,
        "chains": 0.5 if right else None,
        "false_alarms": _FOUND if right else None,
    }
