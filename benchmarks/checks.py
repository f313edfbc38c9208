"""How often checks flag right solutions, and how often they find a false result put into one.

    python -m benchmarks.checks --data=DIRECTORY

The directory holds gsm8k/train.jsonl, gsm8k/test.jsonl (fields "answer") and math/test.jsonl (field
"solution"). A false result is the last written result of a solution, raised by one.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path

from benchmarks._common import Row, parser, report
from leco_jax.text.checks import CHECKS, find_check

_FILES = {
    "GSM8K": (("gsm8k/train.jsonl", "gsm8k/test.jsonl"), "answer"),
    "MATH": (("math/test.jsonl",), "solution"),
}
_RESULT = re.compile(r"= *\$?(?:<<[^<>\n]*>>)?([0-9]+)(?![0-9.,/%]|>>)")


def main() -> None:
    """Prints the table."""
    options = parser(str(__doc__).splitlines()[0])
    options.add_argument("--data", type=Path, required=True, help="directory of the data sets")
    arguments = options.parse_args()
    rows = []
    for name, (files, field) in _FILES.items():
        solutions = [
            json.loads(line)[field]
            for file in files
            for line in (arguments.data / file).read_text().splitlines()
        ]
        for check in CHECKS:
            bound = "ours <= 1" if (name, check) == ("GSM8K", "arithmetic") else None
            rows.append(_share(f"{name}: {check} flags", check, solutions, bound))
        false = [text for solution in solutions if (text := _made_false(solution)) is not None]
        rows.append(_share(f"{name}: arithmetic finds a false result", "arithmetic", false, None))
    report(rows, arguments.json)


def _share(name: str, check: str, texts: Sequence[str], bound: str | None) -> Row:
    flagged = sum(find_check(check)(text) is not None for text in texts)
    return Row(
        name=name, ours=100 * flagged / len(texts), peer_name="no peer", unit="%", bound=bound,
        note=f"{flagged} of {len(texts)} solutions",
    )  # fmt: skip


def _made_false(solution: str) -> str | None:
    """The solution with its last written result raised by one, None where it has none."""
    found = list(_RESULT.finditer(solution))
    if not found:
        return None
    start, end = found[-1].span(1)
    return f"{solution[:start]}{int(found[-1][1]) + 1}{solution[end:]}"


if __name__ == "__main__":
    main()
