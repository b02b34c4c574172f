"""Norms: exact, safe from overflow, differentiable, one read."""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import clipax
from clipax import _platforms, scopes
from clipax.measure import all_finite, measure
from clipax.measure._leaves import name_leaves


@pytest.fixture(autouse=True, params=["cpu", "gpu", "tpu"])
def platform(request):
    """Measure in the form of each platform."""
    with _platforms.assume_platform(request.param):
        yield request.param


def norms_of(tree, scope, dtype=jnp.float32):
    leaves, _ = name_leaves(tree, scopes.resolve(scope))
    return measure(leaves, dtype).norms


def skip_below_the_range(platform, size, least=1e-28):
    """Norms of few entries that accelerators do not measure: see `_scaled.py`."""
    if platform != "cpu" and size < least:
        pytest.skip("squares vanish at both scales")


@pytest.mark.parametrize(
    "size",
    [3e-38, 1e-33, 1e-26, 1e-24, 5e-20, 1e-18, 1e-12, 1e-9, 1.0, 1e9, 1e15, 1e19, 1e30, 6e37],
)
@pytest.mark.parametrize("compiled", [False, True])
def test_norm_is_exact_over_the_whole_range(size, compiled, platform):
    skip_below_the_range(platform, size)
    tree = {"a": jnp.array([3.0, 0.0]) * size, "b": jnp.array(4.0) * size, "zero": jnp.zeros(5)}
    norm = jax.jit(clipax.global_norm) if compiled else clipax.global_norm
    np.testing.assert_allclose(norm(tree), 5 * size, rtol=1e-6)


@pytest.mark.parametrize("size", [3e-38, 1e-26, 1e-18, 1.0, 1e19, 6e37])
def test_derivatives_over_the_whole_range(size, platform):
    skip_below_the_range(platform, size)
    tree = {"a": jnp.array([3.0, 0.0]) * size, "b": jnp.array(4.0) * size}
    gradient = jax.jit(jax.grad(clipax.global_norm))(tree)
    np.testing.assert_allclose(gradient["a"], [0.6, 0.0], rtol=1e-6)
    np.testing.assert_allclose(gradient["b"], 0.8, rtol=1e-6)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16, jnp.float32, jnp.complex64])
@pytest.mark.parametrize("scope", ["global", "leaf"])
def test_small_and_large_blocks_beside_zeros(scope, dtype):
    """Every block is in a range of its own, and none hides another."""
    sizes = {"tiny": 1e-16, "zero": 0.0, "one": 1.0, "huge": 1e28}
    if dtype == jnp.float16:
        sizes = {"tiny": 6e-8, "zero": 0.0, "huge": 6e4}
    tree = {name: jnp.full((64,), size, dtype) for name, size in sizes.items()}
    norms = norms_of(tree, scope)
    wide = {name: np.asarray(leaf).astype(np.complex128) for name, leaf in tree.items()}
    if scope == "leaf":
        for name, leaf in wide.items():
            np.testing.assert_allclose(norms[name], np.linalg.norm(leaf), rtol=1e-6)
    else:
        total = np.linalg.norm([np.linalg.norm(leaf) for leaf in wide.values()])
        np.testing.assert_allclose(norms["global"], total, rtol=1e-6)


@pytest.mark.parametrize("size", [1e-30, 1e-20, 1e-13, 3e8, 5e8, 1e9])
def test_squares_that_vanish_in_part_are_not_lost(size, platform):
    """Many entries whose squares vanish beside one whose square does not."""
    skip_below_the_range(platform, size)
    tree = jnp.full((400,), size).at[0].set(20 * size)
    np.testing.assert_allclose(clipax.global_norm(tree), np.sqrt(799) * size, rtol=1e-5)


def test_a_norm_below_the_range_is_zero_and_clips_nothing(platform):
    if platform == "cpu":
        pytest.skip("a CPU measures it")
    gradient = jnp.array([3e-33, 4e-33])
    assert clipax.global_norm(gradient) == 0
    assert jnp.isfinite(jax.grad(clipax.global_norm)(gradient)).all()
    clip, unit = clipax.clip_by_global_norm(1.0), clipax.normalize_by_global_norm(eps=1e-30)
    np.testing.assert_array_equal(clip.update(gradient, clip.init(gradient))[0], gradient)
    assert jnp.linalg.norm(unit.update(gradient, unit.init(gradient))[0]) <= 1


def test_units_below_the_range_of_squares(platform):
    kernel = jnp.array([[3e-20, 3e-18], [4e-20, 4e-18]])
    norms = norms_of({"kernel": kernel}, "unit")["kernel"]
    # A GPU keeps subnormal squares, a CPU that runs its program does not.
    if platform != "gpu":
        np.testing.assert_allclose(norms, [5e-20, 5e-18], rtol=1e-6)


def test_small_norms_in_double_precision(x64, platform):
    for size in (1e-280, 1e-200, 1e-160, 1e-154, 1e-100, 1.0, 1e14, 1e300, 3e-307):
        skip_below_the_range(platform, size, 1e-280)
        tree = [jnp.array([3 * size, 4 * size])]
        np.testing.assert_allclose(clipax.global_norm(tree), 5 * size, rtol=1e-15)


