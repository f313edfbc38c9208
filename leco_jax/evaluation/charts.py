"""Line charts, scatter charts and forest plots, laid out in SVG's units for html_page."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

_WIDTH, _HEIGHT, _LEFT, _BOTTOM, _TOP = 640, 260, 72, 28, 14
_LINE = 13  # between two names
_LETTER = 6.2  # the width of one
_FEW = 12  # points that are marked one by one
_COLOURS = 6  # those of the template
_FOREST = 150  # width of an interval's cell


class Range(NamedTuple):
    """A cell with an interval as a forest plot draws it: places from 0 to `_FOREST`.

    With `ticks` (place, text) it is the axis below.
    """

    low: float
    value: float
    high: float
    zero: float
    ticks: Sequence[tuple[float, str]] = ()
    width: float = _FOREST


class Curve(NamedTuple):
    """One curve of a chart, in the chart's units: its points, and where its name stands.

    Attributes:
      name: of the curve.
      points: joined by a line if there are several.
      marks: of them those that are marked.
      bars: (x, y, y) of intervals.
      at: (x, y, anchor) of the name.
      colour: of the template's six, which also says the marks' shape.
      dashed: as a line to compare with.
    """

    name: str
    points: Sequence[tuple[float, float]]
    marks: Sequence[tuple[float, float]]
    bars: Sequence[tuple[float, float, float]]
    at: tuple[float, float, str]
    colour: int
    dashed: bool


class Chart(NamedTuple):
    """A chart as `chart` lays it out."""

    title: str
    levels: Sequence[tuple[float, str]]
    ends: Sequence[tuple[float, str, str]]
    names: tuple[str, str]
    curves: Sequence[Curve]
    right: float
    height: float
    left: float = _LEFT
    width: float = _WIDTH
    kind: str = "chart"


class Series(NamedTuple):
    """What `chart` draws under one name.

    Attributes:
      points: (x, y) in rising x.
      intervals: (low, high) of each point, or none.
      colour: of the template's six.
      dashed: as a line to compare with.
    """

    points: Sequence[tuple[float, float]]
    intervals: Sequence[tuple[float, float]] = ()
    colour: int = 0
    dashed: bool = False


def forest(intervals: Sequence[tuple[float, float, float] | None]) -> list[str | Range]:
    """Cells of a forest plot, and its axis for one row more.

    Args:
      intervals: (low, value, high) of each row; None leaves the cell empty.
    """
    ends = [0.0, *(end for interval in intervals if interval for end in interval)]
    marks = ticks(min(ends), max(ends))
    low, high = marks[0], marks[-1]

    def place(value: float) -> float:
        return round(12 + (value - low) / (high - low) * (_FOREST - 24), 1)

    cells: list[str | Range] = [
        "" if one is None else Range(place(one[0]), place(one[1]), place(one[2]), place(0))
        for one in intervals
    ]
    axis = [(place(tick), f"{tick:+g}" if tick else "0") for tick in marks]
    return [*cells, Range(0, 0, 0, place(0), axis)]


def ticks(low: float, high: float) -> list[float]:
    """About five round numbers in equal steps, from `low` or less to `high` or more."""
    rough = (high - low) / 5 or 1.0
    unit = 10.0 ** math.floor(math.log10(rough))
    step = next(unit * n for n in (1, 2, 5, 10) if unit * n >= rough * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(i * step, 10) for i in range(first, max(last, first + 1) + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """The numbers 1, 2, 5, 10, ... from `low` or less to `high` or more; `low` is at least 1."""
    steps = [n * 10.0**e for e in range(12) for n in (1, 2, 5)]
    first = max(i for i, step in enumerate(steps) if step <= low)
    last = next(i for i, step in enumerate(steps) if step >= high and i > first)
    return steps[first : last + 1]


def line_chart(
    title: str, curves: Mapping[str, Sequence[tuple[float, float]]], *, x_name: str = "step"
) -> Chart:
    """Lays out curves over all that they span, each with its name where it ends.

    Args:
      title: for those who can't see it.
      curves: points (x, y) by name, in rising x; at most six curves.
      x_name: what x counts.
    """
    points = [point for curve in curves.values() for point in curve]
    x_low, x_high = min(x for x, _ in points), max(x for x, _ in points)
    y_low, y_high = min(y for _, y in points), max(y for _, y in points)
    span = y_high - y_low
    levels = [y_low + share * span for share in (0, 0.5, 1)] if span else [y_low]
    first = list(curves.items())[:_COLOURS]
    return chart(
        title,
        {name: Series(curve, colour=i) for i, (name, curve) in enumerate(first)},
        x_ticks=[(x, f"{x_name} {x:g}") for x in sorted({x_low, x_high})],
        y_ticks=[(level, number(level)) for level in levels],
    )


def chart(
    title: str,
    curves: Mapping[str, Series],
    *,
    x_ticks: Sequence[tuple[float, str]],
    y_ticks: Sequence[tuple[float, str]],
    x_name: str = "",
    y_name: str = "",
    log_x: bool = False,
    height: float = _HEIGHT,
) -> Chart:
    """Lays out curves between the outermost ticks.

    The name of a curve stands where it ends: right of the chart, or beside a single point.

    Args:
      title: for those who can't see it.
      curves: by their names.
      x_ticks: (x, text), rising.
      y_ticks: (y, text), rising.
      x_name: what x is.
      y_name: what y is.
      log_x: whether x is logarithmic.
      height: of the drawing, which is 640 wide.
    """

    def scale(x: float) -> float:
        return math.log(x) if log_x else x

    bottom = height - _BOTTOM - (_LINE + 3) * bool(x_name)
    top = _TOP + (_LINE + 3) * bool(y_name)
    lines = [name for name, series in curves.items() if len(series.points) > 1]
    right = round(_WIDTH - 28 - _LETTER * max(map(len, lines), default=0), 1)
    x_low, x_high = scale(x_ticks[0][0]), scale(x_ticks[-1][0])
    y_low, y_high = y_ticks[0][0], y_ticks[-1][0]

    def place(x: float, y: float) -> tuple[float, float]:
        across = _LEFT + (scale(x) - x_low) / ((x_high - x_low) or 1) * (right - _LEFT)
        down = bottom - (y - y_low) / ((y_high - y_low) or 1) * (bottom - top)
        return round(across, 1), round(down, 1)

    placed = {name: [place(*p) for p in series.points] for name, series in curves.items()}
    heights = _apart({name: points[-1][1] + 4 for name, points in placed.items()}, top, bottom)

    def name_at(name: str) -> tuple[float, float, str]:
        if name in lines:
            return right + 8, heights[name], "start"
        x = placed[name][-1][0]
        left_of_it = x + 10 + _LETTER * len(name) > _WIDTH
        return (x - 9, heights[name], "end") if left_of_it else (x + 9, heights[name], "start")

    return Chart(
        title,
        levels=[(place(x_ticks[0][0], y)[1], text) for y, text in y_ticks],
        ends=[
            (place(x, y_low)[0], anchor, text)
            for anchor, (x, text) in zip(_anchors(len(x_ticks)), x_ticks, strict=True)
        ],
        names=(x_name, y_name),
        curves=[
            Curve(
                name,
                placed[name],
                placed[name] if len(placed[name]) <= _FEW and not series.dashed else (),
                [
                    (place(x, 0)[0], place(x, low)[1], place(x, high)[1])
                    for (x, _), (low, high) in zip(series.points, series.intervals, strict=False)
                ],
                name_at(name),
                series.colour % _COLOURS,
                series.dashed,
            )
            for name, series in curves.items()
        ],
        right=right,
        height=height,
    )


def _anchors(ticks: int) -> list[str]:
    return ["start", *["middle"] * (ticks - 2), "end"][:ticks]


def _apart(heights: Mapping[str, float], top: float, bottom: float) -> dict[str, float]:
    """Heights of names as near as may be to the given ones, none on top of another."""
    placed: dict[str, float] = {}
    lowest: float = top - _LINE
    for name in sorted(heights, key=lambda name: heights[name]):
        lowest = placed[name] = max(heights[name], lowest + _LINE)
    beyond = max(0.0, lowest - (bottom + 4))
    return {name: round(height - beyond, 1) for name, height in placed.items()}


def number(value: float | None) -> str:
    """Four digits of a figure."""
    return "not finite" if value is None else f"{value:.4g}"
