"""Quadratics and least squares without noise."""

from __future__ import annotations

import math
from typing import Any

import jax.numpy as jnp
import numpy as np

from clipax import _validate
from clipax._typing import Array
from clipax.lab.problems._problem import Problem, check_start

__all__ = ["ill_conditioned_quadratic", "quadratic", "wide_least_squares"]

# Eigenvalues below this share of the largest are rounding.
_RANK = 1e-12


def quadratic(
    curvature: Any, *, start: Any = 1.0, optimum: Any = None, name: str = "quadratic"
) -> Problem:
    """Make a quadratic with given curvature.

        f(x) = 1/2 (x - x*)^T A (x - x*)

    Args:
      curvature: `A`: a vector for a diagonal matrix, or a symmetric matrix; no eigenvalue may be
        negative.
      start: The first iterate, a vector or a number for all entries; default 1.
      optimum: `x*`, likewise; default None, zero.
      name: What to call it; default "quadratic".

    Returns:
      The problem: `L = L0` the largest eigenvalue, `mu` the smallest that is not zero, `L1 = 0`.

    Example:
      >>> from clipax.lab.problems import quadratic
      >>> problem = quadratic([1.0, 4.0], optimum=2.0)
      >>> print(problem.gradient(problem.start), problem.L, problem.mu)
      [-1. -4.] 4.0 1.0
    """
    matrix = np.asarray(curvature, np.float64)
    if not matrix.size or matrix.ndim not in (1, 2) or matrix.shape != matrix.shape[::-1]:
        raise ValueError(f"`curvature` must be a vector or square, got shape {matrix.shape}.")
    if not np.isfinite(matrix).all():
        raise ValueError("`curvature` must be finite, got an entry that is not.")
    diagonal = matrix.ndim == 1
    if not diagonal and not np.allclose(matrix, matrix.T, rtol=1e-6, atol=0):
        raise ValueError("`curvature` must be symmetric, got a matrix that is not.")
    eigenvalues = np.sort(matrix) if diagonal else np.linalg.eigvalsh(matrix)
    largest = float(eigenvalues[-1])
    if largest <= 0 or eigenvalues[0] < -_RANK * largest:
        raise ValueError(
            f"`curvature` must be positive semidefinite and not zero, got eigenvalues from "
            f"{eigenvalues[0]:g} to {largest:g}."
        )
    vector, x0 = check_start(start, len(matrix))
    centre, middle = check_start(0.0 if optimum is None else optimum, len(matrix))
    away = x0 - middle
    energy = float(away @ (matrix * away if diagonal else matrix @ away))
    curve = jnp.asarray(matrix, float)

    def gradient(x: Array) -> Array:
        A, away = curve.astype(x.dtype), x - centre.astype(x.dtype)
        return A * away if diagonal else jnp.matmul(A, away, precision="highest")

    def value(x: Array) -> Array:
        return 0.5 * jnp.sum((x - centre.astype(x.dtype)) * gradient(x))

    positive = eigenvalues[eigenvalues > _RANK * largest]
    flat = len(positive) < len(eigenvalues)
    return Problem(
        name,
        vector,
        value,
        gradient,
        _nearest(matrix, middle, x0) if flat else centre,
        0.0,
        L=largest,
        L0=largest,
        L1=0.0,
        mu=float(positive[0]),
        M=math.sqrt(largest * energy),
        L_sublevel=largest,
    )


def _nearest(matrix: np.ndarray, optimum: np.ndarray, start: np.ndarray) -> Array:
    """Find the minimiser nearest to `start`: `optimum` moved along the null space."""
    whole = np.diag(matrix) if matrix.ndim == 1 else matrix
    into_range = np.linalg.pinv(whole, rcond=_RANK, hermitian=True) @ whole
    return jnp.asarray(start + into_range @ (optimum - start), float)


