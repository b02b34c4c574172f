"""Collectives of a transformer's clip: their number, and how many scalars they carry."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

import clipax
from benchmarks import hlo, trees
from clipax import norms
from tests.mesh import every_method as every

SCALE = 1 / 256  # all axes are multiples of 8
AXES = ("data", "model")
LAYOUTS: dict[str, Callable[[int], P]] = {
    "fsdp": lambda ndim: P(AXES),
    "tensor": lambda ndim: P(None, "model") if ndim > 1 else P(),
    "mixed": lambda ndim: P("data", "model") if ndim > 1 else P("model"),
}


@functools.cache
def _gradients(name: str = "transformer") -> Any:
    return trees.gradients(name, jnp.float32, scale=SCALE)


def _norm(tree: Any) -> float:
    """In float64, of the whole tree."""
    return np.sqrt(sum(np.sum(np.square(np.float64(leaf))) for leaf in jax.tree.leaves(tree)))


def _specs(tree: Any, layout: str) -> Any:
    return jax.tree.map(lambda leaf: LAYOUTS[layout](leaf.ndim), tree)


def _scalars(compiled: Any) -> int:
    """Entries that the all-reduces of the entry computation sum up."""
    computations, entry = hlo.parse(compiled.as_text())
    reduces = [one for one in computations[entry].values() if one.opcode == "all-reduce"]
    return sum(hlo.shape_bytes(one.shape) for one in reduces) // 4


@pytest.mark.parametrize("layout", LAYOUTS)
def test_one_scalar_in_shard_map_for_150_leaves(layout: str) -> None:
    tree = _gradients()
    assert len(jax.tree.leaves(tree)) == 148
    mapped = jax.shard_map(
        lambda tree: clipax.global_norm(tree, axis_name=AXES),
        mesh=every.mesh(),
        in_specs=(_specs(tree, layout),),
        out_specs=P(),
    )
    program = jax.jit(mapped).lower(tree).compile(every.QUICK)
    assert hlo.count(program).collectives == _scalars(program) == 1
    np.testing.assert_allclose(program(tree), _norm(tree), rtol=1e-6)


def _chain(axis_name: Any) -> optax.GradientTransformationExtraArgs:
    """Three decisions on one measurement."""
    decisions = norms.chain(norms.clip(1.0), norms.smooth(0.5), norms.adagrad_norm(0.5))
    return clipax.scale_by_norm(decisions, axis_name=axis_name)


def test_chained_methods_share_the_sum_in_shard_map() -> None:
    tree = _gradients("shallow")
    tx = _chain(AXES)
    specs = _specs(tree, "mixed")
    mapped = jax.shard_map(
        lambda g: tx.update(g, tx.init(g))[0],
        mesh=every.mesh(),
        in_specs=(specs,),
        out_specs=specs,
    )
    program = jax.jit(mapped).lower(tree).compile(every.QUICK)
    assert hlo.count(program).collectives == _scalars(program) == 1


@pytest.mark.parametrize(
    ("name", "layout"), [("transformer", "fsdp"), ("shallow", "tensor"), ("shallow", "mixed")]
)
def test_at_most_one_all_reduce_for_each_mesh_axis_under_jit(name: str, layout: str) -> None:
    tree, mesh = _gradients(name), every.mesh()
    tx = _chain(None)
    shardings = jax.tree.map(lambda spec: NamedSharding(mesh, spec), _specs(tree, layout))
    step = jax.jit(lambda g, state: tx.update(g, state), out_shardings=(shardings, None))
    placed = jax.device_put(tree, shardings)
    program = step.lower(placed, tx.init(tree)).compile(every.QUICK)
    assert 1 <= hlo.count(program).collectives <= len(AXES)
    _, state = program(placed, tx.init(tree))
    np.testing.assert_allclose(clipax.metrics(state)["grad_norm"], _norm(tree), rtol=1e-6)
