"""What is read from the text of a program for a GPU: its kernels, their traffic and arithmetic."""

import pytest

from vlmo_jax.bench.kernels import (
    ATTENTION,
    BY_ELEMENT,
    MOVES,
    PRODUCTS,
    SUMS,
    read_kernels,
    seconds_by_kind,
)
from vlmo_jax.bench.roofline import Chip

# Ten values a second of arithmetic, two bytes a second of memory.
CHIP = Chip(flops=10.0, memory=0.0, bandwidth=2.0, links=1.0)

PROGRAM = """HloModule jit_step

%sum (a: f32[], b: f32[]) -> f32[] {
  %a = f32[] parameter(0)
  %b = f32[] parameter(1)
  ROOT %add.0 = f32[] add(%a, %b)
}

%half (p.0: bf16[8,6], p.1: bf16[8,6]) -> bf16[8,2] {
  %p.0 = bf16[8,6]{1,0} parameter(0)
  %p.1 = bf16[8,6]{1,0} parameter(1)
  %add.1 = bf16[8,6]{1,0} add(%p.0, %p.1)
  ROOT %slice.1 = bf16[8,2]{1,0} slice(%add.1), slice={[0:8], [0:2]}
}

%rows (p.2: f32[8,6]) -> f32[8] {
  %p.2 = f32[8,6]{1,0} parameter(0)
  %zero = f32[] constant(0)
  ROOT %reduce.1 = f32[8]{0} reduce(%p.2, %zero), dimensions={1}, to_apply=%sum
}

%keep (p.3: f32[5,8,6], p.4: f32[8,6], p.5: s32[]) -> f32[5,8,6] {
  %p.3 = f32[5,8,6]{2,1,0} parameter(0)
  %p.4 = f32[8,6]{1,0} parameter(1)
  %p.5 = s32[] parameter(2)
  %part = f32[1,8,6]{2,1,0} bitcast(%p.4)
  ROOT %put = f32[5,8,6]{2,1,0} dynamic-update-slice(%p.3, %part, %p.5, %p.5, %p.5)
}

%product (p.6: bf16[8,6], p.7: bf16[6,4]) -> bf16[8,4] {
  %p.6 = bf16[8,6]{1,0} parameter(0)
  %p.7 = bf16[6,4]{1,0} parameter(1)
  ROOT %dot.1 = bf16[8,4]{1,0} dot(%p.6, %p.7), lhs_contracting_dims={1}, rhs_contracting_dims={0}
}

%sliced (p.8: bf16[5,8,6], p.9: bf16[6,4]) -> (bf16[8,4], s8[64]) {
  %p.8 = bf16[5,8,6]{2,1,0} parameter(0)
  %p.9 = bf16[6,4]{1,0} parameter(1)
  %one = bf16[1,8,6]{2,1,0} slice(%p.8), slice={[2:3], [0:8], [0:6]}
  %flat = bf16[8,6]{1,0} bitcast(%one)
  ROOT %call.4 = (bf16[8,4]{1,0}, s8[64]{0}) custom-call(%flat, %p.9), \
custom_call_target="__cublas$lt", config={"lhs_contracting_dimensions":["1"]}
}

%body (s: (s32[], f32[8,6])) -> (s32[], f32[8,6]) {
  %f.2 = f32[8]{0} fusion(%x), kind=kInput, calls=%rows, metadata={op_name="jit(step)/norm"}
  %f.3 = f32[5,8,6]{2,1,0} fusion(%buffer, %x, %i), kind=kLoop, calls=%keep
  %start = f32[8]{0} all-reduce-start(%f.2), to_apply=%sum
  %done = f32[8]{0} all-reduce-done(%start)
}

%condition (s: (s32[], f32[8,6])) -> pred[] {
  %limit = s32[] constant(3)
}

ENTRY %main (x: bf16[8,6], w: bf16[6,4]) -> bf16[8,4] {
  %x.1 = bf16[8,6]{1,0} parameter(0)
  %w.1 = bf16[6,4]{1,0} parameter(1)
  %q = bf16[2,4,3,8]{3,2,1,0} parameter(2)
  %f.1 = bf16[8,2]{1,0} fusion(%x.1, %x.1), kind=kLoop, calls=%half
  %loop = (s32[], f32[8,6]{1,0}) while(%t), condition=%condition, body=%body
  %f.4 = bf16[8,4]{1,0} fusion(%x.1, %w.1), kind=kCustom, calls=%product
  %call.1 = (bf16[8,4]{1,0}, s8[64]{0}) custom-call(%x.1, %w.1), custom_call_target="__cublas$lt", \
backend_config={"dot_dimension_numbers":{"lhs_contracting_dimensions":["1"]}}
  %call.2 = (bf16[2,4,3,8]{3,2,1,0}, u8[0]{0}) custom-call(%q, %q, %q), custom_call_target="fmha"
  %call.3 = bf16[2,4,3,8]{3,2,1,0} custom-call(%q, %q), custom_call_target="fmhaBackward"
  %stack = bf16[5,8,6]{2,1,0} parameter(3)
  %f.5 = (bf16[8,4]{1,0}, s8[64]{0}) fusion(%stack, %w.1), kind=kCustom, calls=%sliced
  ROOT %copied = bf16[8,4]{0,1} copy(%f.4)
}
"""


