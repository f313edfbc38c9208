"""A run's curves as one HTML file with inline SVG: opens anywhere, needs no library."""

import json
import pathlib
from collections.abc import Mapping
from typing import Any

from leco_jax.evaluation.html_page import Section, Texts, line_chart, number, page
from leco_jax.storage.files import write_text
from w2s_jax.training.metrics import read_metrics

# What is drawn, in this order, when the run has it.
CHARTS = (
    ("Loss", ("loss", "eval/loss")),
    ("Reward accuracy", ("rewards/accuracies", "eval/rewards/accuracies")),
    ("Reward margin", ("rewards/margins", "eval/rewards/margins")),
    ("Token accuracy", ("mean_token_accuracy", "eval/mean_token_accuracy")),
    ("Entropy (nats)", ("entropy", "eval/entropy")),
    ("Gradient norm", ("grad_norm",)),
    ("Learning rate", ("learning_rate",)),
    ("Tokens per second per chip", ("tokens_per_second_per_chip",)),
)


def write_report(workdir: str | pathlib.Path, config: Mapping[str, Any]) -> pathlib.Path:
    """Draws `metrics.jsonl` of a run into `report.html` beside it.

    Args:
      workdir: the run's directory.
      config: what to print below the charts, JSON values.

    Returns:
      The file's path.

    Raises:
      ValueError: the run has no metrics.
    """
    workdir = pathlib.Path(workdir)
    rows = read_metrics(workdir / "metrics.jsonl")
    if not rows:
        raise ValueError(f"{workdir / 'metrics.jsonl'} holds no steps: nothing to report")
    sections: list[Section] = []
    for title, names in CHARTS:
        curves = {
            name: [(row["step"], row[name]) for row in rows if row.get(name) is not None]
            for name in names
        }
        curves = {name: points for name, points in curves.items() if points}
        if curves:
            sections.append((title, [line_chart(title, curves)]))
    first, last = rows[0], rows[-1]
    summary = f"{len(rows)} steps; loss {number(first['loss'])} at step {first['step']}, "
    summary += f"{number(last['loss'])} at step {last['step']}."
    if "eval_before/loss" in first and "eval/loss" in last:
        summary += f" Held-out loss {number(first['eval_before/loss'])} before the first step, "
        summary += f"{number(last['eval/loss'])} after the last."
    path = workdir / "report.html"
    sections.append(("Config", [Texts([json.dumps(config, indent=2, default=str)])]))
    write_text(path, page(f"Training run {workdir.name}", summary, sections))
    return path
