"""Several processes as one program: they start together, and when one fails or dies all end.

On a TPU pod every host starts the same command and the processes find each other; elsewhere
--coordinator, --num_processes and --process_id say who they are. Each process keeps a connection to
process 0, which the kernel closes whatever ends the process: so a death is seen at once.
"""

import contextlib
import glob
import json
import os
import selectors
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from typing import NoReturn

import jax
from absl import flags
from jax._src.distributed import global_state  # The key-value store has no public name.

from launchers import runtime

_COORDINATOR = flags.DEFINE_string("coordinator", None, "HOST:PORT of process 0, of several.")
_NUM_PROCESSES = flags.DEFINE_integer(
    "num_processes", None, "How many processes there are; 1: this one alone.", lower_bound=1
)
_PROCESS_ID = flags.DEFINE_integer("process_id", None, "Which one this is, from 0.", lower_bound=0)

_SECONDS_TO_MEET = 300
_SECONDS_TO_HEAR = 2
_SECONDS_TO_END = 10
_KEY = "leco/link"
_DONE = "done"


def together(main: Callable[[], int]) -> Callable[[], int]:
    """Makes of `main` a program for any number of processes; process 0 alone logs and prints.

    Where one process raises, all end with its exit code (`runtime.exit_code`) and a line that
    names it; where one dies, the others end with `runtime.RESUME`.
    """

    def run() -> int:
        if not _one_of_several():
            return main()
        link = _Link()
        try:
            with runtime.quiet() if jax.process_index() else contextlib.nullcontext():
                code = main()
        except BaseException as error:
            # Whatever the death of another process raises here: `_watch` hears of it and ends this.
            time.sleep(_SECONDS_TO_HEAR)
            known = runtime.exit_code(error)
            if known is None:
                traceback.print_exc()
            link.fail(known or runtime.WRONG, str(error) or type(error).__name__)
        link.leave()
        return code

    return run


def alone(main: Callable[[], int]) -> Callable[[], int]:
    """Makes of `main` a program that refuses to be one of several processes."""

    def run() -> int:
        if _one_of_several():
            raise ValueError(
                f"this program runs in one process, and this is process {jax.process_index()} of "
                f"{jax.process_count()}: all would write the same results. Give --num_processes=1 "
                "on one host alone"
            )
        return main()

    return run


@contextlib.contextmanager
def stop_requested() -> Iterator[Callable[[], bool]]:
    """`runtime.stop_requested`, unless jax's preemption service hears SIGTERM: for training.

    It does so as one of several processes, and makes all of them stop at one step.
    """
    alone = jax.process_count() == 1
    with runtime.stop_requested() if alone else contextlib.nullcontext(lambda: False) as stop:
        yield stop


def _one_of_several() -> bool:
    """Finds the other processes, if there are any."""
    given = {
        "coordinator": _COORDINATOR.value,
        "num_processes": _NUM_PROCESSES.value,
        "process_id": _PROCESS_ID.value,
    }
    if _NUM_PROCESSES.value == 1:
        return False
    missing = [f"--{name}" for name, value in given.items() if value is None]
    if 0 < len(missing) < 3:
        raise ValueError(f"{', '.join(missing)} missing: several processes need all of them")
    if missing and not _on_tpu():
        return False
    try:
        jax.distributed.initialize(
            _COORDINATOR.value, _NUM_PROCESSES.value, _PROCESS_ID.value,
            initialization_timeout=_SECONDS_TO_MEET,
        )  # fmt: skip
    except (ValueError, RuntimeError) as error:
        first = str(error).splitlines()[0]
        raise ValueError(
            f"the processes did not find each other: {first}. --num_processes=1 runs one alone"
        ) from None
    return jax.process_count() > 1


def _on_tpu() -> bool:
    wanted = os.environ.get("JAX_PLATFORMS", "")
    chips = glob.glob("/dev/accel[0-9]*") + glob.glob("/dev/vfio/[0-9]*")
    return bool(chips) and (not wanted or "tpu" in wanted)


class _Link:
    """This process's connections: those of all others in process 0, the one to it elsewhere."""

    def __init__(self) -> None:
        """Connects and starts to watch."""
        self._index = jax.process_index()
        self._name = f"process {self._index} ({socket.gethostname()})"
        self._ending = threading.Lock()
        self._peers: dict[str, socket.socket] = {}
        store, coordinator = global_state.client, global_state.coordinator_address
        assert store is not None
        assert coordinator is not None
        if self._index == 0:
            with socket.create_server(("", 0)) as server:
                host = coordinator.rpartition(":")[0]
                store.key_value_set(_KEY, json.dumps([host, server.getsockname()[1], self._name]))
                server.settimeout(_SECONDS_TO_MEET)
                while len(self._peers) < jax.process_count() - 1:
                    peer, _ = server.accept()
                    self._peers[_read_line(peer)] = _kept(peer)
        else:
            host, port, name = json.loads(
                store.blocking_key_value_get(_KEY, 1000 * _SECONDS_TO_MEET)
            )
            self._peers[name] = _kept(socket.create_connection((host, port), _SECONDS_TO_MEET))
            _send(self._peers[name], self._name)
        threading.Thread(target=self._watch, daemon=True).start()

    def fail(self, code: int, message: str) -> NoReturn:
        """Ends this process and all others."""
        self._end(code, message, f"{self._name} failed: {message}")

    def leave(self) -> None:
        """Says that this process ends as it should."""
        self._ending.acquire()
        for peer in self._peers.values():
            _send(peer, _DONE)

    def _end(self, code: int, message: str, told: str) -> NoReturn:
        """Says why and tells the others; process 0, which holds jax's store, ends after them."""
        self._ending.acquire()  # Never released: the first reason is the one.
        runtime.log.error("%s", message)
        for peer in self._peers.values():
            _send(peer, json.dumps([code, told]))
        if self._index == 0:
            until = time.monotonic() + _SECONDS_TO_END
            for peer in self._peers.values():
                peer.settimeout(max(0.01, until - time.monotonic()))
                while _read_line(peer):
                    pass
        sys.stdout.flush()
        sys.stderr.flush()
        # Not sys.exit: jax would wait for the processes that are gone.
        os._exit(code)

    def _watch(self) -> None:
        with selectors.DefaultSelector() as waiting:
            for name, peer in self._peers.items():
                waiting.register(peer, selectors.EVENT_READ, name)
            while waiting.get_map():
                for key, _ in waiting.select():
                    line = _read_line(self._peers[key.data])
                    if line == _DONE:
                        waiting.unregister(key.fileobj)
                        continue
                    died = f"{key.data} died: the same command goes on from what is saved"
                    code, message = json.loads(line) if line else (runtime.RESUME, died)
                    self._end(code, message, message)


def _kept(peer: socket.socket) -> socket.socket:
    """A connection without a time limit, whose other host's loss is seen within 25 seconds."""
    peer.settimeout(None)
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (("TCP_KEEPIDLE", 10), ("TCP_KEEPINTVL", 5), ("TCP_KEEPCNT", 3)):
        if hasattr(socket, name):
            peer.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
    return peer


def _send(peer: socket.socket, line: str) -> None:
    with contextlib.suppress(OSError):  # It is gone; `_watch` sees that.
        peer.sendall(line.encode() + b"\n")


def _read_line(peer: socket.socket) -> str:
    """The next line; "" where the connection has ended."""
    line = b""
    try:
        while not line.endswith(b"\n"):
            byte = peer.recv(1)
            if not byte:
                return ""
            line += byte
    except OSError:
        return ""
    return line.decode().strip()
