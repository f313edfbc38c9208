"""Runs many methods at once on an engine; a method is a generator that yields chains to wait for.

    def greedy(engine, prompt):
        chain = engine.submit(Request(prompt=prompt, max_new_tokens=256))
        yield [chain]            # resumes when every chain in the list has ended
        return chain.tokens

One problem's second pass decodes together with other problems' first passes. There are no threads,
and on one engine the order of events is the same in every run. Several engines, each on devices of
its own, decode at the same time.
"""

import collections
import logging
from collections.abc import Callable, Generator, Iterable, Iterator
from typing import Generic, NamedTuple, TypeVar

import jax

from leco_jax.decoding.engine import Engine
from leco_jax.decoding.request import Chain

_log = logging.getLogger(__name__)

K = TypeVar("K")
R = TypeVar("R")

Task = Generator[list[Chain], None, R]


class Outcome(NamedTuple, Generic[K, R]):
    """A task's key with its result, or with the error that ended it; the other is None."""

    key: K
    result: R | None
    error: Exception | None


def run_tasks(
    engine: Engine,
    tasks: Iterable[tuple[K, Task[R]]],
    *,
    stop: Callable[[], bool] = lambda: False,
) -> Iterator[Outcome[K, R]]:
    """Runs (key, generator) pairs concurrently and yields their outcomes as they end.

    A new task starts whenever fewer chains wait than the engine has slots. An exception (a request
    that cannot fit, say) ends its own task alone and is logged with its traceback unless it is a
    `ValueError`. Errors of the device (`JaxRuntimeError`, `MemoryError`) are raised. `stop` is
    asked before every chunk; true ends all, without outcomes of unfinished tasks.
    """
    return run_units([engine], [lambda _: tasks], ahead=engine.slots, stop=stop)


def run_units(
    engines: Iterable[Engine],
    units: Iterable[Callable[[Engine], Iterable[tuple[K, Task[R]]]]],
    *,
    ahead: int = 0,
    stop: Callable[[], bool] = lambda: False,
) -> Iterator[Outcome[K, R]]:
    """Runs units of tasks on several engines, each on the first that has room; see `run_tasks`.

    Args:
      engines: one is asked for when those before it are full.
      units: each makes, for the engine that it gets, the (key, generator) pairs that belong
        together: one problem's, say. None is asked for before an engine has room for it, so that
        several callers can share them.
      ahead: a new task starts where fewer chains than this wait, or fewer than there are free
        slots.
      stop: as for `run_tasks`.
    """
    source, more = iter(units), iter(engines)
    decoding: collections.deque[_Driver] = collections.deque()  # the first to end first
    exhausted = False
    while True:
        engine = None if exhausted else next(more, None)
        if engine is not None:
            driver = _Driver(engine, source, ahead)
        elif decoding:
            driver = decoding.popleft()
            driver.end_step()
        else:
            return
        yield from driver.advance()
        exhausted = exhausted or driver.exhausted
        if driver.waiting:
            if stop():
                return
            driver.engine.begin_step()
            decoding.append(driver)


def together(tasks: Iterable[Task[R]]) -> Generator[list[Chain], None, list[R]]:
    """Runs several tasks as one, in lock-step; gives their results in their order."""
    running = dict(enumerate(tasks))
    results: dict[int, R] = {}
    try:
        while running:
            chains: list[Chain] = []
            for i, task in list(running.items()):
                try:
                    chains += next(task)
                except StopIteration as end:
                    results[i] = end.value
                    del running[i]
            if chains:
                yield chains
    finally:
        for task in running.values():
            task.close()
    return [results[i] for i in sorted(results)]


class _Open:
    def __init__(self, key, generator):
        self.key = key
        self.generator = generator
        self.missing = 0


class _Driver:
    """One engine and the tasks that run on it."""

    def __init__(self, engine: Engine, source: Iterator, ahead: int):
        self.engine = engine
        self.exhausted = False  # nothing is left in `source`
        self.waiting: dict[Chain, list[_Open]] = collections.defaultdict(list)
        self._ready: collections.deque[_Open] = collections.deque()
        self._source = source
        self._ahead = ahead
        self._unit: Iterator = iter(())

    def advance(self) -> Iterator[Outcome]:
        """Runs all tasks, and new ones as there is room, until each waits for chains."""
        while True:
            if self._ready:
                outcome = self._run(self._ready.popleft())
                if outcome is not None:
                    yield outcome
            elif self.engine.waiting < max(self._ahead, self.engine.free):
                following = self._following()
                if following is None:
                    return
                self._ready.append(_Open(*following))
            else:
                return

    def end_step(self) -> None:
        """Waits for the engine's chunk; tasks whose chains have ended can go on."""
        for chain in self.engine.end_step():
            for task in self.waiting.pop(chain, ()):
                task.missing -= 1
                if not task.missing:
                    self._ready.append(task)

    def _following(self):
        while not self.exhausted:
            following = next(self._unit, None)
            if following is not None:
                return following
            unit = next(self._source, None)
            if unit is None:
                self.exhausted = True
            else:
                self._unit = iter(unit(self.engine))
        return None

    def _run(self, task: _Open) -> Outcome | None:
        """Runs a task to its next `yield`; returns its outcome if it ended."""
        try:
            chains = {chain for chain in next(task.generator) if not chain.done}
        except StopIteration as end:
            return Outcome(task.key, end.value, None)
        except (jax.errors.JaxRuntimeError, MemoryError):
            raise
        except Exception as error:
            if not isinstance(error, ValueError):
                _log.error("%s failed", task.key, exc_info=error)
            return Outcome(task.key, None, error)
        task.missing = len(chains)
        for chain in chains:
            self.waiting[chain].append(task)
        if not chains:
            self._ready.append(task)
        return None
