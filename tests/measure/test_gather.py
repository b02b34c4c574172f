"""Thousands of small leaves: gathered, and measured as they would be one by one."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import clipax
from clipax import scopes
from clipax.measure import _gather, measure
from clipax.measure._gather import assume_devices, gather, lay_out
from clipax.measure._leaves import name_leaves

LEAVES = 300


def tree(size: float, dtype: Any = jnp.float32) -> dict[str, jax.Array]:
    """Small leaves of four shapes, and a large one."""
    rng = np.random.default_rng(0)
    shapes = [(3, 4), (7,), (), (2, 0)]
    leaves = {
        f"small_{i:03d}": rng.standard_normal(shapes[i % 4], np.float32) for i in range(LEAVES)
    }
    leaves["large"] = rng.standard_normal((_gather.LARGEST + 1,), np.float32)
    return {name: jnp.asarray(np.asarray(leaf) * size, dtype) for name, leaf in leaves.items()}


def exact(leaves: Any) -> float:
    return float(np.sqrt(sum(np.sum(np.square(np.float64(x))) for x in jax.tree.leaves(leaves))))


def number_of_pieces(leaves: Any, scope: Any = scopes.GLOBAL) -> int:
    named, _ = name_leaves(leaves, scopes.resolve(scope))
    return len(gather(*lay_out(named, None, None), jnp.float32)[0])


@pytest.mark.parametrize(
    ("size", "dtype"), [(1.0, jnp.float32), (1e30, jnp.float32), (1.0, jnp.bfloat16)]
)
def test_the_norm_of_many_small_leaves(size: float, dtype: Any) -> None:
    leaves = tree(size, dtype)
    np.testing.assert_allclose(jax.jit(clipax.global_norm)(leaves), exact(leaves), rtol=3e-7)


def test_one_nan_among_many_small_leaves() -> None:
    leaves = tree(1.0) | {"small_001": jnp.full(7, jnp.nan)}
    assert np.isnan(clipax.global_norm(leaves))


@pytest.mark.parametrize("size", [1.0, 1e30])
def test_the_derivative_of_the_norm_of_many_small_leaves(size: float) -> None:
    leaves = tree(size)
    found = jax.jit(jax.grad(clipax.global_norm))(leaves)
    for name, leaf in leaves.items():
        np.testing.assert_allclose(found[name], leaf / exact(leaves), rtol=1e-5, atol=1e-10)


def test_norms_of_many_small_leaves_in_a_batch() -> None:
    leaves = tree(1e30)
    batch = jax.tree.map(lambda leaf: jnp.stack([leaf, 2 * leaf]), leaves)
    np.testing.assert_allclose(
        jax.vmap(clipax.global_norm)(batch), [exact(leaves), 2 * exact(leaves)], rtol=1e-6
    )


def test_small_leaves_are_gathered_where_they_share_a_norm() -> None:
    leaves = tree(1.0)
    many = -(-LEAVES // _gather.AT_ONCE)
    assert number_of_pieces(leaves) == many + 1
    assert number_of_pieces(leaves, "leaf") == LEAVES + 1
    few = {name: leaves[name] for name in list(leaves)[: _gather.FEWEST - 1]}
    assert number_of_pieces(few) == len(few)
    mixed = leaves | {name: leaf.astype(jnp.float16) for name, leaf in few.items()}
    assert number_of_pieces(mixed) == many + 1
    others = leaves | {name: leaf.astype(jnp.complex64) for name, leaf in few.items()}
    assert number_of_pieces(others) == -(-(LEAVES - len(few)) // _gather.AT_ONCE) + len(few) + 1


def test_arrays_with_explicit_axes_stay_on_one_device_too() -> None:
    mesh = jax.make_mesh((1,), ("data",), axis_types=(AxisType.Explicit,))
    specs = [PartitionSpec("data"), PartitionSpec()]
    leaves = [
        jax.device_put(jnp.full(4, 1e30), NamedSharding(mesh, specs[i % 2])) for i in range(LEAVES)
    ]
    with jax.set_mesh(mesh):
        np.testing.assert_allclose(jax.jit(clipax.global_norm)(leaves), exact(leaves), rtol=3e-7)
    assert number_of_pieces(leaves) == LEAVES


def test_leaves_that_may_be_sharded_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    leaves = tree(1.0)
    mesh = jax.make_mesh((2,), ("data",), axis_types=(AxisType.Auto,))
    placed = jax.device_put(leaves, NamedSharding(mesh, PartitionSpec()))
    assert number_of_pieces(placed) == len(leaves)
    with assume_devices(2):
        assert number_of_pieces(leaves) == len(leaves)


def test_leaves_of_one_shard_are_gathered_inside_shard_map() -> None:
    leaves = tree(1e30)
    mesh = jax.make_mesh((2,), ("data",), axis_types=(AxisType.Auto,))
    counts = []

    def norm(inside: Any) -> jax.Array:
        named, _ = name_leaves(inside, scopes.resolve(scopes.GLOBAL))
        counts.append(len(gather(*lay_out(named, "data", None), jnp.float32)[0]))
        return clipax.global_norm(inside, axis_name="data")

    replicated = PartitionSpec()
    mapped = jax.shard_map(norm, mesh=mesh, in_specs=replicated, out_specs=replicated)
    np.testing.assert_allclose(jax.jit(mapped)(leaves), exact(leaves), rtol=3e-7)
    assert counts == [-(-LEAVES // _gather.AT_ONCE) + 1]


LARGE = 8 * _gather.LARGEST


def test_a_large_leaf_after_an_overflow() -> None:
    leaf = tree(1e30)["large"]
    large = jnp.tile(leaf, -(-LARGE // leaf.size))
    norm = jax.jit(clipax.global_norm)
    np.testing.assert_allclose(norm(large), exact(large), rtol=3e-7)
    gradient = jax.jit(jax.grad(clipax.global_norm))(large)
    np.testing.assert_allclose(gradient, large / exact(large), rtol=1e-6, atol=1e-10)
    _, second = jax.jvp(jax.grad(clipax.global_norm), (large,), (large,))
    # The norm is homogeneous: its gradient does not change along the leaf itself.
    np.testing.assert_allclose(second, 0, atol=1e-6)
    batch = jax.vmap(clipax.global_norm)(jnp.stack([large, large / 4]))
    np.testing.assert_allclose(batch, [exact(large), exact(large) / 4], rtol=3e-7)
    both = jnp.array([1.0, 1j], jnp.complex64)[:, None] * large
    np.testing.assert_allclose(norm(both), exact(large) * 2**0.5, rtol=3e-7)
    for bad in (jnp.inf, jnp.nan):
        assert not np.isfinite(norm(large.at[7].set(bad)))


def test_a_large_leaf_of_units_after_an_overflow() -> None:
    rng = np.random.default_rng(1)
    kernel = jnp.asarray(rng.standard_normal((LARGE // 2, 4), np.float32) * 1e30)

    @jax.jit
    def norms(kernel: jax.Array) -> jax.Array:
        named, _ = name_leaves({"kernel": kernel}, scopes.resolve("unit"))
        return measure(named, jnp.float32).norms["kernel"]

    np.testing.assert_allclose(norms(kernel), [exact(row) for row in kernel.T], rtol=3e-7)


def test_a_large_leaf_after_an_overflow_inside_shard_map() -> None:
    large = jnp.tile(tree(1e30)["large"], 16)
    mesh = jax.make_mesh((2,), ("data",), axis_types=(AxisType.Auto,))
    mapped = jax.shard_map(
        lambda part: clipax.global_norm(part, axis_name="data"),
        mesh=mesh,
        in_specs=PartitionSpec("data"),
        out_specs=PartitionSpec(),
    )
    even = large[: large.size // 2 * 2]
    np.testing.assert_allclose(jax.jit(mapped)(even), exact(even), rtol=3e-7)
