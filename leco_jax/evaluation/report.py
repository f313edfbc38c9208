"""The report of runs: tables with intervals, charts, and every chain, on a page of its own."""

import csv
import io
import json
import math
import types
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from leco_jax.evaluation.calibration import auroc, calibration_error, reliability
from leco_jax.evaluation.charts import Chart, Series, chart, forest, round_values
from leco_jax.evaluation.comparison import COMPARISON_CAPTION, compare
from leco_jax.evaluation.html_page import Chains, Note, Section, Table, Texts, page
from leco_jax.evaluation.stored_runs import stored_rows
from leco_jax.evaluation.summary import summarise, wilson_interval
from leco_jax.reasoning.chain_reader import WEAK
from leco_jax.reasoning.selection import masses, scale
from leco_jax.storage.files import read_json

Line = dict[str, Any]
Columns = Sequence[tuple[str, str]]

_METHODS: Columns = (
    ("method", ""), ("signal", ""), ("problems", ",d"), ("correct", ".1%"), ("points", "+.1f"),
    ("low", "+.1f"), ("high", "+.1f"), ("gained", "d"), ("lost", "d"), ("p", ".1g"),
    ("sampled", ".1f"), ("ratio", ".2f"), ("unanswered", "d"), ("errors", "d"), ("truncated", "d"),
)  # fmt: skip
_CALIBRATION: Columns = (
    ("method", ""), ("answered", "d"), ("ECE of mass", ".3f"), ("AUROC of mass", ".3f"),
    ("of mean token", ".3f"), ("of weakest token", ".3f"), ("of weakest step", ".3f"),
)  # fmt: skip
_SIGNALS = {"model": 0, "checks": 1, "tool": 2}
_TOKENS_NOTE = (
    "Bars: 95 % intervals (Wilson). Circles: confidence alone; squares: checks of what the text "
    "claims; diamonds: tool use. Tokens are sampled ones, on a logarithmic scale."
)
_CALIBRATION_NOTE = (
    "Mass: the sum of the probabilities of the different chains seen that end in the final answer, "
    "which is less than the answer's own probability. Curves: ten bins at most, of equal number; on "
    "the dashed line mass is the share that is right. ECE: expected calibration error. AUROC: how "
    "often a right answer has more of it than a wrong one; mean and weakest token, and weakest "
    "step by LeCo's score, are those of the likeliest chain with that answer."
)


