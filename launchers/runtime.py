"""What all launchers share: flags, configs, logging, stopping, errors in one line, exit codes.

Standard output carries a program's result; messages and progress go to standard error.
"""

import contextlib
import dataclasses
import functools
import io
import logging
import os
import re
import signal
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

# Before TensorFlow (under tensorflow-datasets) and XLA are loaded: errors only.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import tqdm
from absl import app, flags
from absl import logging as absl_logging
from ml_collections import config_flags

from leco_jax.configuration import build, nearest

DONE = 0
WRONG = 1  # a flag, a config or a file; the message says which
NOT_FINITE = 2  # loss or gradients
SOME_FAILED = 3  # done, but some problems or lines have no result
RESUME = 75  # stopped and saved: the same command goes on (EX_TEMPFAIL)

log = logging.getLogger("launchers")
_PACKAGES = ("leco_jax", "w2s_jax", "launchers")


def define_config(what: str) -> Callable[[type], Any]:
    """Defines the flag --config; returns a function that makes the dataclass of the config."""
    flag = config_flags.DEFINE_config_file("config", None, what, lock_config=True)
    flags.mark_flag_as_required("config")

    def make(config_type: type) -> Any:
        path = _config_argument(sys.argv)
        own = {field.name for field in dataclasses.fields(config_type)}
        foreign = [name for name in flag.value if name not in own]
        if len(foreign) > 1:
            raise ValueError(
                f"{path} is another program's config: this one has no {', '.join(foreign)}"
            )
        try:
            return build(config_type, flag.value)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None

    return make


def define_workdir(what: str) -> flags.FlagHolder[str]:
    """Defines the flag --workdir."""
    return flags.DEFINE_string("workdir", None, what, required=True)


def run(main: Callable[[], int]) -> None:
    """Parses the flags, runs `main` and exits with the code that it returns.

    What a user can mend is one line and exit code 1; a bug keeps its traceback.
    """

    def start(arguments: list[str]) -> int:
        _set_up_logging()
        return call(main, arguments)

    app.run(start, flags_parser=parse)


def call(main: Callable[[], int], arguments: list[str]) -> int:
    """Runs `main` after `parse`, whose result it takes; gives the exit code, errors logged."""
    if len(arguments) > 1:
        return fail(f"unexpected argument {arguments[1]!r}: flags are --name=value")
    try:
        return main()
    except Exception as error:
        code = exit_code(error)
        if code is None:
            raise
        fail(error)
        return code


def exit_code(error: BaseException) -> int | None:
    """The exit code for what a user can mend; None for a bug."""
    if isinstance(error, FloatingPointError):
        return NOT_FINITE
    return WRONG if isinstance(error, ValueError | OSError | MemoryError) else None


def fail(message: object) -> int:
    """Says what is wrong; returns the exit code for it."""
    log.error("%s", message)
    return WRONG


@contextlib.contextmanager
def stop_requested() -> Iterator[Callable[[], bool]]:
    """Yields what says whether SIGTERM or SIGINT came; a second SIGINT stops at once."""
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


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Prints nothing, and of our messages errors alone: as one of several processes."""
    for package in _PACKAGES:
        logging.getLogger(package).setLevel(logging.ERROR)
    with contextlib.redirect_stdout(io.StringIO()):
        yield


def _set_up_logging() -> None:
    """Our messages at INFO; of the libraries below only errors, unless --verbosity asks for more.

    Warnings of Python and messages pause a progress bar, so that neither is in the other's line.
    """
    if not flags.FLAGS["verbosity"].present:
        absl_logging.set_verbosity(absl_logging.ERROR)
        logging.getLogger().setLevel(logging.ERROR)
        warnings.simplefilter("ignore")
    for package in _PACKAGES:
        logging.getLogger(package).setLevel(logging.INFO)
    logging.captureWarnings(True)
    for handler in logging.getLogger().handlers:
        handler.emit = functools.partial(_beside_bars, handler.emit)  # type: ignore[method-assign]


def _beside_bars(emit: Callable[[logging.LogRecord], None], record: logging.LogRecord) -> None:
    with tqdm.tqdm.external_write_mode(file=sys.stderr):
        emit(record)


def parse(argv: list[str]) -> list[str]:
    """`flags.FLAGS(argv)`, whose errors are one line and an exit."""
    program = Path(argv[0]).stem
    config = _config_argument(argv)
    try:
        path = Path(config.split(":", 1)[0])
        if config and not path.is_file():
            files = [str(file) for file in path.parent.glob("*.py")] or ["no .py file there"]
            raise flags.Error(
                f"--config={config}: there is no such file{nearest(str(path), files)}"
            )
        return flags.FLAGS(argv)
    except flags.UnrecognizedFlagError as error:
        name = f"--{error.flagname}"
        message = f"unknown flag {name}{nearest(name, [f'--{key}' for key in flags.FLAGS])}"
    except flags.Error as error:
        # Of an error in a config file absl gives the whole traceback.
        message = str(error).strip().splitlines()[-1]
        if missing := re.search(r"Flag (--\w+) must have a value other than None", message):
            message = f"{missing[1]} is missing"
        message = f"--config={config}: {message}" if "Traceback" in str(error) else message
    except (AttributeError, KeyError, TypeError) as error:
        override = _unknown_override(argv, error, config)
        message = override or f"--config={config}: {_in_config(error, config)}"
    except (ArithmeticError, ImportError, NameError, SyntaxError, LookupError) as error:
        message = f"--config={config}: {_in_config(error, config)}"
    print(f"{program}: {message}", file=sys.stderr)
    sys.exit(WRONG)


def _config_argument(argv: list[str]) -> str:
    """The value of --config, "" without."""
    for argument, following in zip(argv, [*argv[1:], ""], strict=True):
        name, equals, value = argument.partition("=")
        if name in ("--config", "-config"):
            return value if equals else following
    return ""


def _unknown_override(argv: list[str], error: Exception, config: str) -> str:
    """The message for an override --config.A.B=VALUE of a field that is not there, else ""."""
    names = [arg.partition("=")[0] for arg in argv if re.match(r"--?(no)?config\.", arg)]
    if not names or _lines_in(error, config):
        return ""
    unknown = re.search(r"'(\w+)", str(error))
    close = re.search(r'Did you mean "(\w+)"', str(error))
    for name in names:
        if unknown and unknown[1] in name.split("."):
            hint = f"; did you mean {close[1]!r}?" if close else ""
            return f"{name}: the config has no field {unknown[1]!r}{hint}"
    return f"{' or '.join(names)}: the config has no such field"


def _in_config(error: Exception, config: str) -> str:
    """An error in one line, with the line of the config file that caused it."""
    lines = [error.lineno] if isinstance(error, SyntaxError) else _lines_in(error, config)
    text = " ".join((str(error) or type(error).__name__).split())
    return (f"line {lines[-1]}: " if lines else "") + text


def _lines_in(error: Exception, config: str) -> list[int | None]:
    file = config.split(":", 1)[0]
    return [f.lineno for f in traceback.extract_tb(error.__traceback__) if f.filename == file]
