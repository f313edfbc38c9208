"""Pages of one file with inline SVG: they open anywhere and need no library."""

import html
from collections.abc import Mapping, Sequence

_WIDTH, _HEIGHT, _LEFT, _BOTTOM, _TOP = 640, 260, 72, 28, 14
_LINE = 13  # between two names
_FEW = 12  # points that are marked one by one
_COLOURS = ("#1f6feb", "#d1242f", "#1a7f37", "#8250df", "#9a6700", "#57606a")

_PAGE = """<!doctype html>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>{title}</title>
<style>
body {{ font: 15px/1.5 system-ui, sans-serif; max-width: {width}; margin: 2rem auto;
  padding: 0 1rem; color: #1f2328; background: #fff; }}
svg {{ width: 100%; max-width: 46rem; height: auto; }}
text {{ font: 11px system-ui, sans-serif; fill: #59636e; }}
h2 {{ font-size: 1rem; margin: 1.5rem 0 .25rem; }}
pre {{ background: #f6f8fa; padding: .75rem; overflow-x: auto; font-size: 12px;
  white-space: pre-wrap; }}
table {{ border-collapse: collapse; font-size: 13px; }}
th, td {{ border-bottom: 1px solid #d1d9e0; padding: .2rem .6rem; text-align: right; }}
th:first-child, td:first-child {{ text-align: left; }}
.pair {{ display: grid; grid-template-columns: 1fr 1fr; gap: .75rem; }}
.scroll {{ overflow-x: auto; }}
</style>
<h1>{title}</h1>
<p>{summary}</p>
{sections}
"""


def page(title: str, summary: str, sections: Sequence[str], *, wide: bool = False) -> str:
    """A whole page; the sections are HTML, title and summary are text."""
    return _PAGE.format(
        title=html.escape(title),
        summary=html.escape(summary),
        sections="\n".join(sections),
        width="64rem" if wide else "46rem",
    )


def section(heading: str, body: str) -> str:
    """A heading and what stands below it, which is HTML."""
    return f"<h2>{html.escape(heading)}</h2>\n{body}"


def preformatted(text: str) -> str:
    """Text as it is."""
    return f"<pre>{html.escape(text)}</pre>"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of texts; the first column is set to the left."""

    def line(cells: Sequence[str], tag: str) -> str:
        return "<tr>" + "".join(f"<{tag}>{html.escape(c)}</{tag}>" for c in cells) + "</tr>"

    lines = [line(head, "th"), *(line(row, "td") for row in rows)]
    return '<div class="scroll"><table>\n' + "\n".join(lines) + "\n</table></div>"


def line_chart(
    title: str, curves: Mapping[str, Sequence[tuple[float, float]]], *, x_name: str = "step"
) -> str:
    """Curves as an SVG, each with its name where it ends.

    Args:
      title: for those who can't see it.
      curves: points (x, y) by name, in rising x; at most six curves.
      x_name: what x counts.
    """
    points = [point for curve in curves.values() for point in curve]
    x_low, x_high = min(x for x, _ in points), max(x for x, _ in points)
    y_low, y_high = min(y for _, y in points), max(y for _, y in points)
    x_span, y_span = (x_high - x_low) or 1, (y_high - y_low) or 1
    right = _WIDTH - 14 - 6.2 * max(map(len, curves))

    def place(x: float, y: float) -> tuple[float, float]:
        across = _LEFT + (x - x_low) / x_span * (right - _LEFT)
        down = _HEIGHT - _BOTTOM - (y - y_low) / y_span * (_HEIGHT - _BOTTOM - _TOP)
        return across, down

    lines = [
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{html.escape(title)}">',
    ]
    for share in (0, 0.5, 1):
        value = y_low + share * (y_high - y_low)
        _, down = place(x_low, value)
        lines.append(
            f'<line x1="{_LEFT}" x2="{right:.1f}" y1="{down:.1f}" y2="{down:.1f}" '
            f'stroke="#d1d9e0"/><text x="{_LEFT - 6}" y="{down + 4:.1f}" '
            f'text-anchor="end">{number(value)}</text>'
        )
    for step, anchor in ((x_low, "start"), (x_high, "end")):
        across, _ = place(step, y_low)
        lines.append(
            f'<text x="{across:.1f}" y="{_HEIGHT - 8}" text-anchor="{anchor}">'
            f"{html.escape(x_name)} {step:g}</text>"
        )
    ends = {name: place(*curve[-1])[1] + 4 for name, curve in curves.items()}
    names = _apart(ends)
    for colour, (name, curve) in zip(_COLOURS, curves.items(), strict=False):
        placed = [place(*point) for point in curve]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in placed)
        if len(curve) <= _FEW:
            lines += [
                f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in placed
            ]
        lines.append(
            f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.5"/>'
            f'<text x="{right + 8:.1f}" y="{names[name]:.1f}" '
            f'style="fill:{colour}">{html.escape(name)}</text>'
        )
    return "\n".join([*lines, "</svg>"])


def _apart(wanted: Mapping[str, float]) -> dict[str, float]:
    """Heights of names as near as may be to the wanted ones, none on top of another."""
    found: dict[str, float] = {}
    lowest: float = _TOP - _LINE
    for name in sorted(wanted, key=lambda name: wanted[name]):
        lowest = found[name] = max(wanted[name], lowest + _LINE)
    beyond = max(0.0, lowest - (_HEIGHT - _BOTTOM + 4))
    return {name: height - beyond for name, height in found.items()}


def number(value: float | None) -> str:
    """Four digits of a figure."""
    return "not finite" if value is None else f"{value:.4g}"
