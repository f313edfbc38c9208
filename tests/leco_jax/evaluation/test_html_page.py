import itertools
import re

from leco_jax.evaluation.html_page import Table, Texts, line_chart, page


def test_everything_given_is_text():
    blocks = [Texts(["<p>"]), Table(["<i>"], [["<td>"]]), line_chart("<svg>", {"<c>": [(0, 1.0)]})]
    html = page("a < b", "x & y", [("<h>", blocks)])
    assert "<title>a &lt; b</title>" in html
    assert "<p>x &amp; y</p>" in html
    assert "<h2>&lt;h&gt;</h2>" in html
    for escaped in ("&lt;p&gt;", "&lt;i&gt;", "&lt;td&gt;", "&lt;svg&gt;", "&lt;c&gt;"):
        assert escaped in html


def test_a_page_says_its_language_and_has_both_colour_schemes_and_needs_no_other_file():
    html = page("t", "s", [])
    assert html.startswith('<!doctype html>\n<html lang="en">')
    assert "prefers-color-scheme: dark" in html
    assert "http" not in html
    assert "src=" not in html


def test_a_table_has_a_line_for_each_row():
    html = page("t", "s", [("h", [Table(["model", "right"], [["weak", "1"], ["strong", "3"]])])])
    assert re.findall(r"<td>(.*?)</td>", html) == ["weak", "1", "strong", "3"]
    assert html.count("<th>") == 2


def test_several_texts_stand_beside_each_other():
    html = page("t", "s", [("h", [Texts(["one"]), Texts(["left", "right"])])])
    assert html.count('<div class="columns">') == 1
    assert re.findall(r"<pre>(.*?)</pre>", html) == ["one", "left", "right"]


def _heights(chart):
    return {curve.name: curve.height for curve in chart.curves}


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
    assert "round 3" in html
    assert "nan" not in html
    # A level curve has one level, not the same figure at three heights and two that are not there.
    assert html.count('text-anchor="end">2<') == 1
