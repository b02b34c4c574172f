"""Sums of as many entries as users have, in the ordinary range and beyond it."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import clipax
from clipax import _platforms, scopes
from clipax.measure import measure, name_leaves

OPTIMISED = True
ENTRIES = 30_000_000
BOUND = 4 * float(jnp.finfo(jnp.float32).eps)
SIZES = [1e-30, 1.0, 1.5e20]


# On a TPU up to where squares vanish, and on both sides of where the first sum overflows.
@pytest.mark.parametrize(
    ("platform", "size"),
    [
        *(("cpu", size) for size in SIZES),
        *(("tpu", size) for size in (1e-24, 1.0, 1.5e6, 1.6e6, 1.5e20)),
    ],
)
def test_a_leaf(platform, size):
    # XLA for CPU runs the reduction of the form for GPUs as one chain of additions.
    with _platforms.assume_platform(platform):
        norm = jax.jit(clipax.global_norm)(jnp.full((ENTRIES,), size))
    assert float(norm) / (float(np.float32(size)) * ENTRIES**0.5) == pytest.approx(1, abs=BOUND)


@pytest.mark.parametrize("size", [1e-30, 1.5e20])
@pytest.mark.parametrize("scope", ["unit", "rows"])
def test_units(size, scope):
    columns = 4
    shape = (ENTRIES // columns, columns)
    if scope == "rows":
        scope, shape = scopes.stacked(0), shape[::-1]
    leaves, _ = name_leaves({"kernel": jnp.full(shape, size)}, scopes.resolve(scope))
    norms = jax.jit(lambda: measure(leaves, jnp.float32).norms)()
    expected = float(np.float32(size)) * (ENTRIES // columns) ** 0.5
    (norm,) = (np.asarray(norm, np.float64) for norm in norms.values())
    assert norm.shape == (columns,)
    np.testing.assert_allclose(norm / expected, 1, atol=BOUND, rtol=0)


@pytest.mark.parametrize("size", [1e-30, 1.5e20])
def test_many_leaves_of_different_sizes(size):
    tree = [jnp.full((length,), size) for length in (100, 5_000, 20_000, 3_000_000) * 5]
    norm = jax.jit(clipax.global_norm)(tree)
    entries = sum(leaf.size for leaf in tree)
    assert float(norm) / (float(np.float32(size)) * entries**0.5) == pytest.approx(1, abs=BOUND)


@pytest.mark.parametrize("size", SIZES)
def test_a_clip_of_a_large_leaf_keeps_its_bound(size):
    gradient = jnp.full((ENTRIES,), size)
    clip = clipax.clip_by_global_norm(size)
    update = np.asarray(jax.jit(clip.update)(gradient, clip.init(gradient))[0])
    length = np.sqrt(np.sum(np.square(update, dtype=np.float64)))
    assert length <= float(np.float32(size)) * (1 + BOUND)
