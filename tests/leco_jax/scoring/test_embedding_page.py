"""The page for embedders does what it says."""

import re
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[3] / "docs" / "embedding_the_kernels.md"
PROGRAMS = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.DOTALL | re.MULTILINE)


@pytest.mark.heavy
@pytest.mark.parametrize("reader", range(3), ids=["trainer", "sharded", "server"])
def test_each_program_runs_by_itself(reader):
    assert len(PROGRAMS) == 3
    exec(compile(PROGRAMS[reader], str(PAGE), "exec"), {})
