"""The report of runs: tables with intervals, charts, and every chain, on one page."""

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from leco_jax.evaluation.calibration import Bin, auroc, calibration_error, reliability
from leco_jax.evaluation.chain_browser import answer_masses, browser_data, rounds_of
from leco_jax.evaluation.charts import Chart, Series, chart, forest, log_ticks, ticks
from leco_jax.evaluation.comparison import COMPARISON_CAPTION, COMPARISON_COLUMNS, compare
from leco_jax.evaluation.html_page import Chains, Note, Section, Table, Texts, page, run_table
from leco_jax.evaluation.stored_runs import stored_rows
from leco_jax.evaluation.summary import summarise, wilson_interval
from leco_jax.storage.files import read_json

_FIGURES = ("mass", "mean token", "weakest token", "weakest step")
_COUNTS = ("unanswered", "errors", "truncated")
_METHODS = (*COMPARISON_COLUMNS, *((name, "d") for name in _COUNTS))
_IF_ANY = ("worst", "best", *_COUNTS)  # columns that are left out where there is nothing in them
_CALIBRATION = (
    ("method", ""), ("answered", "d"), ("ECE of mass", ".3f"),
    *((f"AUROC of {name}", ".3f") for name in _FIGURES),
)  # fmt: skip
_COLOURS = {"model": 0, "checks": 1, "tool": 2}
_TOKENS_NOTE = (
    "Bars: 95 % intervals (Wilson). Circles: confidence alone; squares: checks of what the text "
    "claims; diamonds: tool use. Tokens are on a logarithmic scale."
)
_CALIBRATION_NOTE = (
    "Mass: the sum of the probabilities of the different chains seen that end in the final answer, "
    "which is less than the answer's own probability. Curves: at most ten bins of equal number; on "
    "the dashed line mass is the share that is right. ECE: expected calibration error. AUROC: how "
    "often a right answer has more of it than a wrong one; mean and weakest token, and weakest "
    "step by LeCo's score, are those of the likeliest chain with that answer."
)


