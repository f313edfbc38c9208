import itertools
import re

from leco_jax.evaluation.html_page import line_chart, page, section, table


def test_text_is_escaped_and_sections_are_not():
    found = page("a < b", "x & y", [section("<h>", "<p>kept</p>")])
    assert "a &lt; b" in found
    assert "x &amp; y" in found
    assert "<h2>&lt;h&gt;</h2>\n<p>kept</p>" in found


def test_a_table_has_a_line_for_each_row():
    found = table(["model", "right"], [["weak", "1 < 2"], ["strong", "3"]])
    assert re.findall(r"<td>(.*?)</td>", found) == ["weak", "1 &lt; 2", "strong", "3"]
    assert found.count("<th>") == 2


def heights(svg, names):
    return [float(re.search(rf'y="([-.\d]+)" style="[^"]*">{n}<', svg)[1]) for n in names]


def test_names_stand_where_their_curves_end_and_never_on_each_other():
    curves = {"a": [(0, 0.0), (1, 5.0)], "b": [(0, 1.0), (1, 5.0)], "c": [(0, 9.0), (1, 0.0)]}
    svg = line_chart("three", curves)
    a, b, c = heights(svg, "abc")
    assert abs(a - b) >= 13
    assert c > max(a, b)
    many = line_chart("at the bottom", {n: [(0, 1.0), (1, 0.0)] for n in "abcdef"})
    found = sorted(heights(many, "abcdef"))
    assert all(y - x >= 12.9 for x, y in itertools.pairwise(found))
    assert found[-1] <= 240


def test_one_point_and_a_level_curve_are_drawn():
    svg = line_chart("level", {"one": [(3, 2.0)]}, x_name="round")
    assert "<circle" in svg
    assert "round 3" in svg
    assert "nan" not in svg
