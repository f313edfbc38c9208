"""Scores of chains as a file: written by one process, or by several that share the batches."""

import contextlib
import heapq
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from leco_jax.evaluation.chain_scoring import (
    GivenChain,
    Replica,
    by_window,
    in_order,
    make_batches,
    score_batches,
)
from leco_jax.evaluation.processes import ONE, Processes
from leco_jax.models.loading import load_model
from leco_jax.progress import progress_bar
from leco_jax.scoring.presets import StepPreset
from leco_jax.storage.files import scratch_directory
from leco_jax.storage.jsonl import read_rows, write_rows
from leco_jax.storage.paths import as_path


def write_scores(
    target: Path,
    replicas: Iterable[Replica],
    chains: Sequence[GivenChain],
    preset: StepPreset,
    *,
    batch_tokens: int,
    processes: Processes = ONE,
) -> None:
    """Scores chains and writes their rows in order, whole or not at all; see `score_chains`.

    Several processes write parts into a directory beside `target`, which is removed at the end;
    every one must call this with the same chains.
    """
    batches = make_batches(chains, batch_tokens)
    mine = (batches[i] for i in processes.take(len(batches)))
    scored = score_batches(replicas, chains, mine, preset)
    if processes is ONE:
        rows = in_order(scored)
        write_rows(target, progress_bar(rows, total=len(chains), unit="chain"))
        return
    with scratch_directory(target) if processes.lead else contextlib.nullcontext() as draft:
        directory = as_path(processes.exchange(None if draft is None else str(draft))[0])
        if not directory.is_dir():
            raise ValueError(
                f"{directory} is not there, and process 0 has made it: all processes need an "
                "output on a disk that all of them see"
            )
        numbered = ({"number": number, "row": row} for number, row in scored)
        counted = progress_bar(numbered, total=None, unit="chain")
        part = processes.part(directory / "rows.jsonl")
        if part is None:
            for _ in counted:
                pass
        else:
            write_rows(part, counted)
        processes.exchange(None)
        if draft is not None:
            parts = [_numbered(path) for path in sorted(draft.glob("rows*.jsonl"))]
            # Batches are handed out in their order, so that each part rises in its windows.
            rows = in_order(heapq.merge(*parts, key=by_window))
            write_rows(target, _all(rows, len(chains), directory))
    processes.exchange(None)  # nobody is done before the file is there


def load_replicas(
    name: str, processes: Processes, *, tensor: int, dtype: str | None
) -> Iterator[Replica]:
    """Loads a model on this process's replicas, the copies when they are asked for."""
    first, *others = processes.meshes(tensor)
    model = load_model(name, dtype=dtype, mesh=first)
    yield Replica(model, first)
    for mesh in others:
        yield Replica(model.on(mesh), mesh)


def _numbered(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    return ((row["number"], row["row"]) for _, row in read_rows(path))


def _all(rows: Iterable[dict], count: int, directory: Path) -> Iterator[dict]:
    seen = 0
    for row in rows:
        seen += 1
        yield row
    if seen != count:
        raise ValueError(
            f"{directory} holds {seen} of the {count} rows that the processes wrote: all need an "
            "output on a disk that all of them see"
        )
