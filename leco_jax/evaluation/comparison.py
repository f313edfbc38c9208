"""Methods on the same problems: gained, lost, McNemar's p, the difference's interval; seeds too."""

import collections
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from leco_jax.evaluation.bootstrap import accuracy_difference_interval

COMPARISON_COLUMNS = (
    ("method", ""),
    ("signal", ""),
    ("problems", "d"),
    ("seeds", "d"),
    ("correct", ".2%"),
    ("worst", ".2%"),
    ("best", ".2%"),
    ("points", "+.2f"),
    ("low", "+.2f"),
    ("high", "+.2f"),
    ("gained", "d"),
    ("lost", "d"),
    ("p", ".2g"),
    ("calls", ".2f"),
    ("rounds", ".2f"),
    ("sampled", ".1f"),
    ("ratio", ".2f"),
)
COMPARISON_CAPTION = (
    "points: correct minus the first line's, in per cent of the problems; low, high: its 95 % "
    "interval by paired bootstrap over problems.\n"
    "worst, best: of the sampling seeds. gained, lost: problems, once a seed, that only this line "
    "has right, or only the first.\n"
    "p: McNemar's; with several seeds that of the same test by sign flips of whole problems.\n"
    "calls: chains begun or taken up again; rounds: of these the most in sequence.\n"
    "sampled: tokens a problem; ratio: over the first line's."
)


def discordant(here: Mapping[str, bool], there: Mapping[str, bool]) -> tuple[int, int]:
    """How many problems only `here` has right, and only `there`, of those that both know."""
    both = [(here[name], there[name]) for name in here.keys() & there.keys()]
    return sum(a and not b for a, b in both), sum(b and not a for a, b in both)


def mcnemar(gained: int, lost: int) -> float:
    """The two-sided p of McNemar's exact test: gains and losses as the tosses of a fair coin."""
    return sign_flip_p([1] * gained + [-1] * lost)


def sign_flip_p(differences: Sequence[int]) -> float:
    """The two-sided p of a sum of differences, each of which could as well have the other sign.

    Exact. With differences of 1 and -1 this is McNemar's test; with several seeds a problem's
    difference is that of the numbers of seeds in which the methods have it right, so that problems,
    not runs, are what counts as drawn.
    """
    sizes = collections.Counter(abs(d) for d in differences if d)
    chance = np.ones(1)  # of each sum, in steps of one, the middle being zero
    for size, count in sizes.items():
        tosses = np.zeros(2 * size * count + 1)
        for heads in range(count + 1):
            tosses[2 * size * heads] = math.comb(count, heads) / 2**count
        chance = np.convolve(chance, tosses)
    beyond = len(chance) // 2 - abs(sum(differences)) + 1
    return min(1.0, 2 * math.fsum(chance[:beyond]))


def compare(rows: Iterable[Mapping[str, Any]], *, against: str) -> list[dict[str, Any]]:
    """Compares every method with one of them, on the problems and seeds that both have.

    Args:
      rows: results lines, those of a problem that failed included; gold must be known. `seed` tells
        runs of one method with several sampling seeds apart; it may be missing where there is one.
        A first line with one seed, such as greedy decoding, is compared with every seed.
      against: the method that the others are compared with; it comes first.

    Returns:
      A dict a line, with the keys of `COMPARISON_COLUMNS`; the first line has no comparison.

    Raises:
      ValueError: the rows have no such method, or one without gold.
    """
    methods: dict[str, dict[tuple[str, int], Mapping[str, Any]]] = {}
    for row in rows:
        if row["correct"] is None:
            raise ValueError(f"{row['id']}, {row['method']}: there is no gold to compare with")
        methods.setdefault(row["method"], {})[row["id"], row.get("seed", 0)] = row
    if against not in methods:
        raise ValueError(f"no results of {against!r}; there are {', '.join(methods)}")
    base = methods.pop(against)
    own = _line(against, base)
    lines = [own]
    for method, by_problem in methods.items():
        line = _line(method, by_problem)
        line["ratio"] = line["sampled"] / own["sampled"] if own["sampled"] else None
        lines.append(line | _difference(by_problem, base))
    return lines


def _difference(by_problem: Mapping, base: Mapping) -> dict[str, Any]:
    """What tells two methods apart, over the problems and seeds that both have."""
    if len({seed for _, seed in base}) == 1:  # it stands beside all seeds of the other one
        seeds = {seed for _, seed in by_problem}
        base = {(name, seed): row for (name, _), row in base.items() for seed in seeds}
    right: dict[str, list[bool]] = collections.defaultdict(list)
    there: dict[str, list[bool]] = collections.defaultdict(list)
    for name, seed in sorted(by_problem.keys() & base.keys()):
        right[name].append(by_problem[name, seed]["correct"])
        there[name].append(base[name, seed]["correct"])
    if not right:
        return dict.fromkeys(("points", "low", "high", "gained", "lost", "p"))
    pairs = [pair for name in right for pair in zip(right[name], there[name], strict=True)]
    between = accuracy_difference_interval(
        [np.mean(right[name]) for name in right], [np.mean(there[name]) for name in right]
    )
    return {
        "points": 100 * between.value,
        "low": 100 * between.low,
        "high": 100 * between.high,
        "gained": sum(a and not b for a, b in pairs),
        "lost": sum(b and not a for a, b in pairs),
        "p": sign_flip_p([sum(right[name]) - sum(there[name]) for name in right]),
    }


def _line(method: str, by_problem: Mapping[tuple[str, int], Mapping[str, Any]]) -> dict[str, Any]:
    good = [row for row in by_problem.values() if row["error"] is None]
    seeds: dict[int, list[bool]] = collections.defaultdict(list)
    for (_, seed), row in by_problem.items():
        seeds[seed].append(row["correct"])
    shares = [float(np.mean(own)) for own in seeds.values()] if len(seeds) > 1 else []

    def mean(figures: Iterable[float]) -> float:
        return sum(figures) / max(len(good), 1)

    none = dict.fromkeys(("points", "low", "high", "gained", "lost", "p", "ratio"))
    return none | {
        "method": method,
        "signal": next((row["signal"] for row in good), None),
        "problems": len({name for name, _ in by_problem}),
        "seeds": len(seeds),
        "correct": sum(row["correct"] for row in by_problem.values()) / len(by_problem),
        "worst": min(shares, default=None),
        "best": max(shares, default=None),
        "calls": mean(len(row["rounds"]) for row in good),
        "rounds": mean(row["cost"]["rounds"] for row in good),
        "sampled": mean(sum(r["sampled"] for r in row["rounds"]) for row in good),
    }
