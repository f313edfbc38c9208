import base64
import gzip
import hashlib
import json
import re

from leco_jax.evaluation.charts import forest, line_chart
from leco_jax.evaluation.html_page import Chains, Note, Table, Texts, page


def test_everything_given_is_text():
    chart = line_chart("<svg>", {"<c>": [(0, 1.0)]})
    blocks = [Note("<b>"), Texts(["<p>"]), Table(["<i>"], [["<td>"]]), chart]
    html = page("a < b", "x & y", [("<h>", blocks)])
    assert "<title>a &lt; b</title>" in html
    assert "<p>x &amp; y</p>" in html
    assert "<h2>&lt;h&gt;</h2>" in html
    for name in ("b", "p", "i", "td", "svg", "c"):
        assert f"&lt;{name}&gt;" in html


def test_a_page_says_its_language_and_has_both_colour_schemes_and_needs_no_other_file():
    html = page("t", "s", [])
    assert html.startswith('<!doctype html>\n<html lang="en">')
    assert "prefers-color-scheme: dark" in html
    assert "://" not in html
    assert "src=" not in html


def test_a_table_has_a_line_for_each_row():
    html = page("t", "s", [("h", [Table(["model", "right"], [["weak", "1"], ["strong", "3"]])])])
    assert re.findall(r"<td.*?>(.*?)</td>", html) == ["weak", "1", "strong", "3"]
    assert html.count("<th") == 2


def test_several_texts_stand_beside_each_other():
    html = page("t", "s", [("h", [Texts(["one"]), Texts(["left", "right"])])])
    assert html.count('<div class="columns">') == 1
    assert re.findall(r"<pre>(.*?)</pre>", html) == ["one", "left", "right"]


def test_chains_are_packed_and_the_page_s_script_is_the_only_one_that_may_run():
    data = {"threshold": 0.7, "text": "</script><img src=x onerror=alert(1)>"}
    html = page("t", "s", [("h", [Chains(data)])])
    packed = re.search(r'id="data">([^<]*)</script>', html)[1]
    assert json.loads(gzip.decompress(base64.b64decode(packed))) == data
    assert "onerror" not in html
    (script,) = re.findall(r"<script>(.*?)</script>", html, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'" in html
    assert "<script" not in page("t", "s", [])


def test_an_interval_is_drawn_with_its_axis():
    rows = [["a", cell] for cell in forest([(-1, 2, 5)])]
    html = page("t", "s", [("h", [Table(["", ""], rows)])])
    assert html.count("<rect") == 1
    assert "+4" in html
