"""The table at the end of a run: accuracy and cost of each method."""

import math
from collections.abc import Iterable, Sequence

from leco_jax.decoding.watch import WEAK_STEP
from leco_jax.evaluation.comparison import discordant, mcnemar

SUMMARY_COLUMNS = (
    ("method", ""),
    ("signal", ""),
    ("problems", "d"),
    ("errors", "d"),
    ("correct", ".1%"),
    ("low", ".1%"),
    ("high", ".1%"),
    ("gained", "d"),
    ("lost", "d"),
    ("p", ".2g"),
    ("unanswered", "d"),
    ("truncated", "d"),
    ("sampled", ".1f"),
    ("kept", ".1f"),
    ("rethinks", ".2f"),
    ("converged", ".1%"),
)
SUMMARY_CAPTION = (
    "errors: problems that failed; they count as wrong. low, high: 95 % interval of correct.\n"
    "signal: what a method looks at: the model alone (its tokens and confidence), checks of what "
    "its text claims,\n  or a tool that puts the text right. None sees gold.\n"
    "gained, lost: problems that only this line has right, or only the first line; p: McNemar's.\n"
    "truncated: passes that max_new_tokens ended; generation.truncated says how they are read.\n"
    "sampled, kept: tokens a problem."
)
_Z = 1.959964  # of a normal distribution's middle 95 %


def summarise(rows: Iterable[dict]) -> list[dict]:
    """Sums results up by method.

    A method whose passes go on from each other gets a line for its first pass too (`leco, first
    pass`), with that pass's own answer and cost, so that what the further ones changed can be seen.
    It is left out where a line before it has the same problems right at the same cost, such as
    chain of thought's.

    Args:
      rows: results lines: `reasoning.question.Result` as dicts with `error` None, and failures.

    Returns:
      A dict a line: `method`, `signal` (see `MethodConfig`), `problems`, `errors` (failures, which
      count as wrong), `correct` (share of problems; None without gold), `low` and `high` (its 95 %
      interval by Wilson), `gained` and `lost` (problems that only this line, or only the first one,
      has right; the pairs say more about a difference than two intervals do), `p` (of McNemar's
      test of them; None for the first line), `unanswered` (problems), `truncated` (passes), and for
      each problem that did not fail: `sampled` and `kept` (tokens), `rethinks` (None where no pass
      goes on from another) and `converged` (share; None where none did).
    """
    methods: dict[str, list[dict]] = {}
    for row in rows:
        methods.setdefault(row["method"], []).append(row)
    groups: dict[str, list[dict]] = {}
    for method, group in methods.items():
        first_passes = [_first_pass(row) for row in group if _has_first_pass(row)]
        if first_passes:
            failed = [row for row in group if row["error"] is not None]
            first = first_passes + failed
            if not any(_outcome(first) == _outcome(other) for other in groups.values()):
                groups[f"{method}, first pass"] = first
        groups[method] = group
    baseline = _right(next(iter(groups.values()), []))
    lines = [_line(method, group, baseline) for method, group in groups.items()]
    return [line | {"p": None} if i == 0 else line for i, line in enumerate(lines)]


_SIGNALS = {"model": "the model alone", "checks": "checks", "tool": "a tool"}


def conclusions(lines: Sequence[dict]) -> list[str]:
    """Says in two lines what to take from a table: by the model alone, and with help.

    Args:
      lines: of `summarise`; the first is what the others are compared with.

    Returns:
      Which method of each signal does best and at what cost; what self-consistency has, if it is
      there and not the best, stands beside it.
    """
    if not lines or lines[0]["correct"] is None:
        return []
    first, *others = lines

    def beside(line: dict) -> str:
        points = 100 * (line["correct"] - first["correct"])
        ratio = line["sampled"] / max(first["sampled"], 1)
        return f"{points:+.1f} points (p = {line['p']:.2g}) at {ratio:.2f} times its tokens"

    best = {}
    for signal in _SIGNALS:
        own = [line for line in others if line["signal"] == signal and line["correct"] is not None]
        if own:
            best[signal] = max(own, key=lambda line: line["correct"])
    said = {
        signal: f"By {_SIGNALS[signal]} {line['method']} does best, against {first['method']} "
        f"{beside(line)}"
        for signal, line in best.items()
    }
    for line in others:
        sampled = line["method"] == "self_consistency" and line["signal"] == "model"
        if sampled and line is not best["model"]:
            said["model"] += f"; {line['method']} has {beside(line)}"
    helped = " ".join(f"{said[signal]}." for signal in ("checks", "tool") if signal in said)
    alone = f"{said['model']}." if "model" in said else ""
    return [line for line in (alone, helped) if line]