def test_float16_norms_beyond_the_range_of_float16():
    tree = [jnp.full(4, 60000.0, jnp.float16)]
    np.testing.assert_allclose(clipax.global_norm(tree), 120000, rtol=1e-3)
    assert clipax.global_norm(tree).dtype == jnp.float32


def test_double_precision_stays(x64):
    tree = {"a": jnp.array([3e200, 4e200]), "b": jnp.zeros(3, jnp.float32)}
    norm = clipax.global_norm(tree)
    assert norm.dtype == jnp.float64
    np.testing.assert_allclose(norm, 5e200, rtol=1e-15)


def test_one_block_that_overflows_does_not_blur_a_tiny_one():
    tree = {"huge": jnp.array([1e30]), "tiny": jnp.array([1e-15])}
    norms = norms_of(tree, "leaf")
    np.testing.assert_allclose(norms["huge"], 1e30, rtol=1e-6)
    np.testing.assert_allclose(norms["tiny"], 1e-15, rtol=1e-6)


def test_complex_leaves_count_magnitudes():
    np.testing.assert_allclose(clipax.global_norm([jnp.array([3 + 4j, 12j])]), 13, rtol=1e-6)


@pytest.mark.parametrize("bad", [jnp.nan, jnp.inf, -jnp.inf])
def test_norm_of_what_is_not_finite_is_not_finite(bad):
    tree = {"a": jnp.array([1.0, bad]), "b": jnp.ones(3)}
    assert not jnp.isfinite(clipax.global_norm(tree))
    leaf = norms_of(tree, "leaf")
    assert not jnp.isfinite(leaf["a"])
    np.testing.assert_allclose(leaf["b"], np.sqrt(3), rtol=1e-6)


def test_derivative_at_zero_is_zero():
    gradient = jax.grad(lambda tree: clipax.global_norm(tree))({"a": jnp.zeros(3)})
    np.testing.assert_array_equal(gradient["a"], np.zeros(3))
    away = jax.grad(lambda tree: clipax.global_norm(tree))({"a": jnp.array([3.0, 4.0])})
    np.testing.assert_allclose(away["a"], [0.6, 0.8], rtol=1e-6)


def test_empty_trees_and_leaves_have_norm_zero():
    assert clipax.global_norm({}) == 0
    assert clipax.global_norm({"a": jnp.zeros((0, 3)), "b": None}) == 0


@pytest.mark.parametrize("leaf", [jnp.arange(3), np.array([True]), 3])
def test_leaves_that_are_no_floats_are_refused_by_name(leaf):
    with pytest.raises(TypeError, match=r"'layer/table'.*optax.masked"):
        clipax.global_norm({"layer": {"table": leaf}})


def test_labels_merge_only_leaves_of_one_shape():
    class ByOutput:
        def block(self, path, ndim):
            return scopes.Block("all", (ndim - 1,))

    norms = norms_of({"a": jnp.ones((2, 3)), "b": jnp.ones((7, 3))}, ByOutput())
    np.testing.assert_allclose(norms["all"], np.full(3, 3.0), rtol=1e-6)
    with pytest.raises(ValueError, match=r"'all' has \(3,\) for 'a' and \(4,\) for 'b'"):
        norms_of({"a": jnp.ones((2, 3)), "b": jnp.ones((2, 4))}, ByOutput())


def test_unit_norms_keep_the_last_axis():
    kernel = jnp.arange(6.0).reshape(2, 3)
    norms = norms_of({"bias": jnp.ones(4), "kernel": kernel}, "unit")
    np.testing.assert_allclose(norms["kernel"], np.linalg.norm(kernel, axis=0), rtol=1e-6)
    np.testing.assert_allclose(norms["bias"], 2, rtol=1e-6)


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16, jnp.float32, jnp.complex64])
def test_all_finite(dtype):
    scope = scopes.resolve("global")
    huge = jnp.full(8, jnp.finfo(dtype).max, dtype)
    good = {"a": huge, "b": jnp.zeros((0,), dtype)}
    assert all_finite(name_leaves(good, scope)[0])
    for bad in (jnp.nan, jnp.inf, -jnp.inf):
        tree = good | {"c": jnp.array([0, bad], dtype)}
        assert not jax.jit(lambda tree: all_finite(name_leaves(tree, scope)[0]))(tree)
    assert all_finite([])


def test_a_tree_is_measured_with_any_scope_in_one_conditional_or_none(platform):
    tree = {str(i): jnp.ones((3, 3)) for i in range(5)}
    for scope in ("global", "leaf", "unit"):
        jaxpr = jax.make_jaxpr(lambda tree, scope=scope: norms_of(tree, scope))(tree)
        assert str(jaxpr).count("cond[") == (platform == "cpu")


def test_vmapped_norms_equal_a_loop():
    batch = {"a": jnp.arange(12.0).reshape(3, 4) * jnp.array([[1.0], [1e25], [0.0]])}
    looped = [clipax.global_norm({"a": row}) for row in batch["a"]]
    chex.assert_trees_all_close(jax.vmap(clipax.global_norm)(batch), jnp.stack(looped), rtol=1e-6)


def test_nan_in_one_block_does_not_hide_the_overflow_of_another():
    norms = norms_of({"bad": jnp.array([jnp.nan]), "huge": jnp.array([3e25, 4e25])}, "leaf")
    np.testing.assert_allclose(norms["huge"], 5e25, rtol=1e-6)
    assert jnp.isnan(norms["bad"])
