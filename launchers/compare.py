"""Methods of finished runs compared on the same problems, with intervals and McNemar's test.

    python -m launchers.compare --workdirs=runs/leco_arithmetic --against=cot

Several work directories (of the same problems) are read as one; a method that two of them have is
named after its directory. `--rules=fork` adds what other rules would have chosen among the stored
chains of that method: nothing is decoded again.

Exit codes: 0 done; 1 a flag or a file is wrong (the message says which).
"""

from collections.abc import Iterator
from typing import Any

from absl import flags

from launchers import runtime
from leco_jax.evaluation.comparison import COMPARISON_CAPTION, COMPARISON_COLUMNS, compare
from leco_jax.evaluation.stored_votes import stored_votes
from leco_jax.evaluation.summary import format_table
from leco_jax.storage.jsonl import read_rows
from leco_jax.storage.paths import local_path

_WORKDIRS = flags.DEFINE_list("workdirs", None, "Of launchers.leco, by commas.", required=True)
_AGAINST = flags.DEFINE_string("against", "cot", "The method that the others are compared with.")
_RULES = flags.DEFINE_string("rules", None, "A method whose chains other rules choose among.")


def main() -> int:
    """Prints the table."""
    rows = list(_rows())
    if _RULES.value is not None:
        rows += stored_votes(rows, _RULES.value)
    print(format_table(compare(rows, against=_AGAINST.value), COMPARISON_COLUMNS))
    print(COMPARISON_CAPTION)
    return runtime.DONE


def _rows() -> Iterator[dict[str, Any]]:
    """The results of all work directories, each method's from the first that has it."""
    seen: set[str] = set()
    for name in _WORKDIRS.value:
        workdir = local_path(name)
        found = [row for _, row in read_rows(workdir / "results.jsonl")]
        methods = {row["method"] for row in found}
        for row in found:
            again = row["method"] in seen
            yield row | {"method": f"{row['method']}, {workdir.name}" if again else row["method"]}
        seen |= methods


if __name__ == "__main__":
    runtime.run(main)
