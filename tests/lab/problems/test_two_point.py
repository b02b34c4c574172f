"""Noise with two values, and the bias that it gives to clipped SGD."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from clipax.lab import problems


@pytest.mark.parametrize("threshold", [0.3, 0.5, 1.0, 2.0, 20.0])
def test_the_bias_of_two_points_is_a_fixed_point_and_the_largest(threshold):
    problem, noise, bias = problems.two_point_bias(1.0, threshold)
    p, values = noise.probability, np.array([noise.high, noise.low])
    weights = np.array([p, 1 - p])
    assert weights @ values == pytest.approx(0, abs=1e-15)
    assert weights @ values**2 == pytest.approx(1)
    assert weights @ np.clip(bias + values, -threshold, threshold) == pytest.approx(0, abs=1e-15)
    expected = 1 / (4 * threshold) if threshold > 0.5 else 0.5 - threshold / 4
    assert bias == pytest.approx(expected)
    if threshold > 0.5:
        for factor in (0.9, 1.1):
            s = noise.skew * factor
            other = problems.TwoPointNoise(1.0, s**2 / (1 + s**2))
            assert other.fixed_point(threshold) < bias
    assert (problem.L, problem.mu, problem.start[0]) == (1, 1, 0)
    assert str(noise).startswith("two-point(sigma=1, p=")


def test_two_points_come_with_their_probability():
    noise = problems.TwoPointNoise(3.0, 0.25)
    edges = noise.from_words(jnp.array([0, 2**30 - 1, 2**30, 2**32 - 1], jnp.uint32))
    np.testing.assert_allclose(edges, [noise.high] * 2 + [noise.low] * 2, rtol=1e-6)
    drawn = noise.sample(jax.random.key(0), (4000,))
    assert abs(float(jnp.mean(drawn > 0)) - 0.25) < 5 * math.sqrt(0.25 * 0.75 / 4000)
    assert noise.words == 1
    with pytest.raises(ValueError, match="`threshold` must clip the upper value"):
        noise.fixed_point(1e3)
