"""Streaming least squares."""

from __future__ import annotations

import math

import jax
import numpy as np
import pytest

from clipax.lab import parse_noise, problems

SPECTRUM = np.arange(1, 7) ** -0.2


def test_streaming_samples_have_the_covariance_and_the_mean_gradient():
    noise, count = parse_noise("gaussian:2"), 20_000
    problem = problems.streaming_least_squares(6, noise=noise, scale=0.5)
    theta = np.array([1.0, -1, 2, 0, 0.5, 3], np.float32)

    @jax.jit
    @jax.vmap
    def draw(number):
        key = jax.random.key(number)
        return *problem.sample(key), problem.sample_gradient(theta, key)

    a, b, g = map(np.asarray, draw(np.arange(count)))
    np.testing.assert_allclose(a.T @ a / count, np.diag(SPECTRUM), atol=5 * math.sqrt(2 / count))
    assert b.std() == pytest.approx(1, rel=5 / math.sqrt(2 * count))
    assert abs(b @ a / count).max() < 5 / math.sqrt(count)  # errors do not know the example
    np.testing.assert_allclose(g, (a @ theta - b)[:, None] * a, atol=2e-5)
    error = g.std(axis=0) / math.sqrt(count)
    assert (np.abs(g.mean(axis=0) - SPECTRUM * theta) < 5 * error).all()
    quiet = problems.streaming_least_squares(6)
    assert jax.eval_shape(quiet.sample, jax.random.key(0))[1].shape == ()
