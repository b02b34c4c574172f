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

__all__ = ["LocalSmoothness", "SmoothnessRecorder", "local_smoothness", "subtract"]

GradFun = Callable[..., Any]
"""From parameters and a batch to a gradient with the parameters' structure."""


class LocalSmoothness(NamedTuple):
    """The result of `local_smoothness` on one step; scalars.

    Attributes:
      smoothness: The estimate of the local smoothness; 0 where not valid.
      grad_norm: The norm of the gradient at the beginning of the step; 0 where not finite.
      valid: Whether there is an estimate: the parameters moved and all gradients were finite.
    """

    smoothness: Array
    grad_norm: Array
    valid: Array


def subtract(minuend: Any, subtrahend: Any) -> Any:
    """Subtract two trees, in float32 or better."""

    def one(a: Any, b: Any) -> Array:
        a, b = jnp.asarray(a), jnp.asarray(b)
        wide = jnp.promote_types(jnp.promote_types(a.dtype, b.dtype), jnp.float32)
        return a.astype(wide) - b.astype(wide)

    return jax.tree.map(one, minuend, subtrahend)


def local_smoothness(
    grad_fun: GradFun, params: Any, new_params: Any, *args: Any, points: int = 10
) -> LocalSmoothness:
    """Measure the rate of change of the gradient between two iterates.

    Plot it against the gradient norm: if it grows with the norm, a clip is faster than a constant
    step. `fit_smoothness` fits the line.

        Lhat = max_{1 <= j <= N} ||grad f(x + s_j d) - grad f(x)||/(s_j ||d||),
        s_j = j/N

    with `x` the `params`, `x + d` the `new_params`, `N` the `points` and `grad f` the `grad_fun`,
    always on the same batch.

    Args:
      grad_fun: From parameters and `args` to a gradient, a tree like the parameters; traceable.
      params: The parameters before the step.
      new_params: The parameters after it.
      *args: The batch, passed to `grad_fun` after the parameters.
      points: Number of points `N` on the step, at least 1; default 10. It takes `points + 1`
        gradients, one after the other, so that memory does not grow.

    Returns:
      A `LocalSmoothness`. May be traced.

    Notes:
      Exact on quadratics, where it is the curvature along the step. Never NaN. Where the
      parameters' type rounds `x + s d`, the distance is that of the rounded point.

      The authors' code uses only the midpoint, and divides one of the two gradients by the number
      of batches.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from clipax.diagnostics import local_smoothness
      >>> measured = local_smoothness(jax.grad(lambda x: x**4), 1.0, 0.5, points=4)
      >>> print(measured.smoothness, measured.grad_norm)
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
        distance = global_norm(subtract(point, x))
        change = global_norm(subtract(grad_fun(point, *args), gradient))
        moved = distance > 0
        ratio = change / jnp.where(moved, distance, 1)
        good = moved & jnp.isfinite(ratio)
        # A point that rounds to the beginning of the step gives no ratio.
        valid = (good | ~moved) & valid
        return (jnp.maximum(largest, jnp.where(good, ratio, 0).astype(largest.dtype)), valid), None

    x = jax.tree.map(jnp.asarray, params)
    step = subtract(new_params, params)
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
    """Records the local smoothness along the path of a training loop.

    Call it after each step with the parameters before and after, and with the step's batch; it
    keeps a few numbers on the host. Steps without an estimate (no move, or a gradient that is not
    finite) are left out and counted.

    Attributes:
      steps: Number of calls.
      skipped: Number of measurements without an estimate.

    Args:
      grad_fun: From parameters and a batch to a gradient, as for `local_smoothness`.
      points: Number of points on a step, at least 1; default 10.
      every: Calls from one measurement to the next, at least 1; default 1. A measurement takes
        `points + 1` gradients and waits for them.

    Notes:
      A training step that donates its parameters invalidates them: give the recorder a copy.

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
      ...     print(name, values.round(4))
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
        def measure_step(params: Any, new_params: Any, *batch: Any) -> LocalSmoothness:
            return local_smoothness(grad_fun, params, new_params, *batch, points=points)

        self._measure_step = measure_step

    def __call__(self, params: Any, new_params: Any, *batch: Any) -> None:
        """Measure the step from `params` to `new_params` on `batch`, every `every` calls."""
        step = self.steps
        self.steps += 1
        if step % self._every:
            return
        smoothness, grad_norm, valid = jax.device_get(
            self._measure_step(params, new_params, *batch)
        )
        if valid:
            self._rows.append((step, float(grad_norm), float(smoothness)))
        else:
            self.skipped += 1

    def arrays(self) -> dict[str, np.ndarray]:
        """Return the record: `step` (int64, from 0), `grad_norm` and `smoothness` (float64)."""
        table = np.array(self._rows, np.float64).reshape(-1, 3)
        names = ("step", "grad_norm", "smoothness")
        columns = dict(zip(names, table.T, strict=True))
        return columns | {"step": columns["step"].astype(np.int64)}

    def fit(self, **options: Any) -> SmoothnessFit:
        """Fit the line through the record; `options` as for `fit_smoothness`."""
        columns = self.arrays()
        return fit_smoothness(columns["grad_norm"], columns["smoothness"], **options)
