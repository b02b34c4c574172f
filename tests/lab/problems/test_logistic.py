"""Logistic regression."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from clipax.lab import problems
from tests.lab.problems.cases import CLASSES, DATA, differences, evaluated, logistic


def test_minibatches_of_logistic_regression(made):
    problem = made["logistic"]
    x = np.array([0.3, -2.0, 1.0])
    pairs = np.stack([np.arange(40), np.roll(np.arange(40), 1)], axis=-1)
    with jax.enable_x64(True):
        found = jax.jit(jax.vmap(problem.batch_gradient, (None, 0)))(x, pairs)
        slopes = jax.jit(jax.vmap(jax.grad(problem.batch_value), (None, 0)))(x, pairs)
    _, whole = evaluated(problem, x[:, None])
    np.testing.assert_allclose(np.mean(np.asarray(found), axis=0), whole[:, 0], rtol=1e-12)
    np.testing.assert_allclose(found, slopes, rtol=1e-12)

    def loss(x, rows=pairs[6]):
        margins = np.where(CLASSES, 1.0, -1.0)[rows] * (DATA[rows] @ x)
        return np.log(1 + np.exp(-margins)).mean() + 0.05 * x @ x

    np.testing.assert_allclose(found[6], differences(loss, x), rtol=1e-8)


def test_the_minimum_of_logistic_regression_is_found_where_it_is_asked_for(made):
    # That the gradient vanishes there is tested with the others.
    assert made["logistic"].optimum_value < logistic(np.asarray(made["logistic"].optimum) + 1e-3)
    plain = problems.logistic_regression(DATA, CLASSES)
    assert (plain.optimum, plain.optimum_value, plain.mu) == (None, None, None)
    with pytest.raises(ValueError, match="`l2` must be larger for a minimum to be found"):
        problems.logistic_regression(DATA, DATA[:, 0] > 0, l2=1e-300, solve=True)


def test_logistic_regression_far_away_is_finite():
    problem = problems.logistic_regression([[1e4], [-1e4]], [1, -1])
    assert float(problem.value(jnp.array([-1.0]))) == 1e4
    np.testing.assert_array_equal(problem.gradient(jnp.array([-1.0])), [-1e4])
