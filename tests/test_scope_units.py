"""Units on any axes: a norm for each output, wherever a kernel has its outputs."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import clipax
from clipax import scopes


@pytest.mark.parametrize("axis", [0, 1, -1, (0, 2), (-2, -1), (2, 1)])
def test_units_are_those_of_the_axes(axis):
    grads = {"w": jax.random.normal(jax.random.key(0), (3, 4, 5)), "b": jnp.array([3.0, 4.0])}
    clip = clipax.scale_by_norm(clipax.norms.clip(1.0), scope=scopes.unit(axis))
    updates, _ = clip.update(grads, clip.init(grads))
    kept = {at % 3 for at in (axis if isinstance(axis, tuple) else (axis,))}
    reduced = tuple(at for at in range(3) if at not in kept)
    w = np.asarray(grads["w"], np.float64)
    norms = np.sqrt(np.sum(w**2, axis=reduced, keepdims=True))
    expected = w * np.minimum(1, 1 / norms)
    np.testing.assert_allclose(updates["w"], expected, rtol=1e-6)
    np.testing.assert_allclose(updates["b"], [0.6, 0.8], rtol=1e-6)


def test_units_in_front_and_behind_are_the_same_norms_transposed():
    params = {"w": jax.random.normal(jax.random.key(0), (4, 6)), "b": jnp.ones(6)}
    grads = {"w": jax.random.normal(jax.random.key(1), (4, 6)), "b": jnp.ones(6)}
    turned = [jax.tree.map(jnp.transpose, tree) for tree in (grads, params)]
    last, first = (
        clipax.clip_by_param_norm(0.1, scope=scope) for scope in ("unit", scopes.unit(0))
    )
    expected, _ = last.update(grads, last.init(params), params)
    updates, _ = first.update(turned[0], first.init(turned[1]), turned[1])
    np.testing.assert_allclose(updates["w"].T, expected["w"], rtol=1e-6)
    np.testing.assert_allclose(updates["b"], expected["b"], rtol=1e-6)


def test_units_of_heads_are_those_of_optax():
    params = {"query": jax.random.normal(jax.random.key(0), (8, 2, 4))}
    grads = {"query": jax.random.normal(jax.random.key(1), (8, 2, 4))}
    ours = clipax.clip_by_param_norm(0.1, scope=scopes.unit((-2, -1)))
    theirs = optax.adaptive_grad_clip(0.1)
    expected, _ = theirs.update(grads, theirs.init(params), params)
    updates, _ = ours.update(grads, ours.init(params), params)
    np.testing.assert_allclose(updates["query"], expected["query"], rtol=1e-5)


def test_units_of_some_leaves_within_stacked_layers():
    scope = scopes.stacked(0, within=scopes.unit(0, where="weight", otherwise="leaf"))
    assert scope.block("weight", 3).keep == (0, 1)
    assert scope.block("bias", 3).keep == (0,)
    outer = scopes.exclude("head", scopes.unit(0, where="weight"))
    assert outer.block("weight", 2).keep == (0,)
    assert outer.block("kernel", 2).keep == (1,)
    assert outer.block("head/weight", 2).excluded


@pytest.mark.parametrize(
    ("make", "error", "text"),
    [
        (lambda: scopes.unit(2).block("w", 2), ValueError, "`axis` must be an axis .* got 2 for"),
        (lambda: scopes.unit((0, 3)).block("w", 2), ValueError, r"got \(0, 3\) for 'w'"),
        (lambda: scopes.unit(0.5), TypeError, "`axis` must be"),
        (lambda: scopes.unit(()), ValueError, "`axis` must be an axis or several"),
        (lambda: scopes.unit(0, where=3), TypeError, "`where` must be glob patterns"),
        (lambda: scopes.unit(0, otherwise="row"), ValueError, "`otherwise` must be one of"),
        (
            lambda: clipax.monitor_norms(scope=scopes.unit(0, where="w")).init({"v": jnp.ones(1)}),
            ValueError,
            "`where`: every pattern must fit",
        ),
    ],
)
def test_arguments_of_units(make, error, text):
    with pytest.raises(error, match=text):
        make()
