"""Flax is what the programs are made of; the kernels do without."""

import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    ("module", "works"), [("leco_jax.scoring", True), ("launchers.sft", False)]
)
def test_with_flax_blocked(module, works):
    code = f"import sys; sys.modules['flax'] = None; import {module}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode == 0) == works, done.stderr
    assert works or "flax" in done.stderr.splitlines()[-1]
