"""math-verify in another process, which can be ended whatever it is doing."""

from __future__ import annotations

import atexit
import json
import logging
import os
import select
import subprocess
import sys
import threading
import time
from pathlib import Path

# Processor time is what limits a comparison, so that a busy machine gives the same grades; the
# process ends itself then. These bound the wait for one that gets no processor.
_START_SECONDS = 120.0
_WAIT_SECONDS = 60.0
_WORKER = Path(__file__).with_name("latex_worker.py")
_log = logging.getLogger(__name__)


class Comparer:
    """Compares expressions in one process, started when it is first needed, again after a limit.

    math-verify's own limits rest on signals, which work in the main thread alone and do not reach
    into long computations of integers.
    """

    def __init__(self):
        self._lock = threading.Lock()
        self._process: subprocess.Popen | None = None
        self._owner = 0
        atexit.register(self.close)

    def equal(self, a: str, b: str, *, limit_seconds: int) -> bool:
        """Whether two expressions are equal; False past the limit, or where one is not understood.

        Args:
          a: in LaTeX.
          b: in LaTeX.
          limit_seconds: processor time, whole seconds.

        Raises:
          RuntimeError: the process does not start.
        """
        with self._lock:
            if self._process is None or self._process.poll() is not None or self._forked():
                self._start()
            answer = self._ask([a, b, limit_seconds])
            if answer is None:
                _log.warning("not compared within %d s: %.80r and %.80r", limit_seconds, a, b)
                self._end()
            return answer == "true"

    def close(self) -> None:
        """Ends the process, if there is one."""
        if self._process is not None and not self._forked():
            self._end()

    def _forked(self) -> bool:
        return self._owner != os.getpid()

    def _start(self) -> None:
        self._owner = os.getpid()
        self._process = subprocess.Popen(
            [sys.executable, "-P", str(_WORKER)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=0,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )
        if self._read(_START_SECONDS) != "ready":
            self._end()
            raise RuntimeError("the process that compares LaTeX does not start (math-verify)")

    def _ask(self, question: list[str | int]) -> str | None:
        try:
            self._process.stdin.write(json.dumps(question).encode() + b"\n")  # type: ignore[union-attr]
        except BrokenPipeError:
            return None
        return self._read(_WAIT_SECONDS)

    def _read(self, limit_seconds: float) -> str | None:
        """The next line, None past the limit or at the end."""
        assert self._process is not None
        assert self._process.stdout is not None
        out = self._process.stdout
        line, deadline = b"", time.monotonic() + limit_seconds
        while not line.endswith(b"\n"):
            ready, _, _ = select.select([out], [], [], max(deadline - time.monotonic(), 0))
            part = out.read(1024) if ready else b""
            if not part:
                return None
            line += part
        return line.decode().strip()

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.stdin.close()  # type: ignore[union-attr]
            process.stdout.close()  # type: ignore[union-attr]
            process.wait()


COMPARER = Comparer()
