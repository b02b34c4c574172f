"""Singular values cut by matrix products: bounds, against decompositions in float64."""

from __future__ import annotations

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import clipax
from clipax.measure import _polar, _singular_values, _svd
from tests.thorough import thorough

# About rounding: in the code that users get.
OPTIMISED = True
SHAPES = [(2, 2), (3, 5), (16, 40), (48, 48)]
SIZES = [1e-30, 1e-3, 1.0, 1e25]
KINDS = [
    "spread",
    "spike",
    "spikes",
    "equal",
    "at the limit",
    "near the limit",
    "low rank",
    "geometric",
]


def singular_values(kind, count, random):
    """Singular values in units of the limit."""
    few = random.uniform(0.1, 3.0, count)
    half = np.arange(count) < count / 2
    spike = 10 ** random.uniform(1, 8)
    return {
        "spread": few,
        "spike": np.where(np.arange(count) == 0, spike, few),
        "spikes": np.where(half, spike * random.uniform(0.1, 1, count), few),
        "equal": np.full(count, few[0]),
        "at the limit": np.where(half, 1.0, few),
        "near the limit": np.exp(10 ** random.uniform(-7, -2) * random.standard_normal(count)),
        "low rank": np.where(half, few, 0.0),
        "geometric": np.geomspace(10 ** random.uniform(0, 6), 1e-3, count),
    }[kind]


def matrix(values, rows, columns, random, dtype):
    def orthogonal(size):
        parts = random.standard_normal((2, size, rows))
        full = parts[0] + 1j * parts[1] * jnp.issubdtype(dtype, jnp.complexfloating)
        return np.linalg.qr(full)[0]

    product = (orthogonal(rows) * values) @ orthogonal(columns).conj().T
    return product if jnp.issubdtype(dtype, jnp.complexfloating) else product.real


def clamp(stack, norms, limits):
    dtype = stack.real.dtype
    found = jax.jit(_polar.clamp)(stack, jnp.asarray(norms, dtype), jnp.asarray(limits, dtype))
    return [np.asarray(part) for part in found]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "dtype", thorough([jnp.float32, jnp.float64, jnp.complex64], but=[jnp.float32])
)
def test_values_are_cut_and_none_exceeds_its_limit(kind, dtype, x64):
    random = np.random.default_rng(1)
    eps = float(jnp.finfo(dtype).eps)
    for rows, columns in SHAPES:
        sizes = np.repeat(SIZES[1:3] if dtype == jnp.complex64 else SIZES, 3)
        exact = np.stack(
            [
                matrix(singular_values(kind, rows, random), rows, columns, random, dtype)
                for _ in sizes
            ]
        )
        stack = jnp.asarray(exact * sizes[:, None, None], dtype)
        exact = np.asarray(stack).astype(exact.dtype) / sizes[:, None, None]
        norms = np.linalg.norm(exact, axis=(1, 2)) * sizes
        results, largest = clamp(stack, norms, sizes)
        for given, result, found, size in zip(exact, results, largest, sizes, strict=True):
            limit = float(np.asarray(size, stack.real.dtype)) / size
            left, values, right = np.linalg.svd(given, full_matrices=False)
            wanted = (left * np.minimum(values, limit)) @ right
            got = result.astype(exact.dtype) / size
            assert np.linalg.norm(got, 2) <= limit * (1 + 8 * eps)
            assert np.linalg.norm(got - wanted, 2) <= 60 * eps * values[0]
            if np.linalg.norm(given) > limit:
                assert abs(found / size - values[0]) <= 20 * eps * values[0]


def test_the_error_of_a_spike_is_eps_of_it():
    # Projected out on one side only, it is 3 eps.
    random = np.random.default_rng(2)
    values = np.concatenate([[1e4], np.linspace(0.1, 2, 31)])
    exact = matrix(values, 32, 32, random, np.float32).astype(np.float32)
    [result], _ = clamp(jnp.asarray(exact)[None], [1e4], [1.0])
    left, found, right = np.linalg.svd(exact.astype(float))
    error = np.linalg.norm(result - (left * np.minimum(found, 1)) @ right, 2)
    assert error < 1e4 * jnp.finfo(jnp.float32).eps


def test_the_largest_value_is_bounded_where_none_stands_out():
    # Values within 1/p of the largest, p being the last power: a mean of them is the estimate.
    rows, bits = 64, jnp.finfo(jnp.float32).nmant
    for width in (0.0, 2.0**-bits, 2.0**-10, 0.1, 1.0):
        values = np.linspace(1 - width, 1, rows)
        [estimate] = _polar.largest_values(jnp.diag(jnp.float32(values))[None], jnp.array([8.0]))
        eps = float(jnp.finfo(jnp.float32).eps)
        allowed = np.log(rows) / 2 ** (bits + 1) + 4 * eps
        assert -allowed <= float(estimate[0]) - 1 <= 4 * eps


def test_the_largest_value_is_found_whatever_its_direction():
    # A power iteration from a vector of ones would find the other one.
    [largest] = _polar.largest_values(jnp.array([[[2.0, -1.0], [-1.0, 2.0]]]), jnp.array([3.2]))
    np.testing.assert_allclose(largest, 3, rtol=1e-6)


