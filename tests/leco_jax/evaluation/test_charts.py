import itertools

import pytest

from leco_jax.evaluation.charts import Series, chart, forest, line_chart, log_ticks, ticks
from leco_jax.evaluation.html_page import page


def _heights(chart):
    return {curve.name: curve.at[1] for curve in chart.curves}


def test_names_stand_where_their_curves_end_and_never_on_each_other():
    curves = {"a": [(0, 0.0), (1, 5.0)], "b": [(0, 1.0), (1, 5.0)], "c": [(0, 9.0), (1, 0.0)]}
    at = _heights(line_chart("three", curves))
    assert abs(at["a"] - at["b"]) >= 13
    assert at["c"] > max(at["a"], at["b"])
    many = line_chart("at the bottom", {n: [(0, 1.0), (1, 0.0)] for n in "abcdef"})
    heights = sorted(_heights(many).values())
    assert all(y - x >= 12.9 for x, y in itertools.pairwise(heights))
    assert heights[-1] <= 240


def test_one_point_and_a_level_curve_are_drawn():
    html = page("t", "s", [("h", [line_chart("level", {"one": [(3, 2.0)]}, x_name="round")])])
    assert "<circle" in html
    assert html.count("round 3") == 1
    assert "nan" not in html
    # A level curve has one level, not the same figure at three heights and two that are not there.
    assert html.count('text-anchor="end">2<') == 1


def test_a_single_point_has_its_name_beside_it_and_its_interval_through_it():
    ticks = [(0, "0"), (100, "100")]
    found = chart(
        "t",
        {"cheap": Series([(1, 50)], [(40, 60)]), "dear": Series([(100, 50)], [(40, 60)])},
        x_ticks=[(1, "1"), (10, "10"), (100, "100")],
        y_ticks=ticks,
        log_x=True,
    )
    cheap, dear = found.curves
    ((x, y),) = cheap.points
    assert cheap.at == (x + 9, y + 4, "start")
    assert dear.at[0] < dear.points[0][0]
    assert dear.at[2] == "end"
    assert [anchor for _, anchor, _ in found.ends] == ["start", "middle", "end"]
    assert found.ends[1][0] == pytest.approx((found.ends[0][0] + found.ends[2][0]) / 2)
    ((at, low, high),) = cheap.bars
    assert at == x
    assert high < y < low  # downwards in SVG


def test_a_forest_plot_has_one_scale():
    left, none, right, axis = forest([(-4, -2, 0), None, (2, 4, 6)])
    assert none == ""
    assert left.zero == right.zero == axis.zero == left.high
    assert left.low < left.value < left.high < right.low
    assert right.low - right.zero == pytest.approx(left.high - left.value, abs=0.2)
    assert [text for _, text in axis.ticks] == ["-4", "-2", "0", "+2", "+4", "+6"]
    assert forest([None])[0] == ""


@pytest.mark.parametrize(
    ("low", "high", "values"),
    [
        (0, 10, [0, 2, 4, 6, 8, 10]),
        (-0.3, 0.21, [-0.4, -0.2, 0, 0.2, 0.4]),
        (3, 3, [3, 4]),
        (61, 99, [60, 70, 80, 90, 100]),
    ],
)
def test_ticks_are_round_and_hold_all(low, high, values):
    assert ticks(low, high) == values


def test_logarithmic_ticks():
    assert log_ticks(77, 772) == [50, 100, 200, 500, 1000]
    assert log_ticks(1, 1) == [1, 2]
