"""Per-example clipping in float64 NumPy, written from the formula: one example after the other."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

Tree = dict[str, np.ndarray]


def regression_gradient(params: Tree, x: np.ndarray, y: np.ndarray) -> tuple[float, Tree]:
    """Loss and gradient of half the squared error of a linear map with an offset."""
    error = x @ params["kernel"] + params["bias"] - y
    return float(error @ error) / 2, {"kernel": np.outer(x, error), "bias": error}


def blocks(gradient: Tree, scope: str) -> list[list[tuple[str, object]]]:
    """Groups of entries that share a norm, as names and indices."""
    if scope == "global":
        return [[(name, ...) for name in gradient]]
    if scope == "leaf":
        return [[(name, ...)] for name in gradient]
    columns = range(gradient["kernel"].shape[1])
    return [[("bias", ...)], *([("kernel", np.s_[:, column])] for column in columns)]


def clipped_sum(
    params: Tree,
    batch: tuple[np.ndarray, np.ndarray],
    factor: Callable[[float], float],
    *,
    scope: str = "global",
    mask: np.ndarray | None = None,
) -> tuple[Tree, float, np.ndarray]:
    """Sum of the scaled gradients, sum of the losses, and norms as `ExampleStats.norms` has them.

    Args:
      params: Parameters in float64.
      batch: Inputs and targets.
      factor: From the norm of a block to what it is multiplied with.
      scope: `"global"`, `"leaf"` or `"unit"`.
      mask: Which examples count.
    """
    total = {name: np.zeros_like(one) for name, one in params.items()}
    losses, norms = 0.0, []
    for place, (x, y) in enumerate(zip(*batch, strict=True)):
        loss, gradient = regression_gradient(params, x, y)
        if mask is not None and not mask[place]:
            norms.append(-1.0)
            continue
        if not all(np.isfinite(one).all() for one in gradient.values()):
            norms.append(np.inf)
            continue
        norms.append(np.sqrt(sum(np.sum(one**2) for one in gradient.values())))
        losses += loss
        for block in blocks(gradient, scope):
            size = np.sqrt(sum(np.sum(gradient[name][index] ** 2) for name, index in block))
            for name, index in block:
                total[name][index] += factor(size) * gradient[name][index]
    return total, losses, np.array(norms)


def clipped_by_place(gradients: np.ndarray, alpha: float, beta: float) -> np.ndarray:
    """PS-Clip-SGD: the mean; the k-th example's norm is at most `alpha k^(1/beta)`, k from 1."""
    total = np.zeros(gradients.shape[1])
    for place, gradient in enumerate(gradients):
        limit = alpha * (place + 1) ** (1 / beta)
        total += min(1.0, limit / float(np.linalg.norm(gradient))) * gradient
    return total / len(gradients)
