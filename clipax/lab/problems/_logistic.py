"""Logistic regression on given examples, with gradients of minibatches."""

from __future__ import annotations

import dataclasses
import warnings
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import nn

from clipax import _validate
from clipax._typing import Array
from clipax.lab.problems._problem import Problem, check_start

__all__ = ["LogisticRegression", "logistic_regression"]


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class LogisticRegression(Problem):
    """Logistic regression; `value` and `gradient` are those of all examples.

    Attributes:
      examples: The examples times their labels, `(rows, dim)`: all that the loss depends on.
      l2: The weight of half the squared norm.
    """

    examples: Array
    l2: float

    def batch_value(self, x: Array, rows: Array) -> Array:
        """Compute the mean loss of the examples whose numbers `rows` holds, which may repeat."""
        return _value(x, self.examples[rows], self.l2)

    def batch_gradient(self, x: Array, rows: Array) -> Array:
        """Compute its gradient: unbiased for `gradient` where `rows` are uniform."""
        return _gradient(x, self.examples[rows], self.l2)


def _value(x: Array, examples: Array, l2: float) -> Array:
    margins = jnp.matmul(examples.astype(x.dtype), x, precision="highest")
    return jnp.mean(nn.softplus(-margins)) + 0.5 * l2 * jnp.sum(jnp.square(x))


def _gradient(x: Array, examples: Array, l2: float) -> Array:
    examples = examples.astype(x.dtype)
    margins = jnp.matmul(examples, x, precision="highest")
    weights = nn.sigmoid(-margins) / len(examples)
    return l2 * x - jnp.matmul(weights, examples, precision="highest")


def logistic_regression(
    features: Any,
    labels: Any,
    *,
    l2: float = 0.0,
    start: Any = 0.0,
    solve: bool = False,
    name: str = "logistic regression",
) -> LogisticRegression:
    """Make logistic regression on data with two classes.

        f(x) = 1/n sum_{i=1}^n ln(1 + e^(-y_i <a_i, x>)) + lambda/2 ||x||^2

    Args:
      features: The examples `a_i`, `(rows, dim)`, finite; there is no intercept: add a column of
        ones for one.
      labels: The classes, `(rows,)`, with exactly two values; the larger is `y = 1`, the other -1.
      l2: The weight `lambda`, non-negative; default 0.
      start: The first iterate, a vector or a number for all entries; default 0.
      solve: Whether to find the minimum (with scikit-learn, in float64) for `optimum` and
        `optimum_value`; default False. Needs `l2 > 0`: without, there may be none. Up to
        thousands of columns.
      name: What to call it; default "logistic regression".

    Returns:
      The problem. `L = L0` is `lambda_max(A' A) / (4 n) + l2`, the largest curvature at zero and an
      upper bound of it anywhere; `L1 = 0`; `mu = l2`, a lower bound, or None without. There is no
      `M`.

    Raises:
      ValueError: `solve` finds no minimum, as `l2` is too small.

    Example:
      >>> import jax.numpy as jnp
      >>> from clipax.lab.problems import logistic_regression
      >>> problem = logistic_regression([[1.0], [3.0]], [0, 1])
      >>> print(problem.gradient(problem.start), problem.L)
      [-0.5] 1.25
      >>> print(problem.batch_gradient(problem.start, jnp.array([1])))
      [-1.5]
    """
    _validate.non_negative("l2", l2)
    l2 = float(l2)
    a, y = np.asarray(features), np.asarray(labels)
    if a.ndim != 2 or not a.size:
        raise ValueError(f"`features` must have rows and columns, got shape {a.shape}.")
    if y.shape != a.shape[:1]:
        raise ValueError(f"`labels` must have shape {a.shape[:1]}, got {y.shape}.")
    if not np.isfinite(a).all():
        raise ValueError("`features` must be finite, got an entry that is not.")
    classes = np.unique(y)
    if len(classes) != 2:
        raise ValueError(f"`labels` must have two values, got {len(classes)}.")
    signs = np.where(y == classes[1], 1.0, -1.0)
    examples = jnp.asarray(a * signs[:, None], float)
    vector, _ = check_start(start, a.shape[1])
    exact = np.asarray(examples, np.float64)
    curvature = float(np.linalg.eigvalsh(exact.T @ exact)[-1]) / (4 * len(exact)) + l2
    optimum, least = _solve(exact, signs, l2) if solve else (None, None)
    return LogisticRegression(
        name,
        vector,
        lambda x: _value(x, examples, l2),
        lambda x: _gradient(x, examples, l2),
        None if optimum is None else jnp.asarray(optimum, float),
        least,
        L=curvature,
        L0=curvature,
        L1=0.0,
        mu=l2 if l2 > 0 else None,
        L_sublevel=curvature if not np.any(np.asarray(vector)) else None,
        examples=examples,
        l2=l2,
    )


def _solve(examples: np.ndarray, signs: np.ndarray, l2: float) -> tuple[np.ndarray, float]:
    """Find the minimiser and the minimum, in float64."""
    from sklearn.linear_model import LogisticRegression as Solver

    if l2 <= 0:
        raise ValueError(f"`l2` must be positive for `solve`, got {l2!r}.")
    solver = Solver(
        C=1 / (len(examples) * l2), fit_intercept=False, solver="newton-cholesky", tol=1e-10
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the solution is checked below
        x = solver.fit(examples * signs[:, None], signs).coef_[0]
    margins = examples @ x
    weights = np.exp(-np.logaddexp(0, margins))
    slope = l2 * x - weights @ examples / len(examples)
    if not slope @ slope <= 2e-12 * l2:  # then the value is within 1e-12 of the smallest
        raise ValueError(f"`l2` must be larger for a minimum to be found, got {l2!r}.")
    return x, float(np.logaddexp(0, -margins).mean() + 0.5 * l2 * x @ x)
