"""Test problems beside independent forms of their values, and means to evaluate them."""

from __future__ import annotations

import functools

import jax
import numpy as np

from clipax.lab import problems

RANDOM = np.random.default_rng(3)
ROTATED = np.array([[2.0, 1.0, 0.0], [1.0, 2.0, 0.0], [0.0, 0.0, 0.5]])
DATA, CLASSES = RANDOM.normal(size=(40, 3)), RANDOM.integers(2, size=40)
SPECTRUM = np.arange(1, 7) ** -0.2


def huber(x):
    return np.where(np.abs(x) < 0.5, x**2 / 2, 0.5 * np.abs(x) - 0.125).sum()


def logistic(x):
    margins = np.where(CLASSES, 1.0, -1.0) * (DATA @ x)
    return np.log(1 + np.exp(-margins)).mean() + 0.05 * x @ x


def ill_conditioned(x):
    return sum(0.5 * 10 ** (-3 + 3 * j / 19) * x[j] ** 2 for j in range(20))


# Constructor, an independent form of the value (None: checked on its own), points at which.
MAKE = {
    "huber": (lambda: problems.huber(0.5), huber, [-4, -0.49, 0.3, 0.6, 7]),
    "x^4": (problems.quartic, lambda x: x[0] ** 4, [-3, -0.1, 1, 5]),
    "cosh": (problems.cosh, lambda x: np.cosh(x[0]) - 1, [-6, -1, 0.5, 3]),
    "l0l1": (
        lambda: problems.l0l1_quartic(10),
        lambda x: 100 / 72 * x[0] ** 4 + x[0] ** 2 / 4,
        [-5, 0.3, 2],
    ),
    "diagonal": (problems.ill_conditioned_quadratic, ill_conditioned, [10, -1]),
    "matrix": (
        lambda: problems.quadratic(ROTATED, optimum=[1, 2, 3], start=5),
        lambda x: 0.5 * (x - [1, 2, 3]) @ ROTATED @ (x - [1, 2, 3]),
        [0, 2, -3],
    ),
    "streaming": (
        lambda: problems.streaming_least_squares(6),
        lambda x: 0.5 * (SPECTRUM * x**2).sum(),
        [1, -2],
    ),
    "logistic": (
        lambda: problems.logistic_regression(DATA, CLASSES, l2=0.1, solve=True),
        logistic,
        [0, 1, -3],
    ),
}


@functools.cache
def program(problem):
    return jax.jit(jax.vmap(lambda x: (problem.value(x), problem.gradient(x)), -1, -1))


def evaluated(problem, points):
    """Values and gradients in the columns of `points`, by a program for 64 of them."""
    points = np.asarray(points, np.float64)
    count = points.shape[-1]
    padded = np.pad(points, ((0, 0), (0, 64 - count)))
    with jax.enable_x64(True):
        values, gradients = program(problem)(padded)
    return np.asarray(values)[:count], np.asarray(gradients)[:, :count]


def differences(value, x, step=1e-3):
    """The gradient by differences of the fourth order."""
    moves = step * np.eye(len(x))
    near = [value(x + move) - value(x - move) for move in moves]
    far = [value(x + 2 * move) - value(x - 2 * move) for move in moves]
    return (8 * np.array(near) - np.array(far)) / (12 * step)
