"""Streaming least squares: a fresh example at every step, and the risk in closed form."""

from __future__ import annotations

import dataclasses
import math
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from clipax import _validate
from clipax._typing import Array
from clipax.lab.problems._problem import Problem
from clipax.lab.problems._quadratic import quadratic

__all__ = ["StreamingLeastSquares", "streaming_least_squares"]


class _Samples(Protocol):
    def sample(self, key: jax.Array, shape: tuple[int, ...]) -> Array: ...


@dataclasses.dataclass(frozen=True, eq=False, kw_only=True)
class StreamingLeastSquares(Problem):
    """Least squares of which every step sees one new example.

        b = <a, theta*> + epsilon,  a ~ N(0, K),
        R(theta) = 1/2 (theta - theta*)^T K (theta - theta*)

    with `theta* = 0`, without loss of generality. `value` is the risk `R`, without the variance of
    the noise, and `gradient` its gradient, the mean of `sample_gradient` where the noise has one.

    Attributes:
      eigenvalues: The spectrum of `K`, which is diagonal, `(dim,)`; the largest is 1.
      noise: Has a method `sample(key, shape)`, such as `clipax.lab.Noise`; None for no noise.
      scale: What its variates are multiplied by to give `epsilon`.
    """

    eigenvalues: Array
    noise: _Samples | None
    scale: float

    @property
    def intrinsic_dim(self) -> float:
        """The trace of `K`: rates are divided by it, thresholds multiplied by its root."""
        return float(np.asarray(self.eigenvalues, np.float64).sum())

    def sample(self, key: jax.Array) -> tuple[Array, Array]:
        """Draw one example `a` (dim,) and its `b`, a pure function of `key`."""
        direction, error = jax.random.split(key)
        normal = jax.random.normal(direction, (self.dim,), self.eigenvalues.dtype)
        a = jnp.sqrt(self.eigenvalues) * normal
        if self.noise is None:
            return a, jnp.zeros((), a.dtype)
        return a, (self.scale * self.noise.sample(error, ())).astype(a.dtype)

    def sample_gradient(self, theta: Array, key: jax.Array) -> Array:
        """Compute the gradient of half the squared residual on one new example."""
        a, b = self.sample(key)
        a, b = a.astype(theta.dtype), b.astype(theta.dtype)
        return (jnp.sum(a * theta) - b) * a


def streaming_least_squares(
    dim: int = 500,
    *,
    exponent: float = 0.2,
    noise: _Samples | None = None,
    scale: float = 1.0,
    start: Any = None,
) -> StreamingLeastSquares:
    """Make streaming least squares whose spectrum is a power law.

        K = diag(j^(-exponent)),  j = 1, ..., dim

    Args:
      dim: The number of parameters, at least 1; default 500.
      exponent: Of the spectrum, non-negative; default .2. The largest eigenvalue is 1 whatever it
        is.
      noise: The law of the noise on the targets, with a method `sample(key, shape)`; default None,
        no noise.
      scale: What its variates are multiplied by, non-negative; default 1.
      start: The first iterate, a vector or a number for all entries; default None,
        `1 / sqrt(dim)`: then every direction has half of `1 / dim`.

    Returns:
      The problem; the parameters to be found are all zero. `L = L0 = 1`, `L1 = 0`, `mu` the
      smallest eigenvalue.

    Example:
      >>> import jax
      >>> from clipax.lab.problems import streaming_least_squares
      >>> problem = streaming_least_squares()
      >>> print(round(problem.intrinsic_dim, 3))
      179.748
      >>> problem.sample_gradient(problem.start, jax.random.key(0)).shape
      (500,)

    References:
      Marshall, Xiao, Agarwala and Paquette, "To Clip or not to Clip: the Dynamics of SGD with
      Gradient Clipping in High-Dimensions", arXiv 2406.11733.
    """
    dim = _validate.index("dim", dim, minimum=1)
    _validate.non_negative("exponent", exponent)
    _validate.non_negative("scale", scale)
    spectrum = np.arange(1, dim + 1) ** -float(exponent)
    risk = quadratic(
        spectrum,
        start=1.0 / math.sqrt(dim) if start is None else start,
        name=f"streaming least squares, exponent {exponent:g}",
    )
    known = {field.name: getattr(risk, field.name) for field in dataclasses.fields(risk)}
    return StreamingLeastSquares(
        **known, eigenvalues=jnp.asarray(spectrum, float), noise=noise, scale=float(scale)
    )
