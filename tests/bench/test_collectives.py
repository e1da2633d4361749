"""What is read from the text of a compiled program: kinds, bytes, runs, and what a collective takes
and gives.
"""

import re

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from vlmo_jax.bench.collectives import bytes_by_axes, bytes_by_kind, read_collectives
from vlmo_jax.parallel import sharding


def test_collectives_in_loops_count_as_often_as_they_run():
    mesh = sharding.make_mesh({"data": 1, "fsdp": 8, "tensor": 1})
    split, whole = (
        NamedSharding(mesh, PartitionSpec(*axes)) for axes in ((None, "fsdp", None), ())
    )

    def layer(x, kernel):
        return jnp.tanh(x @ jax.lax.with_sharding_constraint(kernel, whole)), None

    def apply(kernels, x):
        return jax.lax.scan(layer, x, kernels)[0]

    shapes = (
        jax.ShapeDtypeStruct((5, 64, 64), jnp.float32, sharding=split),
        jax.ShapeDtypeStruct((2, 64), jnp.float32, sharding=whole),
    )
    with jax.set_mesh(mesh):
        text = jax.jit(apply, out_shardings=whole).lower(*shapes).compile().as_text()
    assert bytes_by_kind(read_collectives(text)) == {("all-gather", "f32"): 5 * 64 * 64 * 4}


TPU_PROGRAM = """HloModule jit_step

%add (a: f32[], b: f32[]) -> f32[] {
  %a = f32[] parameter(0)
}

%chained.1 (p: bf16[4,8]) -> bf16[32,8] {
  %all-gather.1 = bf16[32,8]{1,0:T(8,128)} all-gather(%p), channel_id=7, attributes={chain_id="1"}
}

%chained.2 (p: bf16[4,8]) -> bf16[32,8] {
  %all-gather.2 = bf16[32,8]{1,0:T(8,128)} all-gather(%p), channel_id=7, attributes={chain_id="1"}
}

%all-reduce-scatter.1 (p: f32[16,8]) -> f32[2,8] {
  %all-reduce.1 = f32[16,8]{1,0} all-reduce(%p), channel_id=9, to_apply=%add
}

%inner_body (p: (u32[], bf16[1,48])) -> (u32[], bf16[1,48]) {
  %send = (MOVED, MOVED, SYNC, SYNC) collective-permute-start(%x), channel_id=3, NAMED
  %done = bf16[1,48]{1,0} collective-permute-done(%send)
}

%inner_condition (p: (u32[], bf16[1,48])) -> pred[] {
  %limit = u32[]{:T(128)} constant(8)
}

%outer_body (p: (s32[], f32[4])) -> (s32[], f32[4]) {
  %while.2 = (u32[], bf16[1,48]{1,0}) while(%t), condition=%inner_condition, body=%inner_body
}

%outer_condition (p: (s32[], f32[4])) -> pred[] {
  %limit = s32[]{:T(128)} constant(3)
}

%unused (p: u8[4]) -> u8[32] {
  %all-gather.9 = u8[32]{0} all-gather(%p), channel_id=99
}

ENTRY %main (p: f32[4]) -> f32[4] {
  %while.1 = (s32[], f32[4]{0}) while(%t), condition=%outer_condition, body=%outer_body
  %f.1 = bf16[32,8]{1,0} fusion(%x), kind=kCustom, calls=%chained.1
  %f.2 = bf16[32,8]{1,0} fusion(%x), kind=kCustom, calls=%chained.2
  %f.3 = f32[2,8]{1,0} fusion(%x), kind=kCustom, calls=%all-reduce-scatter.1
  %reduce = (f32[5]{0}, pred[3]{0}) all-reduce(%x, %y), channel_id=10, to_apply=%add
}
"""
# Texts that would make the lines above too long.
LONG = {
    "MOVED": "bf16[1,48]{1,0:T(8,128)(2,1)}",
    "SYNC": "u32[]{:S(2)}",
    "NAMED": 'metadata={op_name="jit(step)/dot"}',
}
TPU_TEXT = re.sub("|".join(LONG), lambda match: LONG[match[0]], TPU_PROGRAM)


