"""Stages, what they need, and the key that says whether a result still belongs to its inputs."""

import dataclasses
import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from leco_jax.evaluation.processes import ONE, Processes


class Cost(NamedTuple):
    """What a stage will take at most."""

    tokens: float = 0.0  # read and written by a model
    flops: float = 0.0  # floating-point operations of the models

    def __add__(self, other: tuple) -> "Cost":
        return Cost(*(a + b for a, b in zip(self, other, strict=True)))


class Work(NamedTuple):
    """What a stage's function is given."""

    directory: Path  # where it writes; kept from an attempt that was interrupted
    inputs: Mapping[str, Path]  # by name the finished directories of the stages that it needs
    stop: Callable[[], bool]  # asked now and then; true asks the stage to raise `Interrupted`
    processes: Processes = ONE  # those that run a `shared` stage


class Interrupted(Exception):
    """A stage was asked to stop; what it has done so far is in its directory."""


class StageError(ValueError):
    """A stage that can't be run; the message names it."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Stage:
    """One step of a pipeline, which makes one artifact."""

    name: str  # of the stage and its artifact
    needs: tuple[str, ...]  # the stages whose artifacts it reads
    settings: Mapping[str, Any]  # JSON values, everything else that its result depends on
    # does the work; returns a summary of JSON values, of which process 0's counts. May be called
    # again on the directory of an attempt that was killed
    run: Callable[[Work], dict]
    cost: Callable[[], Cost] = Cost  # what it will take at most
    # whether all processes run it, each a share, in one directory; else process 0 alone
    shared: bool = False


class Graph:
    """Stages in an order in which each comes after all that it needs; else a StageError."""

    def __init__(self, stages: Iterable[Stage]):
        self.stages: dict[str, Stage] = {}
        self.keys: dict[str, str] = {}
        for stage in stages:
            if stage.name in self.stages:
                raise StageError(f"two stages are called {stage.name!r}")
            for need in stage.needs:
                if need not in self.stages:
                    raise StageError(f"stage {stage.name!r} needs {need!r}, which is not before it")
            needs = {need: self.keys[need] for need in stage.needs}
            decides = {"name": stage.name, "settings": stage.settings, "needs": needs}
            text = json.dumps(decides, sort_keys=True)
            self.stages[stage.name] = stage
            self.keys[stage.name] = hashlib.blake2b(text.encode(), digest_size=12).hexdigest()

    def until(self, name: str) -> list[str]:
        """The stages that `name` needs, and `name`, in order; StageError if there is none."""
        if name not in self.stages:
            raise StageError(f"no stage {name!r}; there are: {', '.join(self.stages)}")
        chosen = {name}
        for stage in reversed(self.stages.values()):
            if stage.name in chosen:
                chosen.update(stage.needs)
        return [stage for stage in self.stages if stage in chosen]
