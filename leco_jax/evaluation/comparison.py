"""Two methods on the same problems: gained, lost, McNemar's p, the difference's interval."""

import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

COMPARISON_COLUMNS = (
    ("method", ""),
    ("signal", ""),
    ("problems", "d"),
    ("correct", ".2%"),
    ("points", "+.2f"),
    ("low", "+.2f"),
    ("high", "+.2f"),
    ("gained", "d"),
    ("lost", "d"),
    ("p", ".2g"),
    ("sampled", ".1f"),
    ("ratio", ".2f"),
)
COMPARISON_CAPTION = (
    "points: correct minus the first line's, in per cent of the problems; low, high: its 95 % "
    "interval by paired bootstrap.\n"
    "gained, lost: problems that only this line has right, or only the first; p: McNemar's.\n"
    "sampled: tokens a problem; ratio: over the first line's."
)


def discordant(here: Mapping[str, bool], there: Mapping[str, bool]) -> tuple[int, int]:
    """How many problems only `here` has right, and only `there`, of those that both know."""
    both = [(here[name], there[name]) for name in here.keys() & there.keys()]
    return sum(a and not b for a, b in both), sum(b and not a for a, b in both)


def mcnemar(gained: int, lost: int) -> float:
    """The two-sided p of McNemar's exact test: gains and losses as the tosses of a fair coin."""
    tosses = gained + lost
    tail = sum(math.comb(tosses, i) for i in range(min(gained, lost) + 1))
    return min(1.0, 2 * tail / 2**tosses)


def difference_interval(
    gained: int, lost: int, problems: int, *, resamples: int = 10_000, seed: int = 0
) -> tuple[float, float]:
    """The 95 % percentile interval of (gained - lost) / problems over resampled problems.

    Args:
      gained: problems that only one method has right.
      lost: problems that only the other one has right.
      problems: all.
      resamples: draws of all problems with replacement.
      seed: of the draws.
    """
    shares = np.array([gained, lost, problems - gained - lost]) / problems
    drawn = np.random.default_rng(seed).multinomial(problems, shares, size=resamples)
    low, high = np.quantile((drawn[:, 0] - drawn[:, 1]) / problems, [0.025, 0.975])
    return float(low), float(high)


def compare(rows: Iterable[Mapping[str, Any]], *, against: str) -> list[dict[str, Any]]:
    """Compares every method with one of them, on the problems that both have.

    Args:
      rows: results lines, those of a problem that failed included; gold must be known.
      against: the method that the others are compared with; it comes first.

    Returns:
      A dict a line, with the keys of `COMPARISON_COLUMNS`; the first line has no comparison.

    Raises:
      ValueError: the rows have no such method, or one without gold.
    """
    methods: dict[str, dict[str, Mapping[str, Any]]] = {}
    for row in rows:
        if row["correct"] is None:
            raise ValueError(f"{row['id']}, {row['method']}: there is no gold to compare with")
        methods.setdefault(row["method"], {})[row["id"]] = row
    if against not in methods:
        raise ValueError(f"no results of {against!r}; there are {', '.join(methods)}")
    base = methods.pop(against)
    own = _line(against, base)
    lines = [own]
    for method, found in methods.items():
        shared = base.keys() & found.keys()
        right, there = ({name: part[name]["correct"] for name in shared} for part in (found, base))
        gained, lost = discordant(right, there)
        low, high = difference_interval(gained, lost, len(shared)) if shared else (0.0, 0.0)
        line = _line(method, found)
        line |= {
            "points": 100 * (gained - lost) / max(len(shared), 1),
            "low": 100 * low,
            "high": 100 * high,
            "gained": gained,
            "lost": lost,
            "p": mcnemar(gained, lost),
            "ratio": line["sampled"] / own["sampled"] if own["sampled"] else None,
        }
        lines.append(line)
    return lines


def _line(method: str, found: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    good = [row for row in found.values() if row["error"] is None]
    none = dict.fromkeys(("points", "low", "high", "gained", "lost", "p", "ratio"))
    return none | {
        "method": method,
        "signal": next((row["signal"] for row in good), None),
        "problems": len(found),
        "correct": sum(row["correct"] for row in found.values()) / len(found),
        "sampled": sum(r["sampled"] for row in good for r in row["rounds"]) / max(len(good), 1),
    }
