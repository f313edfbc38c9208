"""Artifacts in a work directory: each is written once, whole or not at all, with its key.

WORKDIR/STAGE/artifact.json    name, key, settings, the keys of what it was made from, summary, and
                               size, hash and rows of each of its files
WORKDIR/STAGE/...              what the stage wrote
WORKDIR/.partial/STAGE-KEY/    a stage in the making; a killed run goes on there
"""

import logging
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from leco_jax.evaluation.processes import ONE, Processes, from_lead
from leco_jax.storage.files import (
    read_json,
    remove_directory,
    remove_drafts,
    replace_directory,
    write_json,
)
from leco_jax.storage.hashes import content_hash
from leco_jax.storage.paths import is_remote
from w2s_jax.pipeline.graph import Graph, Interrupted, StageError, Work

_log = logging.getLogger(__name__)
_DESCRIPTION = "artifact.json"


class ArtifactStore:
    """The artifacts of one graph in one directory."""

    def __init__(self, directory: Path, graph: Graph):
        """Looks at nothing yet; the directory is made when the first stage runs."""
        self.directory, self.graph = directory.absolute(), graph

    def path(self, name: str) -> Path:
        """Where the finished artifact of a stage lies."""
        return self.directory / name

    def state(self, name: str) -> str:
        """Whether a stage is "done", "damaged", "stale" (of another key), "begun" or "to do"."""
        try:
            self.check(name)
        except StageError:
            return "damaged"
        if self._key_at(self.path(name)) == self.graph.keys[name]:
            return "done"
        if self._partial(name).exists():
            return "begun"
        return "stale" if self.path(name).exists() else "to do"

    def check(self, name: str) -> None:
        """Raises StageError if a file of a finished artifact is not as it was written."""
        directory = self.path(name)
        try:
            description = _describe(directory)
            if description.get("key") != self.graph.keys[name]:
                return
            for file, record in description.get("files", {}).items():
                _check_file(directory / file, record)
        except ValueError as error:
            raise StageError(
                f"stage {name!r}: {error}: remove {directory} to have it made again"
            ) from None

    def summary(self, name: str) -> dict:
        """What a finished stage said about its result."""
        return read_summary(self.path(name))

    def make(self, name: str, *, stop: Callable[[], bool], processes: Processes = ONE) -> None:
        """Runs a stage and puts its artifact in place; every process must call it.

        Process 0 alone looks at what is there and describes what was made. Of a stage that is not
        `shared` it is the only one to run.

        Raises:
          StageError: something that it needs is not there or damaged.
          Interrupted: it was stopped; the next call goes on.
          ValueError: a process does not see the directory.
        """
        stage, partial = self.graph.stages[name], self._partial(name)
        if from_lead(processes, lambda: self._begin(name)):
            if not is_remote(partial) and not partial.is_dir():
                raise ValueError(
                    f"{partial} is not there, and process 0 has made it: all processes need one "
                    "workdir that all of them see"
                )
            started = time.time()
            inputs = {need: self.path(need) for need in stage.needs}
            summary: dict | None = {}
            if stage.shared or processes.lead:
                try:
                    summary = stage.run(Work(partial, inputs, stop, processes))
                except Interrupted:
                    summary = None
            # Where one was stopped all end, and what all have written is there.
            if None in processes.exchange(summary):
                raise Interrupted
            if processes.lead:
                assert summary is not None
                self._describe(name, {"seconds": round(time.time() - started, 1)}, summary)
        if processes.lead:
            replace_directory(self.path(name), partial, last=_DESCRIPTION)
        processes.exchange(None)  # nobody goes on before the artifact is there

    def _begin(self, name: str) -> bool:
        """Makes the directory of a stage in the making; False: it is whole, but for its place."""
        needs, partial = self.graph.stages[name].needs, self._partial(name)
        for need in needs:
            self.check(need)
        if missing := [need for need in needs if self.state(need) != "done"]:
            raise StageError(
                f"stage {name!r} needs {', '.join(missing)} first: run them, or use --until={name}"
            )
        if self._key_at(partial) == self.graph.keys[name]:
            return False
        for begun in (self.directory / ".partial").glob(f"{name}-*"):
            if begun != partial:
                _log.info("%s was begun with another config: starting anew", name)
                remove_directory(begun)
        partial.mkdir(parents=True, exist_ok=True)
        return True

    def _describe(self, name: str, took: dict, summary: dict) -> None:
        """Writes the description of what a stage has made: the last file, so it is whole."""
        stage, partial = self.graph.stages[name], self._partial(name)
        remove_drafts(partial)
        files = [path for path in sorted(partial.rglob("*")) if path.is_file()]
        described = {
            "name": name,
            "key": self.graph.keys[name],
            "settings": dict(stage.settings),
            "made_from": {need: self.graph.keys[need] for need in stage.needs},
            **took,
            "summary": summary,
            "files": {str(path.relative_to(partial)): _record(path) for path in files},
        }
        write_json(partial / _DESCRIPTION, described)

    def _partial(self, name: str) -> Path:
        return self.directory / ".partial" / f"{name}-{self.graph.keys[name]}"

    def _key_at(self, path: Path) -> str | None:
        try:
            return _describe(path).get("key")
        except ValueError:  # `check` says so of a finished artifact; another is made again
            return None


def read_summary(artifact: Path) -> dict:
    """What the stage of a finished artifact said about its result."""
    return read_json(artifact / _DESCRIPTION)["summary"]


def _describe(artifact: Path) -> dict[str, Any]:
    """The description of an artifact; empty where there is none."""
    path = artifact / _DESCRIPTION
    return read_json(path) if path.exists() else {}


def _record(path: Path) -> dict[str, Any]:
    rows = {"rows": path.read_bytes().count(b"\n")} if path.suffix == ".jsonl" else {}
    return {"bytes": path.stat().st_size, "hash": content_hash(path)} | rows


def _check_file(path: Path, record: Mapping[str, Any]) -> None:
    """Raises ValueError if a file is not what was recorded of it."""
    if not path.is_file():
        raise ValueError(f"{path} is missing")
    size, rows = path.stat().st_size, record.get("rows")
    if size != record["bytes"]:
        lines = "" if rows is None else f" in {rows} rows"
        raise ValueError(f"{path} has {size:,} bytes, and {record['bytes']:,}{lines} were written")
    if content_hash(path) != record["hash"]:
        raise ValueError(f"{path} has changed since it was written")