class Report:
    """What stands in the report of one or several runs of the same problems."""

    def __init__(self, workdirs: Sequence[Path], *, against: str):
        """Reads the runs.

        Args:
          workdirs: of launchers.leco.
          against: the method that the others are compared with.

        Raises:
          ValueError: as `comparison.compare`.
        """
        self._rows = list(stored_rows(workdirs))
        self._runs = [(workdir, _read(workdir / "summary.json")) for workdir in workdirs]
        self._configs = [(workdir, _read(workdir / "config.json")) for workdir in workdirs]
        sums = {line["method"]: line for line in summarise(self._rows)}
        more = ("errors", "unanswered", "truncated")
        self.against = against
        self.lines: list[Line] = [
            line | {name: sums[line["method"]][name] for name in more}
            for line in compare(self._rows, against=against)
        ]
        self._confidences = {
            line["method"]: _confidences(r for r in self._rows if r["method"] == line["method"])
            for line in self.lines
        }
        for line in self.lines:
            line |= _calibration(self._confidences[line["method"]])

    def csv(self) -> str:
        """One line a method with all figures of the tables."""
        columns = dict([*_METHODS, *_CALIBRATION])
        file = io.StringIO()
        writer = csv.DictWriter(file, columns, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.lines)
        return file.getvalue()

    def markdown(self) -> str:
        """The tables of methods, of calibration and of runs."""
        tables = [self._table(_METHODS), self._table(_CALIBRATION), self._made()]
        notes = [COMPARISON_CAPTION, _CALIBRATION_NOTE, ""]
        parts = []
        for table, note in zip(tables, notes, strict=True):
            rules = ["---"] * table.texts + ["---:"] * (len(table.head) - table.texts)
            cells = [table.head, rules, *table.rows]
            parts += ["\n".join(f"| {' | '.join(map(_cell, line))} |" for line in cells), note]
        return "\n\n".join(parts).strip() + "\n"

    def html(self) -> str:
        """The page."""
        methods = self._table(_METHODS)
        found = [
            None if line["points"] is None else (line["low"], line["points"], line["high"])
            for line in self.lines
        ]
        at = methods.head.index("low")
        lines = zip([*methods.rows, [""] * len(methods.head)], forest(found), strict=True)
        rows = [[*row[:at], cell, *row[at:]] for row, cell in lines]
        head = [*methods.head[:at], f"points over {self.against}", *methods.head[at:]]
        problems = len({row["id"] for row in self._rows})
        sections: list[Section] = [
            ("Methods", [Table(head, rows, texts=2), Note(COMPARISON_CAPTION)]),
            ("Correct answers against tokens", [self._tokens(), Note(_TOKENS_NOTE)]),
            (
                "Calibration",
                [self._reliability(), self._table(_CALIBRATION), Note(_CALIBRATION_NOTE)],
            ),
            ("Chains", [Chains(chains_data(self._rows, self.lines))]),
            ("Runs", [self._made()]),
            *(
                (f"Config of {workdir.name}", [Texts([json.dumps(config, indent=2)])])
                for workdir, config in self._configs
            ),
        ]
        names = ", ".join(workdir.name for workdir, _ in self._runs)
        summary = f"{problems:,} problems, {len(self.lines)} methods, against {self.against}."
        return page(f"Reasoning report: {names}", summary, sections, wide=True)

    def _table(self, columns: Columns) -> Table:
        rows = [
            ["-" if line[key] is None else format(line[key], spec) for key, spec in columns]
            for line in self.lines
        ]
        return Table([key for key, _ in columns], rows, sum(not spec for _, spec in columns))

    def _made(self) -> Table:
        rows = []
        for workdir, run in self._runs:
            made = {"seconds": f"{run['seconds']:.0f}"} if "seconds" in run else {}
            made |= run.get("made", {})
            keys = ("date", "commit", "device", "seconds", "command")
            rows.append([workdir.name, *(made.get(key) or "not known" for key in keys)])
        return Table(["run", "date", "commit", "device", "seconds", "command"], rows, 6)

    def _tokens(self) -> Chart:
        series = {}
        for line in self.lines:
            right = round(line["correct"] * line["problems"])
            low, high = wilson_interval(right, line["problems"])
            series[line["method"]] = Series(
                [(max(line["sampled"], 1.0), 100 * line["correct"])],
                [(100 * low, 100 * high)],
                _SIGNALS.get(line["signal"], 5),
            )
        tokens = [max(line["sampled"], 1.0) for line in self.lines]
        ends = [end for one in series.values() for end in one.intervals[0]]
        return chart(
            "Correct answers against tokens a problem",
            series,
            x_ticks=[(x, f"{x:g}") for x in _powers(min(tokens), max(tokens))],
            y_ticks=[(y, f"{y:g} %") for y in _around(min(ends), max(ends))],
            x_name="sampled tokens a problem",
            y_name="correct",
            log_x=True,
            height=340,
        )

    def _reliability(self) -> Chart:
        series = {"mass = correct": Series([(0, 0), (1, 100)], colour=5, dashed=True)}
        for i, (method, found) in enumerate(self._confidences.items()):
            bins = reliability([c["mass"] for c in found], [c["right"] for c in found])
            points = [(one.confidence, 100 * one.correct) for one in bins]
            if points:
                series[method] = Series(points, colour=i)
        return chart(
            "Share of right answers by mass",
            series,
            x_ticks=[(x / 5, f"{x / 5:g}") for x in range(6)],
            y_ticks=[(y, f"{y} %") for y in range(0, 101, 25)],
            x_name="mass of the answer",
            y_name="correct",
            height=340,
        )


def _read(path: Path) -> dict[str, Any]:
    return read_json(path) if path.exists() else {}


def _cell(text: Any) -> str:
    return str(text).replace("|", "\\|").replace("\n", " ")


def _powers(low: float, high: float) -> list[float]:
    """1, 2, 5, 10, ... from the last not above `low` to the first not below `high`."""
    steps = [n * 10.0**e for e in range(12) for n in (1, 2, 5)]
    first = max(i for i, step in enumerate(steps) if step <= low)
    last = next(i for i, step in enumerate(steps) if step >= high and i > first)
    return steps[first : last + 1]


