"""The similar triangles method in NumPy, from the paper's formulas, and exact means of its gaps.

Independent of clipax. On a quadratic an unclipped method is linear in the noise, so that the mean
of its gap follows from the first two moments, whatever the law.
"""

from __future__ import annotations

import numpy as np

__all__ = ["mean_gap_of_descent", "mean_gap_of_triangles", "triangles"]


def triangles(
    curvature: np.ndarray, start: np.ndarray, noise: np.ndarray, *, a: float, clip_constant: float
) -> np.ndarray:
    """The sequence y on `sum(curvature x^2)/2`, smoothness 1, a row a step."""
    y = z = start
    total, outputs = 0.0, []
    for k, disturbance in enumerate(noise):
        alpha = (k + 2) / (2 * a)
        x = (total * y + alpha * z) / (total + alpha)
        gradient = curvature * x + disturbance
        norm = np.sqrt(np.sum(gradient**2))
        z = z - alpha * min(1.0, clip_constant / alpha / norm) * gradient
        y = (total * y + alpha * z) / (total + alpha)
        total += alpha
        outputs.append(y)
    return np.array(outputs)


def mean_gap_of_triangles(curvature: np.ndarray, a: float, deviation: float, steps: int) -> float:
    """Mean of the gap at y, unclipped, from ones, by the moments of (y, z) per coordinate."""
    mean = np.ones((len(curvature), 2))
    covariance = np.zeros((len(curvature), 2, 2))
    total = 0.0
    for k in range(steps):
        alpha = (k + 2) / (2 * a)
        share = alpha / (total + alpha)
        # x = (1 - share) y + share z; z -= alpha (curvature x + noise); y like x, of the new z.
        matrix = np.zeros((len(curvature), 2, 2))
        matrix[:, 1, 0] = -alpha * curvature * (1 - share)
        matrix[:, 1, 1] = 1 - alpha * curvature * share
        matrix[:, 0] = share * matrix[:, 1]
        matrix[:, 0, 0] += 1 - share
        push = -alpha * deviation * np.array([share, 1.0])
        mean = np.einsum("nij,nj->ni", matrix, mean)
        covariance = matrix @ covariance @ matrix.swapaxes(1, 2) + np.outer(push, push)
        total += alpha
    return float(curvature @ (mean[:, 0] ** 2 + covariance[:, 0, 0]) / 2)


def mean_gap_of_descent(curvature: np.ndarray, rate: float, deviation: float, steps: int) -> float:
    """Mean of the gap of descent with a constant rate, from ones."""
    keep = (1 - rate * curvature) ** 2
    noise = (rate * deviation) ** 2 * (1 - keep**steps) / (1 - keep)
    return float(curvature @ (keep**steps + noise) / 2)
