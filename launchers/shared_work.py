"""Several processes share the problems of a run through jax's key-value store, on process 0.

Each asks for the next number when it has room, so a slow host takes fewer. No array crosses hosts,
unless a replica of the model is larger than one: then all processes do everything in lock-step.
"""

import itertools
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
from jax._src.distributed import global_state  # The key-value store has no public name.
from jax.sharding import Mesh

from leco_jax.evaluation.processes import ONE, Processes
from leco_jax.models.sharding import make_mesh, replica_meshes
from leco_jax.storage.results_file import part_path

_MILLISECONDS = 1000  # that one look at the store waits; signals are seen between two
_SECONDS_TO_STOP = 1.0  # between two looks whether another process was asked to stop
# Where jax's preemption service notes that a process got SIGTERM; it has no public name.
_NOTICE = "RECEIVED_PREEMPTION_NOTICE"


def find(tensor: int) -> Processes:
    """This process among all; `tensor` devices make a replica.

    Raises:
      ValueError: a replica is larger than a process and not all devices.
    """
    if jax.process_count() == 1:
        return ONE
    if tensor <= jax.local_device_count():
        return _Several()
    if tensor == jax.device_count():
        return _LockStep()
    raise ValueError(
        f"tensor={tensor}: a replica lies within one process, which has "
        f"{jax.local_device_count()} devices here, or on all {jax.device_count()}"
    )


class _Several:
    """Replicas of their own in each process, which takes problems as it has room."""

    shared = True

    def __init__(self) -> None:
        client = global_state.client
        assert client is not None
        self._store = client
        self._index = jax.process_index()
        self._calls = itertools.count()  # all processes make the same ones
        self._stopped = False
        self._looked = time.monotonic()
        self.lead = self._index == 0

    def meshes(self, tensor: int) -> list[Mesh]:
        return replica_meshes(tensor)

    def take(self, count: int) -> Iterator[int]:
        return self._claim(f"leco/take/{next(self._calls)}", count)

    def _claim(self, key: str, count: int) -> Iterator[int]:
        while (number := self._store.key_value_increment(key, 1) - 1) < count:
            yield number

    def exchange(self, value: Any) -> list[Any]:
        key = f"leco/exchange/{next(self._calls)}"
        self._store.key_value_set(f"{key}/{self._index}", json.dumps(value))
        return [json.loads(self._wait(f"{key}/{i}")) for i in range(jax.process_count())]

    def _wait(self, key: str) -> str:
        while True:
            try:
                return self._store.blocking_key_value_get(key, _MILLISECONDS)
            except jax.errors.JaxRuntimeError as error:
                if "DEADLINE_EXCEEDED" not in str(error):
                    raise

    def part(self, path: Path) -> Path | None:
        return part_path(path, self._index)

    def stop(self, asked: Callable[[], bool]) -> Callable[[], bool]:
        key = f"leco/stop/{next(self._calls)}"

        def any_asked() -> bool:
            if not self._stopped and asked():
                self._stopped = True
                self._store.key_value_set(f"{key}/{self._index}", "")
            elif not self._stopped and time.monotonic() >= self._looked + _SECONDS_TO_STOP:
                self._looked = time.monotonic()
                self._stopped = bool(self._store.key_value_dir_get(key)) or self._noticed()
            return self._stopped

        return any_asked

    def _noticed(self) -> bool:
        try:
            return bool(self._store.key_value_try_get(_NOTICE))
        except jax.errors.JaxRuntimeError as error:
            if "NOT_FOUND" not in str(error):
                raise
            return False


class _LockStep(_Several):
    """One replica on the devices of all processes, each of which does everything."""

    shared = False

    def meshes(self, tensor: int) -> list[Mesh]:
        return [make_mesh(tensor=tensor)]

    def take(self, count: int) -> Iterator[int]:
        return iter(range(count))

    def part(self, path: Path) -> Path | None:
        return path if self.lead else None

    def stop(self, asked: Callable[[], bool]) -> Callable[[], bool]:
        return lambda: any(self.exchange(asked() or self._noticed()))