def ill_conditioned_quadratic(dim: int = 20, *, start: Any = 10.0) -> Problem:
    """Make the diagonal quadratic with curvatures spaced logarithmically from `1e-3` to 1.

    A small threshold costs deterministic gradient descent only a higher-order term on it.

    Args:
      dim: The number of curvatures, at least 2; default 20.
      start: The first iterate, a vector or a number for all entries; default 10.

    Returns:
      The problem: `L = L0 = 1`, `L1 = 0`, `mu = 1e-3`.

    Example:
      >>> from clipax.lab.problems import ill_conditioned_quadratic
      >>> problem = ill_conditioned_quadratic()
      >>> problem.dim, problem.L, problem.mu
      (20, 1.0, 0.001)

    References:
      Koloskova, Hendrikx and Stich, "Revisiting Gradient Clipping", arXiv 2305.01588 (the claim).
    """
    dim = _validate.index("dim", dim, minimum=2)
    curvature = np.logspace(-3, 0, dim)
    return quadratic(curvature, start=start, name="ill-conditioned quadratic")


def wide_least_squares(
    seed: int = 0, *, rows: int = 50, columns: int = 200, scale: float = 50.0
) -> Problem:
    """Make random least squares with more unknowns than equations, which has a PL* inequality.

        f(w) = 1/2 ||A w - y||^2,  1/2 ||grad f(w)||^2 >= mu f(w)

    with entries of `A` from `N(0, 1/columns)` and `y = A wbar`, `wbar ~ N(0, I)`: the loss is a
    sum, not a mean, and can be made zero.

    Args:
      seed: Of NumPy's random generator; default 0.
      rows: The number of equations, at least 1; default 50.
      columns: The number of unknowns, more than `rows`; default 200.
      scale: The standard deviation of the entries of the first iterate, positive; default 50.

    Returns:
      The problem: `L = L0` and `mu` are the largest and the smallest eigenvalue of `A A^T` (`beta`
      and `mu`); `optimum` is the solution nearest to `start`.

    Example:
      >>> from clipax.lab.problems import wide_least_squares
      >>> problem = wide_least_squares()
      >>> problem.dim, 2 < problem.L < 3, 0.1 < problem.mu < 0.5
      (200, True, True)

    References:
      Tucat, Mukherjee et al., "Regularized Gradient Clipping Provably Trains Wide and Deep Neural
      Networks", arXiv 2404.08624.
    """
    seed = _validate.index("seed", seed, maximum=None)
    rows = _validate.index("rows", rows, minimum=1)
    columns = _validate.index("columns", columns, minimum=rows + 1)
    _validate.positive("scale", scale)
    random = np.random.default_rng(seed)
    # Rounded once, so that the constants are those of the matrix that is computed with.
    design = jnp.asarray(random.normal(size=(rows, columns)) / math.sqrt(columns), float)
    target = jnp.asarray(np.asarray(design) @ random.normal(size=columns), float)
    vector, x0 = check_start(scale * random.normal(size=columns), columns)
    A, y = np.asarray(design, np.float64), np.asarray(target, np.float64)
    eigenvalues = np.linalg.eigvalsh(A @ A.T)
    residual = A @ x0 - y
    largest = float(eigenvalues[-1])

    def residuals(w: Array) -> tuple[Array, Array]:
        matrix = design.astype(w.dtype)
        return matrix, jnp.matmul(matrix, w, precision="highest") - target.astype(w.dtype)

    def value(x: Array) -> Array:
        return 0.5 * jnp.sum(jnp.square(residuals(x)[1]))

    def gradient(x: Array) -> Array:
        matrix, left = residuals(x)
        return jnp.matmul(left, matrix, precision="highest")

    return Problem(
        f"least squares, {rows} x {columns}",
        vector,
        value,
        gradient,
        jnp.asarray(x0 - np.linalg.lstsq(A, residual, rcond=None)[0], float),
        0.0,
        L=largest,
        L0=largest,
        L1=0.0,
        mu=float(eigenvalues[0]),
        M=math.sqrt(largest * float(residual @ residual)),
        L_sublevel=largest,
    )
