"""Pages of one file with tables, texts, inline SVG charts and chains: they open anywhere.

    page("Title", "One line.", [("Heading", [Table(("model", "correct"), [("cot", "76.6 %")])])])

The HTML stands in html_page.html.jinja, what shows chains in html_page.js; everything that is given
here is text and gets escaped. A page asks for nothing from outside and runs no other script.
"""

import base64
import functools
import gzip
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jinja2

from leco_jax.evaluation.charts import Chart, Range
from leco_jax.storage.files import encode_json


class Table(NamedTuple):
    """A table of texts and ranges; the first `texts` columns are set to the left."""

    head: Sequence[str]
    rows: Sequence[Sequence[str | Range]]
    texts: int = 1
    kind: str = "table"


class Texts(NamedTuple):
    """Texts as they are, two beside each other."""

    texts: Sequence[str]
    kind: str = "texts"


class Note(NamedTuple):
    """A paragraph."""

    text: str
    kind: str = "note"


class Chains(NamedTuple):
    """A browser of chains: JSON values in the form that html_page.js says; one to a page."""

    data: Mapping[str, Any]
    kind: str = "chains"

    @property
    def packed(self) -> str:
        """The data, gzipped, in base64: small, and no text in it can end the script."""
        text = encode_json(self.data)
        return base64.b64encode(gzip.compress(text.encode(), 6, mtime=0)).decode()


Block = Table | Texts | Note | Chart | Chains
Section = tuple[str, Sequence[Block]]


def page(title: str, summary: str, sections: Iterable[Section], *, wide: bool = False) -> str:
    """Gives a whole HTML page.

    Args:
      title: its heading.
      summary: the paragraph below it.
      sections: (heading, blocks) each.
      wide: for wide tables.
    """
    sections = list(sections)
    script = _source("html_page.js")
    return _template().render(
        title=title,
        summary=summary,
        sections=sections,
        wide=wide,
        has_chains=any(block.kind == "chains" for _, blocks in sections for block in blocks),
        script=script,
        # Of all scripts the browser runs this one: what gets into a text stays text.
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )


def run_table(runs: Mapping[str, Mapping[str, Any]]) -> Table:
    """When, how and on what runs were made.

    Args:
      runs: by name what `provenance` gave, under "made", and the `seconds` that a run took.
    """
    timed = ["seconds"] if any("seconds" in run for run in runs.values()) else []
    columns = ["date", "commit", "device", *timed, "command"]
    rows = []
    for name, run in runs.items():
        made = {"seconds": f"{run['seconds']:.0f}"} if "seconds" in run else {}
        made |= run.get("made", {})
        rows.append([name, *(made.get(column) or "not known" for column in columns)])
    return Table(["run", *columns], rows, texts=1 + len(columns))


@functools.cache
def _template() -> jinja2.Template:
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    return environment.from_string(_source("html_page.html.jinja"))


def _source(name: str) -> str:
    return Path(__file__).with_name(name).read_text(encoding="utf-8")
