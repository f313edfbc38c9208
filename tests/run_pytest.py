"""Calls pytest on one directory; the `main` of every test target in BUILD.

The tests of a directory alone, not of those below it, each of which has a target of its own.
"""

import os
import pathlib
import sys

import pytest

if __name__ == "__main__":
    directory = pathlib.Path(sys.argv[1])
    os.environ.setdefault("HOME", os.environ.get("TEST_TMPDIR", "/tmp"))
    options = ["-p", "no:cacheprovider", "-m", "not slow and not parity", *sys.argv[2:]]
    files = sorted(str(path) for path in directory.glob("test_*.py"))
    sys.exit(pytest.main([*options, *files]))
