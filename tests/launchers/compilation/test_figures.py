"""The search for the largest batch, and what is said where memory is short."""

import dataclasses
import types

import pytest

from launchers.compilation import figures
from launchers.compilation.figures import Figures, largest_buffers, largest_that_fits
from launchers.compilation.tables import describe


def figures_of(batch, fits):
    return Figures(
        program="sft", topology="v5e:4x4", num_slices=1, mesh={"fsdp": 16}, copies=1, batch=batch,
        unit="rows", fits=fits, memory={"parameters": 1e9}, hbm_bytes=16e9,
    )  # fmt: skip


@pytest.fixture
def search(monkeypatch):
    """Looks for the largest batch where so many fit; gives it and those that were compiled."""

    def run(start, multiple, most):
        tried = []

        def compile_program(program, slices):
            tried.append(program.batch)
            return figures_of(program.batch, program.batch <= most)

        def plan(batch):
            return types.SimpleNamespace(batch=batch or start, multiple=multiple)

        monkeypatch.setattr(figures, "compile_program", compile_program)
        found = largest_that_fits(plan, None, lambda one: None)
        assert len(set(tried)) == len(tried)  # none is compiled twice
        return found, tried

    return run


@pytest.mark.parametrize(
    ("start", "multiple", "most", "expected", "tried"),
    [
        (16, 16, 100, 96, [16, 32, 64, 128, 96, 112]),
        (64, 16, 40, 32, [64, 32, 48]),
        (1024, 0, 5000, 4096, [1024, 2048, 4096, 8192]),  # powers of two
    ],
)
def test_batches_are_doubled_then_bisected(search, start, multiple, most, expected, tried):
    found, attempts = search(start, multiple, most)
    assert (found.batch, found.fits) == (expected, True)
    assert attempts == tried


def test_where_not_even_the_least_fits_it_says_so(search):
    found, attempts = search(64, 16, 0)
    assert (found.batch, found.fits) == (16, False)
    assert attempts == [64, 32, 16]


MESSAGE = """RESOURCE_EXHAUSTED: XLA:TPU compile permanent error. Ran out of memory in memory \
space hbm. Used 20.00G of 15.75G hbm. Exceeded hbm capacity by 4.25G.

  Largest program allocations in hbm:

  1. Size: 16.00G
     Operator: op_type="dot_general" op_name="jit(f)/mlp/dot_general" source_file="a.py"
     Shape: f32[65536,65536]{1,0:T(8,128)}
     Unpadded size: 16.00G
     XLA label: fusion.1 = fusion(param.1)
     Allocation type: HLO temp

  2. Size: 512.00M
     Shape: bf16[2,128]{1,0:T(8,128)(2,1)}
     Unpadded size: 512.00M
     XLA label: copy.1
     Allocation type: HLO temp
"""


def test_the_largest_buffers_are_named():
    assert largest_buffers(MESSAGE) == [
        (16 * 2**30, "jit(f)/mlp/dot_general f32[65536,65536]"),
        (512 * 2**20, "HLO temp bf16[2,128]"),
    ]
    assert figures._reason(MESSAGE) == "needs 20.00GiB of the 15.75GiB of HBM"
    text = describe(
        dataclasses.replace(
            figures_of(16, False), reason="too large", largest=largest_buffers(MESSAGE)
        )
    )
    assert "does not fit: too large" in text
    assert "17.18 GB  jit(f)/mlp/dot_general f32[65536,65536]" in text
