"""Local smoothness along the path of training."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from clipax import _validate
from clipax._typing import Array
from clipax.diagnostics._smoothness_fit import SmoothnessFit, fit_smoothness
from clipax.measure import global_norm

__all__ = ["LocalSmoothness", "SmoothnessRecorder", "difference", "local_smoothness"]

GradFun = Callable[..., Any]
"""From parameters and a batch to a gradient with the parameters' structure."""


class LocalSmoothness(NamedTuple):
    """What `local_smoothness` measured on one step; scalars.

    Attributes:
      smoothness: The estimate of the local smoothness; 0 where not valid.
      grad_norm: The norm of the gradient at the beginning of the step; 0 where not finite.
      valid: Whether there is an estimate: the parameters moved and all gradients were finite.
    """

    smoothness: Array
    grad_norm: Array
    valid: Array


def difference(minuend: Any, subtrahend: Any) -> Any:
    """The difference of two trees, in float32 or better."""

    def one(a: Any, b: Any) -> Array:
        a, b = jnp.asarray(a), jnp.asarray(b)
        wide = jnp.promote_types(jnp.promote_types(a.dtype, b.dtype), jnp.float32)
        return a.astype(wide) - b.astype(wide)

    return jax.tree.map(one, minuend, subtrahend)


def local_smoothness(
    grad_fun: GradFun, params: Any, new_params: Any, *args: Any, points: int = 10
) -> LocalSmoothness:
    r"""Measure how fast the gradient changes between two iterates.

    Plotted against the norm of the gradient it tells whether the smoothness grows with it, which is
    what makes a clip faster than a constant step; `fit_smoothness` gives the line.

    .. math:: \hat L = \max_{1 \le j \le N}
              \frac{\|\nabla f(x + s_j d) - \nabla f(x)\|}{s_j \|d\|}, \qquad s_j = j / N

    with :math:`x` the `params`, :math:`x + d` the `new_params`, :math:`N` the `points` and
    :math:`\nabla f` the `grad_fun`, always on the same batch.

    Args:
      grad_fun: From parameters and `args` to a gradient, a tree like the parameters; traceable.
      params: The parameters before the step.
      new_params: The parameters after it.
      *args: The batch, handed to `grad_fun` after the parameters.
      points: How many points :math:`N` of the step to look at, at least 1; default 10. It takes
        `points + 1` gradients, one after the other, so that memory does not grow.

    Returns:
      A `LocalSmoothness`. May be traced.

    Raises:
      TypeError: `points` is no integer; a leaf is not of a floating-point or complex type.
      ValueError: `points` below 1; trees of different structures.

    Notes:
      Exact on quadratics, where it is the curvature along the step. No NaN, whatever the gradients.
      Where the parameters' type rounds `x + s d`, the distance is that of the rounded point.

      The authors' code looks at the midpoint alone and divides one of the two gradients by the
      number of batches.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from clipax.diagnostics import local_smoothness
      >>> found = local_smoothness(jax.grad(lambda x: x**4), 1.0, 0.5, points=4)
      >>> print(found.smoothness, found.grad_norm)
      10.5625 4.0

    References:
      Zhang, He, Sra and Jadbabaie, "Why Gradient Clipping Accelerates Training", arXiv 1905.11881,
      section 5.
    """
    points = _validate.index("points", points, minimum=1)
    gradient = grad_fun(params, *args)
    grad_norm = global_norm(gradient)

    def visit(carry: tuple[Array, Array], share: Array) -> tuple[tuple[Array, Array], None]:
        largest, valid = carry
        point = jax.tree.map(lambda x, d: (x + share.astype(d.dtype) * d).astype(x.dtype), x, step)
        distance = global_norm(difference(point, x))
        change = global_norm(difference(grad_fun(point, *args), gradient))
        moved = distance > 0
        ratio = change / jnp.where(moved, distance, 1)
        good = moved & jnp.isfinite(ratio)
        # A point that rounding took back to the beginning of the step tells nothing.
        valid = (good | ~moved) & valid
        return (jnp.maximum(largest, jnp.where(good, ratio, 0).astype(largest.dtype)), valid), None

    x = jax.tree.map(jnp.asarray, params)
    step = difference(new_params, params)
    length = global_norm(step)
    begin = (jnp.zeros_like(length), jnp.isfinite(grad_norm) & jnp.isfinite(length))
    shares = jnp.arange(1, points + 1, dtype=length.dtype) / points
    (largest, valid), _ = lax.scan(visit, begin, shares)
    valid = valid & (length > 0)
    return LocalSmoothness(
        jnp.where(valid, largest, 0),
        jnp.where(jnp.isfinite(grad_norm), grad_norm, 0),
        valid,
    )