def _has_first_pass(row: dict) -> bool:
    """Whether a whole first pass stands before others: not where a watch ended it."""
    return (
        row["error"] is None and not row["independent"] and row["rounds"][0]["finish"] != WEAK_STEP
    )


def _first_pass(row: dict) -> dict:
    first = row["rounds"][0]
    return row | {
        "rounds": [first],
        "answer": first["answer"],
        "correct": row["first_correct"],
        "stopped": "single",
        "independent": True,
    }


def _outcome(group: Sequence[dict]) -> tuple:
    """Which problems were solved, and at what cost."""
    sampled = sum(r["sampled"] for row in group if row["error"] is None for r in row["rounds"])
    return _right(group), sampled


def _right(group: Sequence[dict]) -> dict[str, bool]:
    """Whether each problem was solved, by its id, where that is known."""
    return {row["id"]: row["correct"] for row in group if row["correct"] is not None}


def _line(method: str, group: Sequence[dict], first: dict[str, bool]) -> dict:
    good = [row for row in group if row["error"] is None]
    right = _right(group)
    low, high = wilson_interval(sum(right.values()), len(right)) if right else (None, None)
    gained, lost = discordant(right, first)
    revised = any(not row["independent"] for row in good)
    converged = sum(row["stopped"] == "converged" for row in good)
    count = max(len(good), 1)
    return {
        "method": method,
        "signal": next((row["signal"] for row in good), None),
        "problems": len(group),
        "errors": len(group) - len(good),
        "correct": sum(right.values()) / len(right) if right else None,
        "low": low,
        "high": high,
        "gained": gained,
        "lost": lost,
        "p": mcnemar(gained, lost),
        "unanswered": sum(row["answer"] is None for row in good),
        "truncated": sum(r["finish"] == "length" for row in good for r in row["rounds"]),
        "sampled": sum(r["sampled"] for row in good for r in row["rounds"]) / count,
        "kept": sum(r["kept"] for row in good for r in row["rounds"]) / count,
        "rethinks": sum(len(row["rounds"]) - 1 for row in good) / count if revised else None,
        "converged": converged / count if converged else None,
    }


def wilson_interval(successes: int, trials: int) -> tuple[float, float]:
    """The 95 % interval of a share, also near 0 and 1 and for few trials (Wilson 1927)."""
    share = successes / trials
    scale = 1 + _Z**2 / trials
    middle = (share + _Z**2 / (2 * trials)) / scale
    half = _Z / scale * math.sqrt(share * (1 - share) / trials + _Z**2 / (4 * trials**2))
    return max(middle - half, 0.0), min(middle + half, 1.0)


def format_table(rows: Sequence[dict], columns: Sequence[tuple[str, str]]) -> str:
    """Sets rows as text.

    Args:
      rows: dicts; a value of None is shown as a dash.
      columns: (key, format spec) of each column, the key being its heading too.
    """
    cells = [[key for key, _ in columns]]
    for row in rows:
        cells.append(["-" if row[key] is None else format(row[key], spec) for key, spec in columns])
    widths = [max(len(line[i]) for line in cells) for i in range(len(columns))]
    numeric = [bool(spec) for _, spec in columns]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(line, widths, numeric, strict=True)
        ).rstrip()
        for line in cells
    )