@pytest.fixture(scope="module")
def kernels():
    return read_kernels(PROGRAM)


def only(kernels, kind):
    (found,) = (kernel for kernel in kernels if kernel.kind == kind)
    return found


def test_a_fusion_that_cuts_reads_the_piece(kernels):
    kernel = only(kernels, BY_ELEMENT)
    assert (kernel.read, kernel.written, kernel.runs) == (2 * 8 * 2 * 2, 8 * 2 * 2, 1)


def test_what_lies_in_a_loop_runs_as_often_as_the_loop(kernels):
    kernel = only(kernels, SUMS)
    assert (kernel.read, kernel.written, kernel.runs) == (8 * 6 * 4, 8 * 4, 3)
    assert kernel.source == "jit(step)/norm" and kernel.shapes == "f32[8]"


def test_a_buffer_changed_in_place_is_neither_read_nor_written_whole(kernels):
    kernel = next(kernel for kernel in kernels if kernel.shapes == "f32[5,8,6]")
    assert kernel.kind == MOVES and kernel.runs == 3
    assert kernel.written == 8 * 6 * 4 and kernel.read <= 8 * 6 * 4 + 4


def test_products_of_libraries_and_of_xla_count_alike(kernels):
    products = [kernel for kernel in kernels if kernel.kind == PRODUCTS]
    assert len(products) == 3  # by XLA, by a library, and by one of a part of a stack
    for kernel in products:
        assert kernel.flops == 2 * 8 * 6 * 4
        assert kernel.read == (8 * 6 + 6 * 4) * 2
        assert kernel.written == 8 * 4 * 2, "the room that it works in is not counted"


def test_attention_has_two_products_forward_and_five_backward(kernels):
    forward, backward = (kernel for kernel in kernels if kernel.kind == ATTENTION)
    one = 2 * 2 * 3 * 4 * 4 * 8  # rows, heads, queries, keys, width of heads
    assert (forward.flops, backward.flops) == (2 * one, 5 * one)


def test_kernels_take_turns(kernels):
    totals = seconds_by_kind(kernels, CHIP)
    assert sum(seconds for seconds, _, _ in totals.values()) == pytest.approx(
        sum(kernel.seconds(CHIP) for kernel in kernels)
    )
    seconds, runs, size = totals[SUMS]
    assert runs == 3 and size == 3 * (8 * 6 + 8) * 4 and seconds == size / CHIP.bandwidth
    assert list(totals) == sorted(totals, key=lambda kind: -totals[kind][0])


def test_what_only_waits_is_no_kernel(kernels):
    assert sum(kernel.shapes == "f32[8]" for kernel in kernels) == 2  # the sums, and their start


def test_what_calls_and_branches_lead_to_runs_in_turn_as_well():
    branching = """
%one (p: f32[4]) -> f32[4] {
  ROOT %copied.1 = f32[4]{0} copy(%p)
}

%other (p: f32[8]) -> f32[8] {
  ROOT %copied.2 = f32[8]{0} copy(%p)
}

%called (p: f32[2]) -> f32[2] {
  ROOT %copied.3 = f32[2]{0} copy(%p)
}

ENTRY %main (x: f32[4]) -> f32[4] {
  %chosen = f32[4]{0} conditional(%i, %x, %x), branch_computations={%one, %other}
  ROOT %done = f32[2]{0} call(%x), to_apply=%called
}
"""
    assert {kernel.shapes for kernel in read_kernels(branching)} == {"f32[4]", "f32[8]", "f32[2]"}
