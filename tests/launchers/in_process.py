"""Launchers called in the test's own process, by the flags of their command line."""

import contextlib
import importlib
import logging
import sys
import warnings
from types import SimpleNamespace
from unittest import mock

import jax
from absl import flags

import launchers
from launchers import runtime

_OPTIONS = ("jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs")


@contextlib.contextmanager
def flags_restored():
    """Forgets the flags that are defined inside, the launchers that do so, and jax's options."""
    before = set(flags.FLAGS)
    options = {name: getattr(jax.config, name) for name in _OPTIONS}
    try:
        yield
    finally:
        for name in set(flags.FLAGS) - before:
            # Libraries that are loaded inside keep their own.
            module = flags.FLAGS.find_module_defining_flag(name) or ""
            if name.startswith("config") or module.startswith(("launchers.", "program")):
                delattr(flags.FLAGS, name)
        flags.FLAGS.unparse_flags()
        for name in [name for name in sys.modules if name.startswith("launchers.")]:
            if name != runtime.__name__:
                del sys.modules[name]
                if name.count(".") == 1:
                    delattr(launchers, name.removeprefix("launchers."))
        for name, value in options.items():
            jax.config.update(name, value)


class Caller:
    """Calls launchers; takes pytest's `capsys` and `caplog`."""

    def __init__(self, capsys, caplog):
        self._capsys, self._caplog = capsys, caplog

    def __call__(self, launcher, *arguments):
        """Gives "returncode", "stdout" and "stderr" (with the log's messages) of a launcher."""
        with flags_restored():
            main = importlib.import_module(f"launchers.{launcher}").main
            return self.call(main, *arguments)

    def call(self, main, *arguments):
        """The same of a function whose flags are defined."""
        argv = ["program", *map(str, arguments)]
        self._capsys.readouterr()
        self._caplog.clear()
        packages = ("leco_jax", "w2s_jax", "launchers")
        with contextlib.ExitStack() as stack:
            stack.enter_context(mock.patch.object(sys, "argv", argv))
            stack.enter_context(warnings.catch_warnings())
            warnings.filterwarnings("ignore", "the load_module")  # in ml_collections' flags
            for package in packages:
                stack.enter_context(self._caplog.at_level(logging.INFO, package))
            try:
                code = runtime.call(main, runtime.parse(argv))
            except SystemExit as end:
                code = end.code
        printed = self._capsys.readouterr()
        logged = [record.getMessage() for record in self._caplog.records]
        lines = [*printed.err.splitlines(), *logged]
        return SimpleNamespace(returncode=code, stdout=printed.out, stderr="\n".join(lines))
