"""Collectives of a transformer's clip: their number, how many scalars they carry, and the norm."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks.harness import trees
from benchmarks.suites import collectives


@pytest.fixture
def one_device() -> None:
    """Nothing: here there are several."""


def _norm(tree: str) -> Any:
    """In float64, of the whole tree."""
    gradients = trees.gradients(tree, jnp.float32, scale=collectives.SCALE)
    return np.sqrt(sum(np.sum(np.square(np.float64(one))) for one in jax.tree.leaves(gradients)))


@pytest.mark.parametrize(
    ("tree", "leaves", "layout", "method"),
    [
        ("shallow", 40, "fsdp", "one clip"),
        ("shallow", 40, "tensor", "chain of three"),
        ("transformer", 148, "mixed", "one clip"),
    ],
)
def test_one_scalar_in_shard_map(tree: str, leaves: int, layout: str, method: str) -> None:
    count = collectives.count_step("shard_map", tree, layout, method)
    assert (count["leaves"], count["collectives"], count["scalars"]) == (leaves, 1, 1)
    np.testing.assert_allclose(count["norm"], _norm(tree), rtol=1e-6)


@pytest.mark.parametrize(
    ("tree", "layout", "axes"),
    [("transformer", "fsdp", 2), ("shallow", "mixed", 2)],
)
def test_at_most_one_all_reduce_for_each_mesh_axis_under_jit(
    tree: str, layout: str, axes: int
) -> None:
    count = collectives.count_step("jit", tree, layout, "chain of three")
    assert 1 <= count["collectives"] <= axes
    np.testing.assert_allclose(count["norm"], _norm(tree), rtol=1e-6)
