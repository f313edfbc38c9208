"""Where LeCo cuts wrong chains, against where they go wrong first; the peer is a random step.

    python -m launchers.leco --config=configs/leco_arithmetic.py --workdir=runs/leco_arithmetic
    python -m benchmarks.localisation --workdir=runs/leco_arithmetic

The run's data set must have worked solutions with an equation in each step (`arithmetic_chains`).
"""

from __future__ import annotations

from pathlib import Path

from benchmarks._common import Row, parser, report
from leco_jax.datasets.registry import load_problems
from leco_jax.evaluation.localisation import localisation
from leco_jax.storage.files import read_json
from leco_jax.storage.jsonl import read_rows


def main() -> None:
    """Prints the table of one run."""
    options = parser(str(__doc__).splitlines()[0])
    options.add_argument("--workdir", type=Path, required=True, help="of launchers.leco")
    arguments = options.parse_args()
    data = read_json(arguments.workdir / "config.json")["data"]
    problems = load_problems(
        data["name"], split=data["split"], data_dir=data["dir"], limit=data["limit"]
    )
    cuts = localisation(
        (row for _, row in read_rows(arguments.workdir / "results.jsonl")),
        {problem.id: problem.solution for problem in problems if problem.solution},
    )
    note = f"{cuts.chains} wrong first passes"
    report(
        [
            Row(
                name="cut at the first wrong step", ours=100 * cuts.exact, peer=100 * cuts.random,
                peer_name="a random step that may be cut", unit="%", note=note,
            ),
            Row(
                name="cut there or beside it", ours=100 * cuts.within_one,
                peer_name="not computed", unit="%", note=note,
            ),
        ],
        arguments.json,
    )  # fmt: skip


if __name__ == "__main__":
    main()
