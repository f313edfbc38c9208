"""Artifacts in a work directory: each is written once, whole or not at all, with its key.

WORKDIR/STAGE/artifact.json    name, key, settings, the keys of what it was made from, summary
WORKDIR/STAGE/...              what the stage wrote
WORKDIR/.partial/STAGE-KEY/    a stage in the making; a killed run goes on there
"""

import json
import logging
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

from leco_jax.storage.files import write_json
from w2s_jax.pipeline.graph import Graph, StageError, Work

_log = logging.getLogger(__name__)
_DESCRIPTION = "artifact.json"


class ArtifactStore:
    """The artifacts of one graph in one directory."""

    def __init__(self, directory: Path, graph: Graph):
        """Looks at nothing yet; the directory is made when the first stage runs."""
        self.directory = directory.absolute()
        self._graph = graph

    def path(self, name: str) -> Path:
        """Where the finished artifact of a stage lies."""
        return self.directory / name

    def state(self, name: str) -> str:
        """Says "done", "stale" (made from other inputs or settings), "begun" or "to do"."""
        if self._key_at(self.path(name)) == self._graph.keys[name]:
            return "done"
        if self._partial(name).exists():
            return "begun"
        return "stale" if self.path(name).exists() else "to do"

    def summary(self, name: str) -> dict:
        """What a finished stage said about its result."""
        return json.loads((self.path(name) / _DESCRIPTION).read_text())["summary"]

    def make(self, name: str, *, stop: Callable[[], bool]) -> None:
        """Runs a stage and puts its artifact in place.

        Raises:
          StageError: something that it needs is not there.
          Interrupted: it was stopped; the next call goes on.
        """
        stage = self._graph.stages[name]
        missing = [need for need in stage.needs if self.state(need) != "done"]
        if missing:
            raise StageError(
                f"stage {name!r} needs {', '.join(missing)} first: run them, or use --until={name}"
            )
        partial = self._partial(name)
        if self._key_at(partial) != self._graph.keys[name]:
            self._forget_others(name)
            partial.mkdir(parents=True, exist_ok=True)
            started = time.time()
            work = Work(partial, {need: self.path(need) for need in stage.needs}, stop)
            summary = stage.run(work)
            description = {
                "name": name,
                "key": self._graph.keys[name],
                "settings": dict(stage.settings),
                "made_from": {need: self._graph.keys[need] for need in stage.needs},
                "seconds": round(time.time() - started, 1),
                "summary": summary,
            }
            # The last file written: a directory that has it is whole.
            write_json(partial / _DESCRIPTION, description)
        self._put_in_place(name)

    def _put_in_place(self, name: str) -> None:
        final, old = self.path(name), self.directory / ".partial" / f"{name}-old"
        if final.exists():
            shutil.rmtree(old, ignore_errors=True)
            os.replace(final, old)
        os.replace(self._partial(name), final)
        shutil.rmtree(old, ignore_errors=True)

    def _forget_others(self, name: str) -> None:
        """Removes what was begun for this stage with other inputs or settings."""
        for path in (self.directory / ".partial").glob(f"{name}-*"):
            if path != self._partial(name):
                _log.info("%s was begun with another config: starting anew", name)
                shutil.rmtree(path)

    def _partial(self, name: str) -> Path:
        return self.directory / ".partial" / f"{name}-{self._graph.keys[name]}"

    def _key_at(self, path: Path) -> str | None:
        try:
            return json.loads((path / _DESCRIPTION).read_text())["key"]
        except FileNotFoundError:
            return None
