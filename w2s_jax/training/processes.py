"""What several processes must agree on: their config and files, when to stop, a yes or no.

One process asks `stop`, a function of the caller's. Several must stop at the same place: they ask
jax's preemption service, which `jax.distributed.initialize` starts and which sees SIGTERM.
"""

import itertools
import json
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from leco_jax.storage.workdir import differing

Stop = Callable[[], bool]
_calls = itertools.count(1)  # of `asked`


class Stopped(Exception):
    """The caller asked to stop before the first train step; the same call begins anew."""


def asked(stop: Stop) -> bool:
    """Whether to save and end; of several processes, the same on all at the same call."""
    if jax.process_count() == 1:
        return stop()
    # The processes meet at one call after the last that any has made.
    return multihost_utils.reached_preemption_sync_point(next(_calls))


def raise_if_asked(stop: Stop) -> None:
    """Ends the preparation of a run.

    Raises:
      Stopped: `stop` said so.
    """
    if asked(stop):
        raise Stopped


def everywhere(flag: bool) -> bool:
    """Collective AND; every process must call it."""
    if jax.process_count() == 1:
        return flag
    return bool(np.all(multihost_utils.process_allgather(np.asarray(flag))))


def same_everywhere(things: Mapping[str, Any]) -> None:
    """Compares JSON values by their names with those of process 0; every process must call it.

    Raises:
      ValueError: the same on every process, naming the first other one and what differs.
    """
    if jax.process_count() == 1:
        return
    text = np.frombuffer(json.dumps(things, sort_keys=True).encode(), np.uint8)
    length = np.max(multihost_utils.process_allgather(np.int32(len(text))))
    texts = multihost_utils.process_allgather(np.pad(text, (0, length - len(text))))
    first, *others = [json.loads(bytes(row).rstrip(b"\0")) for row in np.asarray(texts)]
    for process, other in enumerate(others, start=1):
        names = [leaf for name in first for leaf in differing(first[name], other[name], name)]
        if names:
            raise ValueError(
                f"process {process} differs from process 0 in {', '.join(names)}: all processes "
                "need the same flags and files, and one workdir that all of them see"
            )
