"""A results file to which several processes add: each into a part of its own, joined at the end."""

from collections.abc import Callable, Hashable, Sequence
from pathlib import Path
from typing import Any, Generic, TypeVar

from leco_jax.evaluation.processes import Processes
from leco_jax.storage.results_file import ResultsFile

K = TypeVar("K", bound=Hashable)


class SharedResults(Generic[K]):
    """What is missing in a results file, and where this process's share of it goes.

    Attributes:
      missing: the keys without a result, in order; the same on every process.
      begun: whether there were results before.
    """

    def __init__(
        self, path: Path, *, key: Callable[[dict], K], order: Sequence[K], processes: Processes
    ):
        """Joins what an earlier run left; every process must call it.

        Args:
          path: the file.
          key: gives what identifies a result.
          order: of all results that there are to be.
          processes: those that share the work.

        Raises:
          ValueError: as `ResultsFile`, or another process does not see the file.
        """
        self._path, self._order, self._processes = path, order, processes
        self._whole: ResultsFile | None = None
        if processes.lead:
            self._whole = ResultsFile(path, key=key)
            self._whole.join()
        # Process 0 alone reads: other hosts may see a shared disk as it was a moment ago.
        there = None if self._whole is None else [int(name in self._whole) for name in order]
        known = processes.exchange(there)[0]
        if not path.exists():
            raise ValueError(
                f"{path} is not there, and process 0 has made it: all processes need one workdir "
                "that all of them see"
            )
        self.missing = [name for name, done in zip(order, known, strict=True) if not done]
        self.begun = any(known)
        part = processes.part(path)
        if part == path or part is None:
            self._own = self._whole
        else:
            self._own = ResultsFile(part, key=key)
        self._written = 0

    def append(self, row: dict) -> None:
        """Adds one result; see `ResultsFile.append`."""
        if self._own is not None:
            self._own.append(row)
            self._written += 1

    def close(self, report: Any) -> tuple[dict[K, dict], list[Any]]:
        """Waits for all processes and joins their parts in order.

        Args:
          report: JSON value of this process for process 0.

        Returns:
          On process 0 all results by their keys and the reports of the processes that wrote; on
          others neither.

        Raises:
          ValueError: process 0 does not see what another process wrote.
        """
        if self._own is not None and self._own is not self._whole:
            self._own.close()
        wrote = self._own is not None
        reports = self._processes.exchange([wrote, self._written, report])
        if self._whole is None:
            return {}, []
        joined = self._whole.join()
        if self._own is not self._whole and joined != (count := sum(n for _, n, _ in reports)):
            raise ValueError(
                f"{self._path.parent} holds {joined} of the {count} results that the processes "
                "wrote: all need one workdir that all of them see. What is missing is done when "
                "the same command is given again"
            )
        self._whole.close(order=self._order)
        return self._whole.rows, [own for wrote, _, own in reports if wrote]
