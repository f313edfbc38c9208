"""FLOPs, bytes and collectives read from compiled text, against sums done by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from launchers.compilation.hlo_cost import _valid, read_cost
from launchers.compilation.hlo_loops import find_loops
from launchers.compilation.hlo_text import parse

N = 64


def cost_of(function, *shapes, **options):
    arrays = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
    return read_cost(jax.jit(function, **options).lower(*arrays).compile().as_text())


def test_a_scan_of_products_costs_as_often_as_it_turns():
    def chain(x, weights):
        return jax.lax.scan(lambda x, w: (x @ w, None), x, weights)[0]

    cost = cost_of(chain, (N, N), (7, N, N))
    assert cost.flops == 7 * 2 * N**3
    assert cost.open_loops == 0


def test_nested_scans_multiply():
    def nested(x, weights):
        def outer(x, w):
            return jax.lax.fori_loop(0, 5, lambda _, x: jnp.tanh(x @ w), x), None

        return jax.lax.scan(outer, x, weights)[0] @ x

    assert cost_of(nested, (N, N), (3, N, N)).flops == (3 * 5 + 1) * 2 * N**3


def test_a_loop_that_ends_by_data_counts_at_what_it_walks_over():
    def some(x, weights, count):
        return jax.lax.fori_loop(0, count.astype(int)[0], lambda i, x: x @ weights[i], x)

    cost = cost_of(some, (N, N), (11, N, N), (1,))
    assert cost.flops == 11 * 2 * N**3
    assert cost.open_loops == 1


def test_batched_products_and_branches():
    batched = cost_of(lambda x, y: jnp.einsum("bij,bjk->bik", x, y), (3, 8, 16), (3, 16, 32))
    assert batched.flops == 3 * 2 * 8 * 16 * 32

    def either(x, y):
        return jax.lax.cond(x[0, 0] > 0, lambda: x @ y, lambda: x)

    assert cost_of(either, (N, N), (N, N)).flops == 2 * N**3  # the dearer branch


def test_of_a_stack_only_the_slice_is_read():
    stack = (100, N, N)

    def one(weights, x):
        return jax.lax.dynamic_index_in_dim(weights, x[0].astype(int), keepdims=False) * 2

    cost = cost_of(one, stack, (1,))
    assert cost.hbm_bytes < 6 * 4 * N * N < 4 * np.prod(stack)


def test_an_update_in_place_writes_what_is_new():
    def put(cache, x):
        return jax.lax.dynamic_update_slice(cache, x, (3, 0))

    cost = cost_of(put, (1000, N), (1, N), donate_argnums=0)
    assert cost.hbm_bytes < 4 * 4 * N


TPU = """HloModule test

%inside (p0: bf16[8,128], p1: bf16[64,128]) -> (bf16[8,64], bf16[8,512]) {
  %p0 = bf16[8,128]{1,0} parameter(0)
  %p1 = bf16[64,128]{1,0} parameter(1)
  %product = bf16[8,64]{1,0} convolution(%p0, %p1), dim_labels=bf_oi->bf
  %gathered = bf16[8,512]{1,0} all-gather(%p0), channel_id=9, replica_groups=[2,4]<=[8]
  ROOT %both = (bf16[8,64]{1,0}, bf16[8,512]{1,0}) tuple(%product, %gathered)
}

%body (state: (s32[], bf16[8,128], bf16[64,128])) -> (s32[], bf16[8,128], bf16[64,128]) {
  %state = (s32[], bf16[8,128]{1,0}, bf16[64,128]{1,0}) parameter(0)
  %i = s32[] get-tuple-element(%state), index=0
  %x = bf16[8,128]{1,0} get-tuple-element(%state), index=1
  %w = bf16[64,128]{1,0:T(8,128)(2,1)S(1)} get-tuple-element(%state), index=2
  %step.1 = (bf16[8,64]{1,0}, bf16[8,512]{1,0:S(1)}) fusion(%x, %w), kind=kOutput, calls=%inside
  %step.2 = (bf16[8,64]{1,0}, bf16[8,512]{1,0:S(1)}) fusion(%x, %w), kind=kOutput, calls=%inside
  %sum = bf16[8,128]{1,0} all-reduce(%x), channel_id=1, replica_groups={{0,1},{2,3}}, to_apply=%add
  %two = s32[] constant(2)
  %next = s32[] add(%i, %two)
  ROOT %out = (s32[], bf16[8,128]{1,0}, bf16[64,128]{1,0}) tuple(%next, %sum, %w)
}

%condition (state: (s32[], bf16[8,128], bf16[64,128])) -> pred[] {
  %state = (s32[], bf16[8,128]{1,0}, bf16[64,128]{1,0}) parameter(0)
  %i = s32[] get-tuple-element(%state), index=0
  %most = s32[] constant(10)
  ROOT %less = pred[] compare(%i, %most), direction=LT
}

ENTRY %main (x: bf16[8,128], w: bf16[64,128]) -> bf16[8,128] {
  %x = bf16[8,128]{1,0} parameter(0)
  %w = bf16[64,128]{1,0} parameter(1)
  %zero = s32[] constant(0)
  %start = (s32[], bf16[8,128]{1,0}, bf16[64,128]{1,0}) tuple(%zero, %x, %w)
  %loop = (s32[], bf16[8,128]{1,0}, bf16[64,128]{1,0}) while(%start), CALLS
  %kernel = f32[8,128]{1,0} custom-call(%x), custom_call_target="tpu_custom_call", ESTIMATE
  ROOT %y = bf16[8,128]{1,0} get-tuple-element(%loop), index=1
}
"""
TPU = TPU.replace("CALLS", "condition=%condition, body=%body")
ESTIMATE = 'backend_config={"cost_estimate":{"flops":"1000","bytes_accessed":"77"}}'
TPU = TPU.replace("ESTIMATE", ESTIMATE)


def test_the_text_of_a_tpu_program():
    assert find_loops(parse(TPU))["loop"] == (5, True)
    cost = read_cost(TPU)
    x, product = 8 * 128 * 2, 8 * 64 * 2
    assert cost.flops == 5 * 2 * (2 * 8 * 64 * 128) + 1000
    assert cost.silent_kernels == 0
    assert read_cost(TPU.replace(ESTIMATE, "b=1")).silent_kernels == 1
    # Two fusions carry one all-gather, by its channel; what lies in S(1) is not in HBM.
    counts = {(c.kind, c.bytes): n for c, n in cost.collectives.items()}
    assert counts == {("all-gather", x): 5, ("all-reduce", x): 5}
    gathered = x + 4 * x
    turn = 2 * (x + product) + gathered + 2 * x
    small = 3 * 4  # the counter: two read, one written
    assert cost.hbm_bytes == 5 * (turn + small) + 77


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"size": 8, "out": 8, "taps": 1}, 8),
        ({"size": 8, "out": 8, "taps": 3, "pad": 1}, 22),
        # A batch of 4 as a dimension: one pair of numbers for each.
        ({"size": 4, "out": 4, "taps": 4, "stride": 3, "lhs_dilate": 4}, 4),
    ],
)
def test_a_convolution_counts_what_is_not_padding(options, expected):
    assert _valid(**options) == expected
