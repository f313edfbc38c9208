"""Work directories of finished runs, read as one run."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from leco_jax.storage.files import read_json
from leco_jax.storage.jsonl import read_rows


def stored_rows(workdirs: Sequence[Path]) -> Iterator[dict[str, Any]]:
    """Yields the results lines of work directories of the same problems, each with its `seed`.

    Directories whose configs differ in the seed, and in which methods they name, hold seeds of the
    same methods. Any other method that several of them have is named after its directory, except in
    the first.

    Raises:
      ValueError: a line that an older version wrote.
    """
    # By method: the config, the name in the table, and the seeds that were read.
    taken: dict[str, list[tuple[dict[str, Any], str, set[int]]]] = {}
    for workdir in workdirs:
        whole = read_json(workdir / "config.json")
        seed = whole["seed"]
        config = {name: value for name, value in whole.items() if name not in ("seed", "methods")}
        rows = [_checked(*placed) for placed in read_rows(workdir / "results.jsonl")]
        names: dict[str, str] = {}
        for method in dict.fromkeys(row["method"] for row in rows):
            for other, name, seeds in taken.setdefault(method, []):
                if other == config and seed not in seeds:
                    seeds.add(seed)
                    names[method] = name
                    break
            else:
                names[method] = f"{method}, {workdir.name}" if taken[method] else method
                taken[method].append((config, names[method], {seed}))
        for row in rows:
            yield row | {"method": names[row["method"]], "seed": seed}


def _checked(place: str, row: dict[str, Any]) -> dict[str, Any]:
    if row["error"] is None and "cost" not in row:
        raise ValueError(
            f"{place}: the line has no cost, so an older version wrote it: run the method again, "
            "in a new work directory"
        )
    return row
