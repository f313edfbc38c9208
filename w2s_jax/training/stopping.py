"""Stopping when asked, on one process or on many.

One process asks `stop`, a function of the caller's. Several must stop at one and the same step:
they ask jax's preemption service, which `jax.distributed.initialize` starts and which sees SIGTERM.
"""

from collections.abc import Callable

import jax
from jax.experimental import multihost_utils

Stop = Callable[[], bool]


class Stopped(Exception):
    """The caller asked to stop before the first step; the same call begins anew."""


def raise_if_asked(stop: Stop) -> None:
    """Ends the preparation of a run; several processes prepare to the end.

    Raises:
      Stopped: `stop` said so.
    """
    if jax.process_count() == 1 and stop():
        raise Stopped


def asked_at_step(stop: Stop, step: int) -> bool:
    """Says whether to save and end after a step; the same on every process."""
    if jax.process_count() == 1:
        return stop()
    return multihost_utils.reached_preemption_sync_point(step)
