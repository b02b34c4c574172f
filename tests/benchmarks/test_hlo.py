"""The reader of compiled programs, against programs whose counts are known."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import optax
import pytest

from benchmarks.harness import hlo, targets
from tests.counts.programs import SLACK, TREES, compiled, counts

SGD, ADAM, CLIP = optax.sgd(0.1), optax.adam(0.1), optax.clip_by_global_norm(1.0)
N = 1 << 20

# What optax's steps are known to move; `P` is the tree's size.
KNOWN = {
    "sgd": (SGD, "f32", 3, 0),
    "adam": (ADAM, "f32", 10, 0),
    "clip, sgd": (optax.chain(CLIP, SGD), "f32", 4, 0),
    "clip, adam": (optax.chain(CLIP, ADAM), "f32", 15, 1),
    "bf16 clip, sgd": (optax.chain(CLIP, SGD), "bf16", 8, 2),
}


@pytest.mark.parametrize("name", KNOWN)
@pytest.mark.parametrize("tree", TREES)
def test_known_programs(name: str, tree: str) -> None:
    optimizer, dtype, traffic, temporaries = KNOWN[name]
    found = counts(optimizer, tree, dtype)
    assert found.traffic == pytest.approx(traffic, abs=SLACK)
    assert found.temporaries == pytest.approx(temporaries, abs=SLACK)
    assert found.conditionals == 0


def test_agrees_with_xla_where_nothing_is_conditional() -> None:
    program = compiled(optax.chain(CLIP, ADAM), "shallow", "f32")
    theirs = program.cost_analysis()["bytes accessed"]
    assert hlo.count(program).bytes_accessed == pytest.approx(theirs, rel=1e-3)


def test_reductions_are_counted() -> None:
    params = {name: jnp.ones((64, 64)) for name in "abc"}

    def step(params: Any) -> Any:
        norm = jnp.sqrt(sum(jnp.sum(jnp.square(leaf)) for leaf in params.values()))
        return jax.tree.map(lambda leaf: leaf * norm, params)

    program = jax.jit(step).lower(params).compile()
    assert hlo.count(program, large=64 * 64).reductions == 3
    assert hlo.count(program, large=64 * 64 + 1).reductions == 0


def test_branches_are_left_out() -> None:
    def step(x: jax.Array, rare: jax.Array) -> jax.Array:
        factor = jax.lax.cond(rare, lambda: jnp.sum(jnp.sin(x)), lambda: 1.0)
        return x * factor

    compiled_step = jax.jit(step).lower(jnp.ones(N), True).compile()
    found = hlo.count(compiled_step)
    assert found.bytes_accessed == pytest.approx(2 * 4 * N, rel=1e-3)  # read and written once
    assert (found.conditionals, found.reductions) == (1, 0)
    assert compiled_step.cost_analysis()["bytes accessed"] > 2.9 * 4 * N


def test_slots_of_a_buffer_count_as_slots() -> None:
    def step(ring: jax.Array, new: jax.Array, place: jax.Array) -> tuple[jax.Array, jax.Array]:
        ring = jax.lax.dynamic_update_index_in_dim(ring, new, place, 0)
        return ring, jax.lax.dynamic_index_in_dim(ring, (place + 1) % 8, 0, keepdims=False) * 2

    arguments = jnp.zeros((8, N)), jnp.ones(N), jnp.int32(3)
    program = jax.jit(step, donate_argnums=0).lower(*arguments).compile()
    # The new slot and the old one, each read and written.
    assert hlo.count(program).bytes_accessed == pytest.approx(4 * 4 * N, rel=1e-3)


def test_collectives_are_counted_once_whatever_they_carry() -> None:
    mesh = jax.make_mesh((4,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    sharding = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data"))
    params = {name: jax.device_put(jnp.ones(64), sharding) for name in "ab"}
    program = jax.jit(lambda tree: jax.tree.map(jnp.sum, tree)).lower(params).compile()
    assert hlo.count(program).collectives == 1


@pytest.mark.parametrize(
    ("shape", "size"),
    [
        ("f32[]", 4),
        ("f32[8,4]{1,0}", 128),
        ("bf16[3]{0:T(256)(2,1)}", 6),
        ("pred[5]", 5),
        ("s4[3]", 2),
        ("c64[2]", 16),
        ("f8e4m3fn[10]", 10),
        ("f32[0,4]", 0),
        ("(f32[2], (s32[], bf16[4]{0}))", 20),
        ("token[]", 0),
    ],
)
def test_shape_bytes(shape: str, size: int) -> None:
    assert hlo.shape_bytes(shape) == size


# Written by hand: operands with shapes, a call, a loop, an asynchronous collective, a comment.
TEXT = """HloModule test

