"""Responses and thresholds of single examples, by the formulas of their papers."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import clipax
from clipax import thresholds
from tests.per_example.reference import clipped_by_place

NORMS = np.array([0.0, 1e-30, 1e-3, 0.1, 0.5, 1.0, 30.0, 1e18])


def inner(w: Any, x: Any) -> Any:
    """A loss whose gradient is the example."""
    return w @ x


def examples(norms: Any) -> Any:
    """Examples in the plane, of these norms."""
    return np.asarray(norms)[:, None] * np.array([0.6, 0.8])


def lengths(response: str, eps: float, threshold: float = 2.0) -> Any:
    """How much each example adds, in double precision."""
    grad = clipax.clipped_grad(inner, threshold, response=response, eps=eps, reduction="sum")
    each = jax.jit(jax.vmap(lambda x: grad(jnp.zeros(2), x[None])[0]))(examples(NORMS))
    return np.linalg.norm(each, axis=1)


@pytest.mark.parametrize("eps", [0.01, 0.1, 1.0])
def test_of_auto_s_and_psac(eps: float, x64: None) -> None:
    auto, psac = lengths("normalize", eps), lengths("psac", eps)
    np.testing.assert_allclose(auto, 2 * NORMS / (NORMS + eps), rtol=1e-12)
    np.testing.assert_allclose(psac, 2 * NORMS / (NORMS + eps / (NORMS + eps)), rtol=1e-12)
    # Weights of the small ones: 2/eps by AUTO-S, and 2 by PSAC, whose weight is not monotone.
    weights = psac[1:] / NORMS[1:]
    assert weights[0] == pytest.approx(2, rel=1e-9)
    if eps < 0.5:
        assert weights.max() == pytest.approx(weights[2], rel=1e-9)
    for found in (auto, psac):
        assert (found <= 2 * (1 + 1e-15)).all()


@pytest.mark.parametrize("response", ["normalize", "psac"])
def test_without_eps_both_are_auto_v(response: str, x64: None) -> None:
    found = lengths(response, 0.0)
    assert found[0] == 0
    np.testing.assert_allclose(found[1:], 2, rtol=1e-12)


@pytest.mark.parametrize("response", ["normalize", "psac"])
@pytest.mark.parametrize("eps", [0.0, 1e-38, 1e30])
def test_factors_are_finite_in_float32(response: str, eps: float) -> None:
    grad = clipax.clipped_grad(inner, 1.0, response=response, eps=eps, reduction="sum")
    sizes = np.array([0.0, 1e-38, 1e-20, 1.0, 1e30, 3e38], np.float32)
    each = jax.jit(jax.vmap(lambda size: grad(jnp.zeros(1), size[None, None])[0]))(sizes)
    assert np.isfinite(each).all()
    assert (np.abs(each) <= 1 + 1e-6).all()


@pytest.mark.parametrize("microbatch", [1, 3, 100])
def test_a_threshold_by_place_is_that_of_ps_clip_sgd(microbatch: int, x64: None) -> None:
    draw = np.random.default_rng(0)
    gradients = draw.standard_t(1.5, (10, 4))
    alpha, beta = 0.8, 1.5
    power = thresholds.power(alpha, beta, "convex")
    grad = clipax.clipped_grad(inner, power, microbatch_size=microbatch)
    found, stats = jax.jit(grad)(jnp.zeros(4), gradients)
    np.testing.assert_allclose(found, clipped_by_place(gradients, alpha, beta), rtol=1e-12)
    above = np.linalg.norm(gradients, axis=1) > alpha * np.arange(1, 11) ** (1 / beta)
    assert 0 < above.sum() < 10
    assert stats.clip_fraction == pytest.approx(above.mean())
    # By leaf there is a threshold for each example and leaf; a call may bring another.
    leaves = clipax.clipped_grad(lambda w, x: inner(w["a"], x), 1.0, scope="leaf")
    other, _ = leaves({"a": jnp.zeros(4)}, gradients, threshold=power)
    np.testing.assert_allclose(other["a"], found, rtol=1e-12)
