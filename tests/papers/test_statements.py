"""Statements of the papers on the first methods, beside the figures in `benchmarks/papers`.

References: J. Zhang et al. 2020 (arXiv 1905.11881), A. Sadiev et al. 2023 (arXiv 2302.00999).
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import clipax

# Long runs.
OPTIMISED = True


def test_normalised_steps_are_between_half_and_all_of_clipped_ones():
    norms = jnp.logspace(-6, 6, 200)
    rate, threshold = 0.3, 2.0

    def length(optimizer, norm):
        return -optimizer.update(norm, optimizer.init(norm))[0]

    clipped = jax.vmap(lambda n: length(clipax.clip_sgd(rate, threshold), n))(norms)
    normalised = jax.vmap(
        lambda n: length(clipax.normalized_sgd(rate * threshold, eps=threshold), n)
    )(norms)
    assert (normalised <= clipped * (1 + 1e-6)).all()
    assert (normalised >= clipped / 2 * (1 - 1e-6)).all()


@pytest.mark.thorough
def test_growing_thresholds_remove_bias_and_outliers():
    # Online estimation of a mean under noise of tail index 1.55, which has no variance.
    alpha, sigma, runs, steps = 1.5, 9.412, 1000, 20_000
    thresholds = {
        "none": float("inf"),
        "constant": sigma,
        "design": clipax.power_threshold(sigma, alpha),
        "nonconvex": clipax.power_threshold(sigma, alpha, "nonconvex"),
        "convex": clipax.power_threshold(sigma, alpha, "convex"),
    }

    def estimate(threshold, key):
        # One norm for each column: every run is a unit of its own.
        optimizer = clipax.clip_sgd(lambda count: 1 / (count + 1), threshold, scope="unit")

        def step(carry, key):
            x, state = carry
            words = jax.random.bits(key, x.shape).astype(jnp.float32)
            noise = ((words + 0.5) * 2.0**-32) ** (-1 / 1.55) - 2.81818
            updates, state = optimizer.update(x + noise, state)
            return (optax.apply_updates(x, updates), state), None

        x = jnp.zeros((1, runs))
        (x, _), _ = jax.lax.scan(step, (x, optimizer.init(x)), jax.random.split(key, steps))
        return jnp.abs(x[0])

    key = jax.random.key(0)
    errors = {
        name: np.asarray(jax.jit(estimate, static_argnums=0)(threshold, key))
        for name, threshold in thresholds.items()
    }
    medians = {name: np.median(error) for name, error in errors.items()}
    reference = {
        "none": 0.068,
        "constant": 0.469,
        "design": 0.107,
        "nonconvex": 0.079,
        "convex": 0.066,
    }
    for name, figure in reference.items():
        assert medians[name] == pytest.approx(figure, rel=0.15), name
    for name, figure in {"constant": 0.504, "design": 0.199, "nonconvex": 0.188}.items():
        assert np.quantile(errors[name], 0.99) == pytest.approx(figure, rel=0.15), name
