"""The noise on gradients: its size, its law, and which entries it hits."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from clipax.lab._compare.noise import parse_gradient_noise

GRADIENT = {"a": jnp.ones((40, 50)), "b": 3.0 * jnp.ones((1000,))}
NORM = np.sqrt(2000 + 9000)


def draw(noise, gradient, seed=3):
    """The noise in units of `s ||g|| / sqrt(d)`."""
    noisy = noise.add(gradient, jax.random.key(seed))
    difference = jax.tree.map(lambda new, old: np.ravel(new - old), noisy, gradient)
    return np.concatenate([difference["a"], difference["b"]]) / (noise.scale * NORM / 3000**0.5)


def test_noise_in_entries_is_independent_and_in_proportion_to_the_gradient():
    noise = parse_gradient_noise("student-t:5", 0.5)
    unit = draw(noise, GRADIENT)
    assert stats.kstest(unit, stats.t(5).cdf).pvalue > 0.01
    assert len(np.unique(unit)) > 2900
    twice = draw(noise, jax.tree.map(lambda g: 2 * g, GRADIENT))
    np.testing.assert_allclose(twice, 2 * unit, rtol=1e-3, atol=1e-3)


def test_noise_in_the_norm_is_one_draw_of_the_law_times_normal_entries():
    noise = parse_gradient_noise("norm:pareto:1.5", 0.5)
    sizes = []
    for seed in range(200):
        unit = draw(noise, GRADIENT, seed)
        size = np.sqrt(np.mean(unit**2))
        sizes.append(size)
        if seed < 3:
            assert stats.kstest(unit / size, stats.norm.cdf).pvalue > 0.01
    # The law's variates begin at zero; sizes scatter by 1/sqrt(2 * 3000) around them.
    assert stats.kstest(sizes, stats.lomax(1.5).cdf).pvalue > 0.01


def test_noise_keeps_the_type_of_the_gradient():
    gradient = {"a": jnp.ones(4, jnp.bfloat16)}
    for text in ("gaussian:1", "norm:gaussian:1"):
        noisy = parse_gradient_noise(text).add(gradient, jax.random.key(0))
        assert noisy["a"].dtype == jnp.bfloat16


@pytest.mark.parametrize("text", ["none", "norm:none"])
def test_without_noise_the_gradient_is_left_alone(text):
    assert parse_gradient_noise(text).add(GRADIENT, jax.random.key(0)) is GRADIENT