def test_collectives_of_a_tpu_program():
    collectives = read_collectives(TPU_TEXT)
    assert bytes_by_kind(collectives) == {
        ("collective-permute", "bf16"): (
            24 * 48 * 2
        ),  # two loops, one in the other; the result alone
        ("all-gather", "bf16"): 32 * 8 * 2,  # a chain of fusions is one
        ("reduce-scatter", "f32"): 16 * 8 * 4,
        ("all-reduce", "f32"): 5 * 4 + 3,
    }
    assert collectives[0].runs == 24 and collectives[0].source == "jit(step)/dot"


def test_loop_without_a_trip_count_is_not_guessed():
    with pytest.raises(ValueError, match="trip count"):
        read_collectives(TPU_TEXT.replace("constant(8)", "parameter(0)"))


def test_arrays_of_tuples_and_starts():
    """Operands are looked up where they are made, or read where the text gives their shapes."""
    text = """
ENTRY %main (p: f32[1,24,24,3]) -> s32[8] {
  %x.1 = f32[1,24,24,3]{3,2,1,0:T(8,128)} parameter(0)
  %a = (f32[1,24,24,3]{3,2,1,0}, f32[8,24,24,3]{3,2,1,0}) all-gather-start(%x.1), channel_id=1
  %a.done = f32[8,24,24,3]{3,2,1,0} all-gather-done(%a), to_apply=%x.1
  %b = (bf16[8]{0}, /*index=1*/f32[]) all-reduce(bf16[8]{0:T(8,128)(2,1)} %c, f32[] %d), x=y
  %s = f32[8]{0} reduce-scatter(%whole), replica_groups={{0,1}}
  %whole = f32[16]{0} copy(%y)
  ROOT %e = s32[8]{0} add(%f, %g)
}
"""
    arrays = {collective.kind: collective.arrays() for collective in read_collectives(text)}
    assert arrays == {
        "all-gather": [("f32", (8, 24, 24, 3)), ("f32", (1, 24, 24, 3))],
        "all-reduce": [("bf16", (8,)), ("f32", ()), ("bf16", (8,)), ("f32", ())],
        "reduce-scatter": [("f32", (8,)), ("f32", (16,))],
    }


MESH = {"data": 2, "fsdp": 2, "tensor": 2}
GROUPS = """
ENTRY %main (p: f32[4]) -> f32[8] {
  %a = f32[8]{0} all-reduce(f32[8]{0} %p), replica_groups={{0,4},{1,5},{2,6},{3,7}}, x=y
  %b = f32[8]{0} all-reduce(f32[8]{0} %p), replica_groups=[4,2]<=[2,2,2]T(0,2,1), x=z
  %c = bf16[16]{0} all-gather(bf16[4]{0} %p), replica_groups=[2,4]<=[2,2,2]T(2,0,1), x=y
  %d = s32[8]{0} collective-permute(s32[8]{0} %p), source_target_pairs={{0,2},{2,4},{4,6},{6,0}}
  %f = f16[8]{0} all-gather(f16[4]{0} %p), replica_groups=mesh['a'=4,'b'=2] {'a':(2)2}, x=y
  %g = f64[8]{0} all-gather(f64[2]{0} %p), replica_groups=mesh['a'=4,'b'=2] {'a'}, x=y
  ROOT %e = u8[8]{0} all-gather(u8[1]{0} %p), replica_groups={}, x=y
}
"""


def test_axes_of_the_mesh_that_collectives_go_along():
    found = bytes_by_axes(read_collectives(GROUPS), MESH)
    assert found == {
        ("all-reduce", "f32", ("data",)): (1, 32),
        ("all-reduce", "f32", ("fsdp",)): (1, 32),
        ("all-gather", "bf16", ("data", "fsdp")): (1, 32),
        ("collective-permute", "s32", ("data", "fsdp")): (1, 32),
        ("all-gather", "f16", ("fsdp",)): (1, 16),
        ("all-gather", "f64", ("data", "fsdp")): (1, 64),
        ("all-gather", "u8", ("data", "fsdp", "tensor")): (1, 8),
    }
    received = {c.kind + c.shapes[:2]: c.received(8) for c in read_collectives(GROUPS)}
    assert received == {
        "all-reducef3": 32,  # in a ring of two each chip receives half of it twice
        "all-gatherbf": 24,
        "collective-permutes3": 32,
        "all-gatherf1": 8,
        "all-gatherf6": 48,
        "all-gatheru8": 7,
    }