def _around(low: float, high: float) -> list[float]:
    inner = round_values(low, high)
    step = inner[1] - inner[0] if len(inner) > 1 else 1.0
    first, last = math.floor(low / step), math.ceil(high / step)
    return [round(i * step, 10) for i in range(first, last + 1)]


def _rounds(row: Mapping[str, Any]) -> list[Any]:
    """Rounds with their fields as attributes; a file of before may lack the last two."""
    older = {"spans": (0, 0), "weak_tokens": ()}
    return [types.SimpleNamespace(**(older | chain)) for chain in row["rounds"]]


def _masses(row: Mapping[str, Any]) -> dict[str, float]:
    """The sum of the probabilities of the different chains of each answer."""
    rounds = _rounds(row)
    top = math.exp(scale(rounds))
    found = masses([chain.answer for chain in rounds], lambda a, b: a == b, rounds)
    return {one.answer: one.weight * top for one in found}


def _weakest(chain: Any) -> float:
    return min((step["score"] for step in chain.steps), default=math.inf)


def _confidences(rows) -> list[dict[str, Any]]:
    """Four confidences of each final answer, and whether it is right."""
    found = []
    for row in rows:
        if row["error"] is not None or row["answer"] is None:
            continue
        own = [c for c in _rounds(row) if c.answer == row["answer"] and c.sum_logprob is not None]
        if not own:
            continue
        best = max(own, key=lambda chain: chain.sum_logprob)
        found.append(
            {
                "right": row["correct"],
                "mass": _masses(row)[row["answer"]],
                "mean": best.mean_logprob,
                "token": best.min_logprob,
                "step": _weakest(best),
            }
        )
    return found


def _calibration(found: Sequence[Mapping[str, Any]]) -> Line:
    right = [c["right"] for c in found]
    names = {"mass": "AUROC of mass", "mean": "of mean token", "token": "of weakest token"}
    names["step"] = "of weakest step"
    return {
        "answered": len(found),
        "ECE of mass": calibration_error(reliability([c["mass"] for c in found], right)),
    } | {name: auroc([c[key] for c in found], right) for key, name in names.items()}


def chains_data(rows: Sequence[Mapping[str, Any]], lines: Sequence[Line]) -> dict[str, Any]:
    """What html_page.js shows, each chain once; it says the form.

    Args:
      rows: results lines.
      lines: of `compare`: the methods, the first being what the others are compared with.
    """
    base = {row["id"]: row["correct"] for row in rows if row["method"] == lines[0]["method"]}
    problems: dict[str, int] = {}
    chains: dict[str, int] = {}
    results = []
    for row in rows:
        asked = json.dumps([row["id"], row["question"], row["gold"]])
        problem = problems.setdefault(asked, len(problems))
        here, there = row["correct"], base.get(row["id"], row["correct"])
        change = "" if here == there else "gained" if here else "lost"
        if row["error"] is not None:
            head = [problem, row["method"], None, "failed", change, "", row["error"]]
            results.append([*head, 9, 0, True, [], []])
            continue
        own = _rounds(row)
        outcome = "right" if here else "unanswered" if row["answer"] is None else "wrong"
        results.append([
            problem, row["method"], row["answer"], outcome, change, row["stopped"], None,
            min(map(_weakest, own[:1])), sum(c.sampled for c in own), row["independent"],
            [[answer, _short(mass)] for answer, mass in _masses(row).items()],
            [
                [chains.setdefault(json.dumps(_chain(c)), len(chains)), c.answer, c.cut, *c.spans,
                 c.sampled, c.kept, c.finish, c.sum_logprob and round(c.sum_logprob, 2)]
                for c in own
            ],
        ])  # fmt: skip
    return {
        "threshold": WEAK,
        "methods": [line["method"] for line in lines],
        "problems": [json.loads(one) for one in problems],
        "chains": [json.loads(one) for one in chains],
        "results": results,
    }


def _chain(chain: Any) -> list[Any]:
    """The text, its steps and its weak tokens, by their places."""
    steps, done = [], 0
    for step in chain.steps:
        found = chain.text.find(step["text"], done)
        start = done if found < 0 else found
        done = start if found < 0 else start + len(step["text"])
        steps.append([start, done, round(step["score"], 2)])
    weak = [[start, end, round(p, 2)] for start, end, p in chain.weak_tokens]
    return [chain.text, steps, weak]


def _short(value: float) -> float:
    return float(f"{value:.3g}")
