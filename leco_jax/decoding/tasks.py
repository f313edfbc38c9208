"""Runs many methods at once on one engine; a method is a generator that yields chains to wait for.

    def greedy(engine, prompt):
        chain = engine.submit(Request(prompt=prompt, max_new_tokens=256))
        yield [chain]            # resumes when every chain in the list has ended
        return chain.tokens

One problem's second pass decodes together with other problems' first passes. There are no threads,
and the order of events is the same in every run.
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
    source = iter(tasks)
    waiting: dict[Chain, list[_Open]] = collections.defaultdict(list)
    ready: collections.deque[_Open] = collections.deque()
    exhausted = False
    while True:
        if ready:
            outcome = _advance(ready.popleft(), waiting, ready)
            if outcome is not None:
                yield outcome
        elif not exhausted and engine.waiting < engine.slots:
            following = next(source, None)
            if following is None:
                exhausted = True
            else:
                ready.append(_Open(*following))
        elif waiting and stop():
            return
        elif waiting:
            for chain in engine.step():
                for task in waiting.pop(chain, ()):
                    task.missing -= 1
                    if not task.missing:
                        ready.append(task)
        else:
            return


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


def _advance(task: _Open, waiting, ready) -> Outcome | None:
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
        waiting[chain].append(task)
    if not chains:
        ready.append(task)
    return None
