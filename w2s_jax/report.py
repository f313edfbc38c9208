"""A run's curves as one HTML file with inline SVG: opens anywhere, needs no library."""

import html
import json
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from w2s_jax.metrics import read_metrics

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
_WIDTH, _HEIGHT, _LEFT, _BOTTOM, _TOP = 640, 260, 72, 28, 14
_COLOURS = ("#1f6feb", "#d1242f")

_PAGE = """<!doctype html>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>{title}</title>
<style>
body {{ font: 15px/1.5 system-ui, sans-serif; max-width: 46rem; margin: 2rem auto; padding: 0 1rem;
  color: #1f2328; background: #fff; }}
svg {{ width: 100%; height: auto; }}
text {{ font: 11px system-ui, sans-serif; fill: #59636e; }}
h2 {{ font-size: 1rem; margin: 1.5rem 0 .25rem; }}
pre {{ background: #f6f8fa; padding: .75rem; overflow-x: auto; font-size: 12px; }}
</style>
<h1>{title}</h1>
<p>{summary}</p>
{charts}
<h2>Config</h2>
<pre>{config}</pre>
"""


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
    charts = []
    for title, names in CHARTS:
        curves = {
            name: [(row["step"], row[name]) for row in rows if row.get(name) is not None]
            for name in names
        }
        curves = {name: points for name, points in curves.items() if points}
        if curves:
            charts.append(f"<h2>{html.escape(title)}</h2>\n{_chart(title, curves)}")
    first, last = rows[0], rows[-1]
    summary = f"{len(rows)} steps; loss {_number(first['loss'])} at step {first['step']}, "
    summary += f"{_number(last['loss'])} at step {last['step']}."
    if "eval_before/loss" in first and "eval/loss" in last:
        summary += f" Held-out loss {_number(first['eval_before/loss'])} before the first step, "
        summary += f"{_number(last['eval/loss'])} after the last."
    path = workdir / "report.html"
    path.write_text(
        _PAGE.format(
            title=html.escape(f"Training run {workdir.name}"),
            summary=summary,
            charts="\n".join(charts),
            config=html.escape(json.dumps(config, indent=2, default=str)),
        )
    )
    return path


def _chart(title: str, curves: Mapping[str, Sequence[tuple[int, float]]]) -> str:
    points = [point for curve in curves.values() for point in curve]
    x_low, x_high = min(x for x, _ in points), max(x for x, _ in points)
    y_low, y_high = min(y for _, y in points), max(y for _, y in points)
    x_span, y_span = (x_high - x_low) or 1, (y_high - y_low) or 1

    def place(x: float, y: float) -> tuple[float, float]:
        across = _LEFT + (x - x_low) / x_span * (_WIDTH - _LEFT - 10)
        down = _HEIGHT - _BOTTOM - (y - y_low) / y_span * (_HEIGHT - _BOTTOM - _TOP)
        return across, down

    lines = [
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{html.escape(title)}">',
    ]
    for share in (0, 0.5, 1):
        value = y_low + share * (y_high - y_low)
        _, down = place(x_low, value)
        lines.append(
            f'<line x1="{_LEFT}" x2="{_WIDTH - 10}" y1="{down:.1f}" y2="{down:.1f}" '
            f'stroke="#d1d9e0"/><text x="{_LEFT - 6}" y="{down + 4:.1f}" '
            f'text-anchor="end">{_number(value)}</text>'
        )
    for step, anchor in ((x_low, "start"), (x_high, "end")):
        across, _ = place(step, y_low)
        lines.append(
            f'<text x="{across:.1f}" y="{_HEIGHT - 8}" text-anchor="{anchor}">step {step}</text>'
        )
    for index, (name, curve) in enumerate(curves.items()):
        colour = _COLOURS[index]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in (place(*point) for point in curve))
        if len(curve) == 1:
            x, y = place(*curve[0])
            lines.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>')
        lines.append(
            f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.5"/>'
            f'<text x="{_WIDTH - 12}" y="{_TOP + 12 * (index + 1)}" text-anchor="end" '
            f'style="fill:{colour}">{html.escape(name)}</text>'
        )
    return "\n".join([*lines, "</svg>"])


def _number(value: float | None) -> str:
    return "not finite" if value is None else f"{value:.4g}"