class Report:
    """The report of one or several runs on the same problems.

    Attributes:
      lines: of `comparison.compare`, with counts of `summarise` and figures of calibration.
    """

    def __init__(self, workdirs: Sequence[Path], *, against: str):
        """Reads the runs.

        Args:
          workdirs: of launchers.leco.
          against: the method that the others are compared with.

        Raises:
          ValueError: as `compare`.
        """
        self._against = against
        self._rows = list(stored_rows(workdirs))
        self._runs = {workdir.name: _read(workdir / "summary.json") for workdir in workdirs}
        self._configs = {workdir.name: _read(workdir / "config.json") for workdir in workdirs}
        self._bins: dict[str, list[Bin]] = {}
        self.lines = compare(self._rows, against=against)
        sums = {line["method"]: line for line in summarise(self._rows)}
        for line in self.lines:
            method = line["method"]
            own = [(row, _confidences(row)) for row in self._rows if row["method"] == method]
            answered = [
                (row["correct"], confidences) for row, confidences in own if confidences is not None
            ]
            right = [correct for correct, _ in answered]
            figures = {
                name: [confidences[name] for _, confidences in answered] for name in _FIGURES
            }
            self._bins[method] = reliability(figures["mass"], right)
            line |= {name: sums[method][name] for name in _COUNTS}
            for name in _FIGURES:
                values, correct = np.asarray(figures[name], float), np.asarray(right, bool)
                line[f"AUROC of {name}"] = auroc(values[correct], values[~correct])
            line["answered"] = len(answered)
            line["ECE of mass"] = calibration_error(self._bins[method])

    def csv(self) -> str:
        """One line a method with all figures of the tables."""
        file = io.StringIO()
        columns = list(dict([*_METHODS, *_CALIBRATION]))
        writer = csv.DictWriter(file, columns, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.lines)
        return file.getvalue()

    def markdown(self) -> str:
        """The tables of methods, of calibration and of runs."""
        parts = []
        for table, note in (
            (self._table(_METHODS), COMPARISON_CAPTION),
            (self._table(_CALIBRATION), _CALIBRATION_NOTE),
            (run_table(self._runs), ""),
        ):
            rule = ["---"] * table.texts + ["---:"] * (len(table.head) - table.texts)
            lines = [" | ".join(map(_cell, cells)) for cells in (table.head, rule, *table.rows)]
            parts += ["\n".join(f"| {line} |" for line in lines), note]
        return "\n\n".join(parts).strip() + "\n"

    def html(self) -> str:
        """The page."""
        configs = {name: Texts([json.dumps(own, indent=2)]) for name, own in self._configs.items()}
        sections: list[Section] = [
            ("Methods", [self._forest(), Note(COMPARISON_CAPTION)]),
            ("Correct answers against tokens", [self._tokens(), Note(_TOKENS_NOTE)]),
            (
                "Calibration",
                [self._reliability(), self._table(_CALIBRATION), Note(_CALIBRATION_NOTE)],
            ),
            ("Chains", [Chains(browser_data(self._rows, self._against))]),
            ("Runs", [run_table(self._runs)]),
            *((f"Config of {name}", [config]) for name, config in configs.items()),
        ]
        problems = len({row["id"] for row in self._rows})
        summary = f"{problems:,} problems, {len(self.lines)} methods, against {self._against}."
        return page(f"Reasoning report: {', '.join(self._runs)}", summary, sections, wide=True)

    def _table(self, columns: Sequence[tuple[str, str]]) -> Table:
        columns = [c for c in columns if c[0] not in _IF_ANY or any(x[c[0]] for x in self.lines)]
        rows = [
            ["-" if line[key] is None else format(line[key], spec) for key, spec in columns]
            for line in self.lines
        ]
        return Table([key for key, _ in columns], rows, sum(not spec for _, spec in columns))

    def _forest(self) -> Table:
        """The table of methods with the intervals drawn, and their axis below."""
        head, rows, texts, _ = self._table(_METHODS)
        intervals = [
            None if line["points"] is None else (line["low"], line["points"], line["high"])
            for line in self.lines
        ]
        at = head.index("low")
        lines = zip([*rows, [""] * len(head)], forest(intervals), strict=True)
        drawn = [[*row[:at], cell, *row[at:]] for row, cell in lines]
        return Table([*head[:at], f"points over {self._against}", *head[at:]], drawn, texts)

    def _tokens(self) -> Chart:
        series = {}
        for line in self.lines:
            right = round(line["correct"] * line["problems"])
            low, high = wilson_interval(right, line["problems"])
            series[line["method"]] = Series(
                [(max(line["sampled"], 1.0), 100 * line["correct"])],
                intervals=[(100 * low, 100 * high)],
                colour=_COLOURS.get(line["signal"], 5),
            )
        tokens = [one.points[0][0] for one in series.values()]
        ends = [end for one in series.values() for end in one.intervals[0]]
        return chart(
            "Correct answers against tokens a problem",
            series,
            x_ticks=[(x, f"{x:g}") for x in log_ticks(min(tokens), max(tokens))],
            y_ticks=[(y, f"{y:g} %") for y in ticks(min(ends), max(ends))],
            x_name="sampled tokens a problem",
            y_name="correct",
            log_x=True,
            height=340,
        )

    def _reliability(self) -> Chart:
        series = {"mass = correct": Series([(0, 0), (1, 100)], colour=5, dashed=True)}
        for i, (method, bins) in enumerate(self._bins.items()):
            if bins:
                points = [(one.confidence, 100 * one.correct) for one in bins]
                series[method] = Series(points, colour=i)
        return chart(
            "Share of right answers by mass",
            series,
            x_ticks=[(x, f"{x:g}") for x in ticks(0, 1)],
            y_ticks=[(y, f"{y:g} %") for y in ticks(0, 100)],
            x_name="mass of the answer",
            y_name="correct",
            height=340,
        )


def _read(path: Path) -> dict[str, Any]:
    return read_json(path) if path.exists() else {}


def _cell(text: Any) -> str:
    return str(text).replace("|", "\\|").replace("\n", " ")


def _confidences(row: Mapping[str, Any]) -> dict[str, float] | None:
    """The figures of a final answer that more confidence makes larger; None without an answer."""
    rounds = rounds_of(row)
    own = [c for c in rounds if c.answer == row.get("answer") and c.sum_logprob is not None]
    if not own or own[0].answer is None:
        return None
    best = max(own, key=lambda chain: chain.sum_logprob)
    return {
        "mass": answer_masses(rounds)[best.answer],
        "mean token": best.mean_logprob,
        "weakest token": best.min_logprob,
        "weakest step": min((step["score"] for step in best.steps), default=math.inf),
    }
