"""What a run needs to know of other processes that do the same work: which part is whose.

`launchers/processes.py` makes the object for several processes; `ONE` is a process alone.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

from jax.sharding import Mesh

from leco_jax.models.sharding import replica_meshes
from leco_jax.storage.workdir import differing


class Processes(Protocol):
    """This process among those that run the same program; all make the same calls in one order.

    Attributes:
      lead: whether this process writes what is written once.
      shared: whether others take from the same work, so that no process should take ahead.
    """

    lead: bool
    shared: bool

    def meshes(self, tensor: int) -> list[Mesh]:
        """What this process's replicas of a model lie on, `tensor` devices each."""
        ...

    def take(self, count: int) -> Iterator[int]:
        """Yields the numbers below `count` that fall to this process, rising, as it asks."""
        ...

    def exchange(self, value: Any) -> list[Any]:
        """Waits for all and gives the JSON value of each process, in their order."""
        ...

    def part(self, path: Path) -> Path | None:
        """Where this process writes its rows of the file `path`; None: nowhere."""
        ...

    def stop(self, asked: Callable[[], bool]) -> Callable[[], bool]:
        """Makes of a request to this process one to all."""
        ...


class _One:
    """The only process."""

    lead, shared = True, False

    def meshes(self, tensor: int) -> list[Mesh]:
        return replica_meshes(tensor)

    def take(self, count: int) -> Iterator[int]:
        return iter(range(count))

    def exchange(self, value: Any) -> list[Any]:
        return [value]

    def part(self, path: Path) -> Path | None:
        return path

    def stop(self, asked: Callable[[], bool]) -> Callable[[], bool]:
        return asked


ONE: Processes = _One()


def from_lead(processes: Processes, make: Callable[[], Any]) -> Any:
    """Calls a function on process 0 alone and gives its JSON value to all."""
    return processes.exchange(make() if processes.lead else None)[0]


def same_everywhere(processes: Processes, name: str, value: Any) -> None:
    """Compares a JSON value with those of the other processes.

    Raises:
      ValueError: the same on every process, naming the first other one and what differs.
    """
    first, *others = processes.exchange(value)
    for number, other in enumerate(others, start=1):
        if names := differing(first, other, name):
            raise ValueError(
                f"process {number} differs from process 0 in {', '.join(names)}: all processes "
                "need the same flags and files, and one workdir that all of them see"
            )
