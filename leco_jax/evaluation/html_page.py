"""Pages of one file with tables, texts and inline SVG charts: they open anywhere.

    page("Title", "One line.", [("Heading", [Table(("model", "correct"), [("cot", "76.6 %")])])])

The HTML stands in html_page.html.jinja; everything that is given here is text and gets escaped.
"""

import functools
import itertools
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import jinja2

_WIDTH, _HEIGHT, _LEFT, _BOTTOM, _TOP = 640, 260, 72, 28, 14
_LINE = 13  # between two names
_FEW = 12  # points that are marked one by one
_COLOURS = 6  # those of the template


class Table(NamedTuple):
    """A table of texts; the first column is set to the left."""

    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    kind: str = "table"


class Texts(NamedTuple):
    """Texts as they are, two beside each other."""

    texts: Sequence[str]
    kind: str = "texts"


class Curve(NamedTuple):
    """One curve of a chart, in the chart's units: its points, and its name at a height."""

    name: str
    points: Sequence[tuple[float, float]]
    marks: Sequence[tuple[float, float]]
    height: float


class Chart(NamedTuple):
    """A chart as `line_chart` lays it out."""

    title: str
    levels: Sequence[tuple[float, str]]
    ends: Sequence[tuple[float, str, str]]
    curves: Sequence[Curve]
    right: float
    left: float = _LEFT
    width: float = _WIDTH
    height: float = _HEIGHT
    kind: str = "chart"


Section = tuple[str, Sequence[Table | Texts | Chart]]


def page(title: str, summary: str, sections: Iterable[Section], *, wide: bool = False) -> str:
    """Gives a whole HTML page.

    Args:
      title: its heading.
      summary: the paragraph below it.
      sections: (heading, blocks) each.
      wide: for wide tables.
    """
    return _template().render(title=title, summary=summary, sections=list(sections), wide=wide)


@functools.cache
def _template() -> jinja2.Template:
    source = Path(__file__).with_name("html_page.html.jinja").read_text(encoding="utf-8")
    return jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined).from_string(source)


def line_chart(
    title: str, curves: Mapping[str, Sequence[tuple[float, float]]], *, x_name: str = "step"
) -> Chart:
    """Lays out curves, each with its name where it ends.

    Args:
      title: for those who can't see it.
      curves: points (x, y) by name, in rising x; at most six curves.
      x_name: what x counts.
    """
    points = [point for curve in curves.values() for point in curve]
    x_low, x_high = min(x for x, _ in points), max(x for x, _ in points)
    y_low, y_high = min(y for _, y in points), max(y for _, y in points)
    x_span, y_span = (x_high - x_low) or 1, (y_high - y_low) or 1
    right = round(_WIDTH - 14 - 6.2 * max(map(len, curves)), 1)

    def place(x: float, y: float) -> tuple[float, float]:
        across = _LEFT + (x - x_low) / x_span * (right - _LEFT)
        down = _HEIGHT - _BOTTOM - (y - y_low) / y_span * (_HEIGHT - _BOTTOM - _TOP)
        return round(across, 1), round(down, 1)

    placed = {name: [place(*point) for point in curve] for name, curve in curves.items()}
    heights = _apart({name: curve[-1][1] + 4 for name, curve in placed.items()})
    levels = [y_low + share * y_span for share in (0, 0.5, 1)] if y_high > y_low else [y_low]
    return Chart(
        title,
        levels=[(place(x_low, level)[1], number(level)) for level in levels],
        ends=[
            (place(x, y_low)[0], anchor, f"{x_name} {x:g}")
            for x, anchor in ((x_low, "start"), (x_high, "end"))
        ],
        curves=[
            Curve(name, curve, curve if len(curve) <= _FEW else (), heights[name])
            for name, curve in itertools.islice(placed.items(), _COLOURS)
        ],
        right=right,
    )


def _apart(heights: Mapping[str, float]) -> dict[str, float]:
    """Heights of names as near as may be to the given ones, none on top of another."""
    placed: dict[str, float] = {}
    lowest: float = _TOP - _LINE
    for name in sorted(heights, key=lambda name: heights[name]):
        lowest = placed[name] = max(heights[name], lowest + _LINE)
    beyond = max(0.0, lowest - (_HEIGHT - _BOTTOM + 4))
    return {name: round(height - beyond, 1) for name, height in placed.items()}


def number(value: float | None) -> str:
    """Four digits of a figure."""
    return "not finite" if value is None else f"{value:.4g}"
