"""SIGTERM and Ctrl-C as a question that a program asks when it can afford to stop."""

import contextlib
import signal
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def requested() -> Iterator[Callable[[], bool]]:
    """Turns the first SIGTERM or SIGINT into a true answer; a second SIGINT stops at once.

    Yields:
        A function that says whether a stop was asked for.
    """
    asked: list[int] = []

    def note(number, frame):
        asked.append(number)
        signal.signal(signal.SIGINT, signal.default_int_handler)

    before = {number: signal.signal(number, note) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield lambda: bool(asked)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
