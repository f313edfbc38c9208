"""The table at the end of a run: accuracy and cost of each method."""

from collections.abc import Iterable, Sequence

from leco_jax.decoding.watch import WEAK_STEP

SUMMARY_COLUMNS = (
    ("method", ""),
    ("problems", "d"),
    ("errors", "d"),
    ("correct", ".1%"),
    ("unanswered", "d"),
    ("sampled", ".1f"),
    ("kept", ".1f"),
    ("rethinks", ".2f"),
    ("converged", ".1%"),
)


def summarise(rows: Iterable[dict]) -> list[dict]:
    """Sums results up by method.

    A method of several passes gets a line for its first pass too (`leco, first pass`), with that
    pass's own answer and cost, so that what the further ones changed can be seen.

    Args:
        rows: results lines (`reasoning.result.Result` as dicts) and error lines.

    Returns:
        A dict a line: `method`, `problems`, `errors`, `correct` (None without gold),
        `unanswered`, `sampled` (tokens a problem), `kept` (tokens taken over a problem),
        `rethinks` (a problem), `converged` (share of problems).
    """
    groups: dict[str, list[dict]] = {}
    for row in rows:
        if _has_first_pass(row):
            groups.setdefault(f"{row['method']}, first pass", []).append(_first_pass(row))
        groups.setdefault(row["method"], []).append(row)
    return [_line(method, group) for method, group in groups.items()]


def _has_first_pass(row: dict) -> bool:
    """Whether a whole first pass stands before others: not where a watch ended it."""
    if row["error"] is not None or row["stopped"] == "single":
        return False
    return row["rounds"][0]["finish"] != WEAK_STEP


def _first_pass(row: dict) -> dict:
    first = row["rounds"][0]
    return row | {
        "rounds": [first],
        "answer": first["answer"],
        "correct": row["first_correct"],
        "stopped": "single",
    }


def _line(method: str, group: Sequence[dict]) -> dict:
    good = [row for row in group if row["error"] is None]
    known = [row for row in good if row["correct"] is not None]
    count = max(len(good), 1)
    return {
        "method": method,
        "problems": len(group),
        "errors": len(group) - len(good),
        "correct": sum(row["correct"] for row in known) / len(known) if known else None,
        "unanswered": sum(row["answer"] is None for row in good),
        "sampled": sum(r["sampled"] for row in good for r in row["rounds"]) / count,
        "kept": sum(r["kept"] for row in good for r in row["rounds"]) / count,
        "rethinks": sum(len(row["rounds"]) - 1 for row in good) / count,
        "converged": sum(row["stopped"] == "converged" for row in good) / count,
    }


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
    numeric = [all(not isinstance(row[key], str) for row in rows) for key, _ in columns]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(line, widths, numeric, strict=True)
        ).rstrip()
        for line in cells
    )
