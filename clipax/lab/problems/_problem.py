"""Test problems: a start, a value, a gradient, and proven constants."""

from __future__ import annotations

import dataclasses
import math
from typing import Any, Protocol

import jax.numpy as jnp
import numpy as np

from clipax._typing import Array

__all__ = ["Function", "Problem", "check_start"]


class Function(Protocol):
    """A pure function of a point."""

    def __call__(self, x: Array) -> Array:
        """Compute its value at `x`, a vector `(dim,)`."""
        ...


@dataclasses.dataclass(frozen=True, eq=False)
class Problem:
    """An objective to minimise, with its exact gradient and its constants.

    `value` and `gradient` are closed forms, pure functions of a vector `(dim,)` in the type of that
    vector; `jit`, `vmap` and `grad` may be put around them. Problems compare by identity, so that
    they can be static arguments of compiled functions.

    Attributes:
      name: Its name in titles.
      start: The first iterate, a vector `(dim,)` in JAX's default float type.
      value: The objective `f`.
      gradient: Its gradient.
      optimum: A minimiser; None where none is known. Where there are several it is the one that
        lies nearest to `start`, to which steps along gradients lead.
      optimum_value: The smallest value; None where it is not known.
      L: The least constant with `||grad^2 f|| <= L` everywhere, infinite where there is none (an
        upper bound where the constructor says so).
      L0: With `L1`, `||grad^2 f||<= L_0 + L_1||grad f||` everywhere. `L1 = 0` and `L0 = L` where
        the gradient is Lipschitz and no other pair is meant.
      L1: See `L0`.
      mu: The largest constant with `||grad f||^2/2 >= mu (f - f*)` everywhere that the Hessian
        gives: its smallest eigenvalue (that is not zero, where there are many minimisers). None
        where there is no positive one.
      M: The largest gradient norm where `f <= f(start)`; None where not worked out.
      L_sublevel: The largest `||grad^2 f||` there; None where not worked out.
    """

    name: str
    start: Array
    value: Function
    gradient: Function
    optimum: Array | None = None
    optimum_value: float | None = None
    L: float = math.inf
    L0: float | None = None
    L1: float | None = None
    mu: float | None = None
    M: float | None = None
    L_sublevel: float | None = None

    @property
    def dim(self) -> int:
        """The number of parameters."""
        return self.start.shape[0]


def check_start(start: Any, dim: int) -> tuple[Array, np.ndarray]:
    """Convert a start to the default float type, and to float64 for constants.

    Args:
      start: A number for all entries, or a vector.
      dim: How many entries there must be.
    """
    exact = np.asarray(start, np.float64)
    if exact.shape not in ((), (dim,)):
        raise ValueError(f"`start` must be a number or of shape ({dim},), got {exact.shape}.")
    if not np.isfinite(exact).all():
        raise ValueError(f"`start` must be finite, got {start!r}.")
    vector = jnp.asarray(np.broadcast_to(exact, (dim,)), float)
    return vector, np.asarray(vector, np.float64)
