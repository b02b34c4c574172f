"""Running a transformation over a sequence of gradients, and comparing what comes out."""

from __future__ import annotations

import collections
import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from tests.contract.cases import CASES
from tests.contract.gradients import NESTED, mild, nest, parameters

TELEMETRY_OF_TIME = ("steps", "count")
"""Fields that a step with a gradient that is not finite may change."""


@functools.cache
def method(name: str) -> optax.GradientTransformationExtraArgs:
    """The transformation of a case: one object, so that compiled steps are shared."""
    return CASES[name].make()


TRACES: collections.Counter[str] = collections.Counter()
"""The number of times that the update of each case was traced."""


@functools.cache
def jitted(name: str) -> Any:
    """The compiled update of a case."""

    def update(gradient: Any, state: Any, params: Any) -> Any:
        TRACES[name] += 1
        return method(name).update(gradient, state, params)

    return jax.jit(update)


@functools.cache
def problem(steps: int = 4) -> tuple[Any, tuple[Any, ...]]:
    """Float32 parameters and gradients of the nested tree."""
    return nest(parameters(NESTED)), tuple(nest(tree) for tree in mild(NESTED, steps))


def run(
    update: Any, state: Any, gradients: Sequence[Any], params: Any
) -> tuple[list[Any], list[Any]]:
    """The updates and the states after each step."""
    updates, states = [], []
    for gradient in gradients:
        out, state = update(gradient, state, params)
        updates.append(out)
        states.append(state)
    return updates, states


def assert_close(actual: Any, expected: Any, tolerance: float = 2e-6) -> None:
    """The same structure, shapes and dtypes, and values equal up to rounding, leaf by leaf."""
    assert structure(actual) == structure(expected)
    for (keys, one), other in zip(
        jax.tree_util.tree_leaves_with_path(actual), jax.tree.leaves(expected), strict=True
    ):
        assert jnp.shape(one) == jnp.shape(other), keys
        assert jnp.result_type(one) == jnp.result_type(other), keys
        a, b = np.asarray(one, np.float64), np.asarray(other, np.float64)
        np.testing.assert_allclose(
            a, b, rtol=tolerance, atol=tolerance * _size(b), err_msg=str(keys)
        )


def assert_same(actual: Any, expected: Any) -> None:
    """Equal to the last bit."""
    assert structure(actual) == structure(expected)
    for (keys, one), other in zip(
        jax.tree_util.tree_leaves_with_path(actual), jax.tree.leaves(expected), strict=True
    ):
        assert jnp.result_type(one) == jnp.result_type(other), keys
        np.testing.assert_array_equal(np.asarray(one), np.asarray(other), err_msg=str(keys))


def structure(tree: Any) -> Any:
    """Return `jax.tree.structure`; its type has no equality for a type checker."""
    return jax.tree.structure(tree)


def same(one: Any, other: Any) -> bool:
    """Tell whether two trees are equal to the last bit."""
    pairs = zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
    return all(np.array_equal(np.asarray(a), np.asarray(b)) for a, b in pairs)


def signature(tree: Any) -> Any:
    """Structure, shapes, dtypes and weak types: what decides whether a step is traced again."""
    avals = [
        (jnp.shape(leaf), jnp.result_type(leaf), getattr(leaf, "weak_type", None))
        for leaf in jax.tree.leaves(tree)
    ]
    return structure(tree), avals


def floats(tree: Any) -> dict[str, np.ndarray]:
    """The floating-point leaves by path."""
    return {
        jax.tree_util.keystr(keys, simple=True, separator="/"): np.asarray(leaf, np.float64)
        for keys, leaf in jax.tree_util.tree_leaves_with_path(tree)
        if jnp.issubdtype(jnp.result_type(leaf), jnp.inexact)
    }


def memory(state: Any) -> dict[str, np.ndarray]:
    """All of a state but the passing of time."""

    def remembered(keys: Any, leaf: Any) -> np.ndarray:
        # Of the counts of telemetry, that of clipped steps alone; of a guard's, that of spikes. The
        # weight of the recent steps, in the sixth column, grows with time: a leaf without entries
        # is never bad.
        names = [getattr(key, "name", None) for key in keys]
        if "latest" in names:
            return np.delete(np.asarray(leaf), 5, axis=-1)
        if "counts" not in names:
            return np.asarray(leaf)
        return np.asarray(leaf)[..., 1 if "telemetry" in names else 3]

    return {
        path: remembered(keys, leaf)
        for keys, leaf in jax.tree_util.tree_leaves_with_path(state)
        if not any(getattr(key, "name", None) in TELEMETRY_OF_TIME for key in keys)
        for path in [jax.tree_util.keystr(keys)]
    }


def assert_all_finite(tree: Any) -> None:
    """No floating-point leaf holds a NaN or an infinity."""
    for path, leaf in floats(tree).items():
        assert np.isfinite(leaf).all(), f"{path}: {leaf}"


def _size(leaf: np.ndarray) -> float:
    finite = np.abs(leaf[np.isfinite(leaf)])
    return float(finite.max()) if finite.size else 0.0