%add (a: f32[], b: f32[]) -> f32[] {
  %a = f32[] parameter(0)
  %b = f32[] parameter(1)
  ROOT %sum = f32[] add(f32[] %a, f32[] %b)
}

%inner (p: f32[100]) -> f32[] {
  %p = f32[100]{0} parameter(0)
  %zero = f32[] constant(0)
  ROOT %total = f32[] reduce(f32[100]{0} %p, f32[] %zero), dimensions={0}, to_apply=%add
}

%body (s: (s32[], f32[100])) -> (s32[], f32[100]) {
  %s = (s32[], f32[100]{0}) parameter(0)
  %i = s32[] get-tuple-element(%s), index=0
  %v = f32[100]{0} get-tuple-element(%s), index=1
  %twice = f32[100]{0} add(%v, %v)
  ROOT %out = (s32[], f32[100]{0}) tuple(%i, %twice)
}

%again (s: (s32[], f32[100])) -> pred[] {
  %s = (s32[], f32[100]{0}) parameter(0)
  ROOT %never = pred[] constant(false)
}

ENTRY %main (x: f32[100], n: s32[]) -> (f32[], f32[100]) {
  %x = f32[100]{0} parameter(0), metadata={op_name="x[\\'a\\']"}
  %n = s32[] parameter(1)
  %call = f32[] call(f32[100]{0} %x), to_apply=%inner
  %start = f32[] all-reduce-start(%call), to_apply=%add
  %done = f32[] all-reduce-done(%start)
  %t = (s32[], /*index=1*/f32[100]{0}) tuple(%n, %x)
  %loop = (s32[], f32[100]{0}) while(%t), condition=%again, body=%body
  %v = f32[100]{0} get-tuple-element(%loop), index=1
  ROOT %result = (f32[], f32[100]{0}) tuple(%done, %v)
}
"""


class _Compiled:
    def as_text(self) -> str:
        return TEXT

    def memory_analysis(self) -> Any:
        return type("Analysis", (), {"temp_size_in_bytes": 7})


def test_calls_loops_and_asynchronous_pairs() -> None:
    found = hlo.count(_Compiled())
    call = 100 * 4 + 4 + 4  # operand, initial value, result
    collective = 4 + 4
    loop = 2 * 100 * 4  # one trip; the operand that is used twice is read once
    assert found.bytes_accessed == call + collective + loop
    assert (found.reductions, found.collectives, found.temporaries) == (1, 1, 7)


def test_text_without_an_entry_is_refused() -> None:
    with pytest.raises(ValueError, match="no entry"):
        hlo.parse("HloModule empty\n")


def test_what_temporaries_hold_is_counted_without_gaps_and_once() -> None:
    assignment = """BufferAssignment:
allocation 0: size 4096, parameter 0, shape |f32[1024]| at ShapeIndex {}:
 value: <0 param @0> (size=4096,offset=0): f32[1024]{0}
allocation 1: size 65536, color 1, page 0, preallocated-temp:
 value: <1 in_vmem @0> (size=65536,offset=0): f32[16384]{0:S(1)}
allocation 2: size 49152, page 0, preallocated-temp:
 value: <2 scalar @0> (size=512,offset=16384): f32[]
 value: <3 vector @0> (size=2048,offset=0): f32[512]{0}
 value: <4 later @0> (size=4096,offset=0): f32[1024]{0}
 value: <5 inside @0> (size=512,offset=1024): f32[]
 value: <6 across{1} @0> (size=4096,offset=2048): f32[1024]{0}
"""
    assert targets.count_held(assignment) == 512 + 4096 + 2048