class SmoothnessRecorder:
    r"""Records the local smoothness along the path of a training loop.

    Call it after each step with the parameters before and after and with the step's batch; it keeps
    a few numbers on the host. Steps on which the parameters did not move, or a gradient was not
    finite, are left out and counted.

    Attributes:
      steps: How many calls there were.
      skipped: How many measurements gave nothing.

    Args:
      grad_fun: From parameters and a batch to a gradient, as for `local_smoothness`.
      points: How many points of a step to look at, at least 1; default 10.
      every: Measure every so manieth call, at least 1; default 1. A measurement takes `points + 1`
        gradients and waits for them.

    Raises:
      TypeError: `points` or `every` is no integer.
      ValueError: `points` or `every` below 1.

    Notes:
      A training step that donates its parameters leaves none to compare with: hand the recorder a
      copy.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from clipax.diagnostics import SmoothnessRecorder
      >>> gradient = jax.grad(lambda x, scale: scale * jnp.sum(x**2))
      >>> recorder, x = SmoothnessRecorder(gradient, every=2), jnp.array([4.0])
      >>> for scale in (1.0, 2.0, 3.0):
      ...     new = x - 0.125 * gradient(x, scale)
      ...     recorder(x, new, scale)
      ...     x = new
      >>> for name, values in recorder.arrays().items():
      ...     print(name, values)
      step [0 2]
      grad_norm [8. 9.]
      smoothness [2. 6.]

    References:
      Zhang, He, Sra and Jadbabaie, "Why Gradient Clipping Accelerates Training", arXiv 1905.11881.
    """

    def __init__(self, grad_fun: GradFun, *, points: int = 10, every: int = 1):
        points = _validate.index("points", points, minimum=1)
        self._every = _validate.index("every", every, minimum=1)
        self._rows: list[tuple[int, float, float]] = []
        self.steps = 0
        self.skipped = 0

        @jax.jit
        def measured(params: Any, new_params: Any, *batch: Any) -> LocalSmoothness:
            return local_smoothness(grad_fun, params, new_params, *batch, points=points)

        self._measured = measured

    def __call__(self, params: Any, new_params: Any, *batch: Any) -> None:
        """Measure the step from `params` to `new_params` on `batch`, if it is its turn."""
        step = self.steps
        self.steps += 1
        if step % self._every:
            return
        smoothness, grad_norm, valid = jax.device_get(self._measured(params, new_params, *batch))
        if valid:
            self._rows.append((step, float(grad_norm), float(smoothness)))
        else:
            self.skipped += 1

    def arrays(self) -> dict[str, np.ndarray]:
        """What was recorded: `step` (int64, from 0), `grad_norm` and `smoothness` (float64)."""
        table = np.array(self._rows, np.float64).reshape(-1, 3)
        names = ("step", "grad_norm", "smoothness")
        columns = dict(zip(names, table.T, strict=True))
        return columns | {"step": columns["step"].astype(np.int64)}

    def fit(self, **options: Any) -> SmoothnessFit:
        """The line through what was recorded; `options` as for `fit_smoothness`."""
        columns = self.arrays()
        return fit_smoothness(columns["grad_norm"], columns["smoothness"], **options)
