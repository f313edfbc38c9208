"""What several processes must agree on: when to stop, a yes or no, figures in the batch's order.

One process asks `stop`, a function of the caller's. Several must stop at the same train step: they
ask jax's preemption service, which `jax.distributed.initialize` starts and which sees SIGTERM.
"""

from collections.abc import Callable

import jax
import numpy as np
from jax.experimental import multihost_utils

Stop = Callable[[], bool]


class Stopped(Exception):
    """The caller asked to stop before the first train step; the same call begins anew."""


def raise_if_asked(stop: Stop) -> None:
    """Ends the preparation of a run; a no-op with several processes.

    Raises:
      Stopped: `stop` said so.
    """
    if jax.process_count() == 1 and stop():
        raise Stopped


def asked_at_step(stop: Stop, step: int) -> bool:
    """Whether to save and end after a train step; the same on every process."""
    if jax.process_count() == 1:
        return stop()
    return multihost_utils.reached_preemption_sync_point(step)


def everywhere(flag: bool) -> bool:
    """Collective AND; every process must call it."""
    if jax.process_count() == 1:
        return flag
    return bool(np.all(multihost_utils.process_allgather(np.asarray(flag))))