def test_the_polynomials_do_what_is_said_of_them():
    def apply(row, values):
        return sum(number * values ** (2 * place + 1) for place, number in enumerate(row))

    values = np.linspace(0.5, 1.01, 10001)
    grown = apply(_polar.GROW, values)
    assert grown.min() >= 0.5
    assert grown.max() <= 1
    errors = np.linspace(0, 0.1, 101)
    finished = 1 - apply(_polar.FINISH, 1 - errors)
    np.testing.assert_allclose(finished, 2.5 * errors**3, rtol=0.08, atol=1e-15)
    for value, end in ((0.81, 0), (0.82, 1)):
        for _ in range(12):
            value = apply(_polar.CUT, value)
        np.testing.assert_allclose(value, end, atol=1e-12)
    for bits, products in ((23, 17), (52, 33)):
        table = _polar._grow_and_finish(bits)
        assert len(table) == products
        # All that is not noise becomes 1.
        values = np.geomspace(2.0**-bits, 1, 10001)
        for row in table:
            values = apply(row, values)
        np.testing.assert_allclose(values, 1, atol=2.0**-bits)


@pytest.mark.parametrize("rank", thorough([1, 2, 5], but=[2]))
@pytest.mark.parametrize(("rows", "columns"), [(3, 4), (16, 64), (64, 64)])
def test_noise_has_no_direction(rank, rows, columns):
    random = np.random.default_rng(rank)
    rank = min(rank, rows - 1)
    shapes = (20, rows, rank), (20, rank, columns)
    stack = np.float32(np.matmul(*(random.standard_normal(shape) for shape in shapes)))
    norms = np.linalg.norm(stack, axis=(1, 2))
    factors, sums = jax.jit(_polar.orthogonalize)(stack, norms)
    expected, totals = jax.jit(_svd.orthogonalize)(stack, norms)
    np.testing.assert_allclose(factors, expected, atol=1e-4)
    np.testing.assert_allclose(sums, totals, rtol=1e-5)
    values = np.linalg.svd(np.asarray(factors, float), compute_uv=False)
    np.testing.assert_allclose(values[:, :rank], 1, atol=1e-5)
    np.testing.assert_allclose(values[:, rank:], 0, atol=1e-5)


def tree(count, seed=0):
    """Matrices of two shapes, one of them transposed in half of the leaves, and of stacks."""
    random = np.random.default_rng(seed)
    leaves = {}
    for place in range(count):
        name, shape = [
            ("tall", (6, 4)),
            ("wide", (4, 6)),
            ("square", (5, 5)),
            ("stack", (2, 6, 4)),
            ("kernel", (3, 2, 6)),
        ][place % 5]
        leaves[f"{name}{place}"] = jnp.asarray(3 * random.standard_normal(shape), jnp.float32)
    return leaves


def step(limit, leaves, method="polar"):
    scope = clipax.scopes.stacked(0, where=lambda path: path.startswith("stack"))
    clip = clipax.clip_by_singular_values(limit, method=method, scope=scope)
    return clip.update(leaves, clip.init(leaves))[0]


@pytest.mark.thorough
@pytest.mark.parametrize("large", [2**18, 24])
def test_matrices_of_a_shape_go_together(large, monkeypatch):
    # In a loop if they are large; the program is cached by its arguments.
    _singular_values._run.clear_cache()
    monkeypatch.setattr(_singular_values, "LARGE", large)
    leaves = tree(5)
    together = step(1.0, leaves)
    for name, leaf in leaves.items():
        alone = step(1.0, {name: leaf})[name]
        np.testing.assert_allclose(together[name], alone, atol=1e-5)
        np.testing.assert_allclose(alone, step(1.0, {name: leaf}, "svd")[name], atol=1e-5)
    _singular_values._run.clear_cache()


def products_of(count):
    # A new function each time: the number of devices is no key of `jit`'s cache.
    text = jax.jit(functools.partial(step, 1.0)).lower(tree(count)).as_text()
    return len(re.findall("dot_general", text))


def test_products_do_not_grow_with_the_leaves():
    # Of several devices each could hold a part: leaves then stay by themselves.
    with clipax.measure.assume_devices(1):
        assert products_of(10) == products_of(5) > 0
    with clipax.measure.assume_devices(8):
        assert products_of(10) == 2 * products_of(5)


@pytest.mark.parametrize("platform", thorough(["cpu", "tpu", "cuda"], but=["cpu", "tpu"]))
@pytest.mark.parametrize(
    "make",
    [
        functools.partial(clipax.clip_by_singular_values, 1.0),
        functools.partial(clipax.clip_by_singular_values, clipax.thresholds.ema()),
        functools.partial(clipax.ggnc, 0.1, 1.0, norm="spectral"),
    ],
    ids=["number", "threshold", "ggnc"],
)
def test_the_platform_decides_and_the_other_form_leaves_no_trace(platform, make):
    leaves = {"w": jnp.ones((4, 6))}

    def count(method):
        tx = make(method=method)
        traced = jax.jit(tx.update).trace(leaves, tx.init(leaves))
        text = traced.lower(lowering_platforms=(platform,)).as_text()
        words = ("dot_general", "stablehlo.while", "custom_call")
        return [len(re.findall(word, text)) for word in words]

    assert count("auto") == count("svd" if platform == "cpu" else "polar")
    assert count("auto") != count("polar" if platform == "cpu" else "svd")
