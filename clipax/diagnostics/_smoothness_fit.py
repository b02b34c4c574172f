"""The line `L0 + L1 ||g||` through measured smoothness, with its errors."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from clipax import _validate
from clipax._typing import Scalar

__all__ = ["SmoothnessFit", "fit_smoothness"]

_LEAST = 3
_CELLS = 60
"""Trial ratios of `L1` to `L0`."""
_POLISH = 4
"""Steps of Gauss-Newton from the best of them."""
_GOLDEN = (math.sqrt(5.0) - 1.0) / 2.0
_ENTRIES = 2**22
"""Largest number of entries in a table of resamples."""


@dataclass(frozen=True)
class SmoothnessFit:
    """The result of `fit_smoothness`: a line.

    Attributes:
      l0: The constant `L0`, the smoothness where the gradient vanishes.
      l1: The slope `L1`, smoothness per unit of gradient norm.
      l0_error: Standard error of `l0`.
      l1_error: Standard error of `l1`.
      l0_interval: Confidence interval of `l0`.
      l1_interval: Confidence interval of `l1`.
      scatter: Standard deviation of the logarithm of the smoothness about the line.
      n: Number of pairs used.
      skipped: Number of pairs left out: not finite, or without smoothness.
    """

    l0: float
    l1: float
    l0_error: float
    l1_error: float
    l0_interval: tuple[float, float]
    l1_interval: tuple[float, float]
    scatter: float
    n: int
    skipped: int

    def predict(self, grad_norms: Any) -> np.ndarray:
        """Compute the line at gradient norms: `l0 + l1 * grad_norms`, float64."""
        return self.l0 + self.l1 * np.asarray(grad_norms, np.float64)


def fit_smoothness(
    grad_norms: Any,
    smoothness: Any,
    *,
    confidence: Scalar = 0.95,
    resamples: int = 1000,
    block: int | None = None,
    seed: int = 0,
) -> SmoothnessFit:
    """Fit a line to local smoothness as a function of the gradient norm.

    Smoothness and norms of one run span orders of magnitude and have relative errors, so plain
    least squares would fit only the largest values. The fit is least squares of logarithms, with
    constants that cannot be negative.

        min_{L_0, L_1 >= 0} sum_i (ln(Lhat_i) - ln(L_0 + L_1 ||g_i||))^2


    Args:
      grad_norms: The norms `||g_i||`, not negative, in the order of the steps.
      smoothness: The estimates `Lhat_i`, not negative, as many.
      confidence: Confidence of the intervals, in (0, 1); default .95.
      resamples: Number of samples that the bootstrap draws, at least 2; default 1000. The time
        grows with pairs times resamples: about 2 s for 10,000 pairs.
      block: Length of the blocks of consecutive pairs that are drawn together, at least 1, as pairs
        along a run are not independent; default None, the cube root of their number.
      seed: Seed of the bootstrap; default 0. The same arguments give the same answer.

    Returns:
      A `SmoothnessFit`. Its intervals are quantiles of the resamples.

    Raises:
      ValueError: Arrays that do not match, a negative entry, or fewer than 3 usable pairs.

    Notes:
      The height of the line is eliminated; the ratio of `L1` to `L0` is searched on a grid and
      refined, so that no start is needed and the minimum is the global one. If all norms are equal
      the constants cannot be told apart, and `l1` is 0.

    Example:
      >>> import numpy as np
      >>> from clipax.diagnostics import fit_smoothness
      >>> norms = np.logspace(-2, 2, 50)
      >>> fit = fit_smoothness(norms, 3.0 + 0.5 * norms)
      >>> print(round(fit.l0, 4), round(fit.l1, 4), fit.predict([0.0, 10.0]).round(3))
      3.0 0.5 [3. 8.]

    References:
      Zhang, He, Sra and Jadbabaie, "Why Gradient Clipping Accelerates Training", arXiv 1905.11881.
      D. N. Politis and J. P. Romano, "A Circular Block-Resampling Procedure for Stationary Data"
      (1992).
    """
    _validate.within("confidence", confidence, 0, 1, brackets="()")
    resamples = _validate.index("resamples", resamples, minimum=2)
    seed = _validate.index("seed", seed)
    norms, logs, skipped = _select_usable(grad_norms, smoothness)
    count = len(norms)
    length = math.ceil(count ** (1 / 3)) if block is None else block
    length = min(_validate.index("block", length, minimum=1), count)

    # Norms in units of the largest, so that nothing overflows or vanishes.
    unit = float(norms.max()) or 1.0
    norms = norms / unit
    grid = _make_grid(norms)
    heights = _compute_heights(norms, logs, grid)
    ratio = _find_best_ratio(norms, logs, grid, heights)
    left = _compute_heights(norms, logs, np.array([ratio]))[0]
    l0, l1 = _compute_constants(np.array([ratio]), left.mean(keepdims=True))
    random = np.random.default_rng(seed)
    at_once = max(1, _ENTRIES // count)
    parts = [
        _fit_resamples(
            norms,
            logs,
            heights,
            grid,
            _draw_weights(random, count, length, min(at_once, resamples - done)),
        )
        for done in range(0, resamples, at_once)
    ]
    l0s, l1s = np.concatenate(parts, axis=1)
    ends = (0.5 - 0.5 * float(confidence), 0.5 + 0.5 * float(confidence))
    low0, high0 = np.quantile(l0s, ends)
    low1, high1 = np.quantile(l1s / unit, ends)
    return SmoothnessFit(
        l0=float(l0[0]),
        l1=float(l1[0] / unit),
        l0_error=float(l0s.std(ddof=1)),
        l1_error=float((l1s / unit).std(ddof=1)),
        l0_interval=(float(low0), float(high0)),
        l1_interval=(float(low1), float(high1)),
        scatter=float(left.std()),
        n=count,
        skipped=skipped,
    )


def _select_usable(grad_norms: Any, smoothness: Any) -> tuple[np.ndarray, np.ndarray, int]:
    """Select pairs that are finite and positive, as norms and logarithms; count the others."""
    norms, values = (np.asarray(one, np.float64) for one in (grad_norms, smoothness))
    if norms.ndim != 1 or norms.shape != values.shape:
        raise ValueError(
            f"`smoothness` must be a vector as long as `grad_norms`, got shapes {values.shape} and "
            f"{norms.shape}."
        )
    for name, one in (("grad_norms", norms), ("smoothness", values)):
        if (one < 0).any():
            raise ValueError(f"`{name}` must be non-negative, got {one.min()}.")
    usable = np.isfinite(norms) & np.isfinite(values) & (values > 0)
    if (count := int(usable.sum())) < _LEAST:
        raise ValueError(f"`smoothness` must have at least {_LEAST} usable entries, got {count}.")
    return norms[usable], np.log(values[usable]), len(norms) - count


def _make_grid(norms: np.ndarray) -> np.ndarray:
    """List ratios of `L1` to `L0` to try: 0, values spaced logarithmically, infinity."""
    least = norms[norms > 0].min(initial=1.0)
    # Beyond these ends one of the constants makes less than a millionth of the line anywhere.
    between = np.logspace(-6, 6 - math.log10(least), _CELLS)
    return np.concatenate([[0.0], between, [math.inf]])


def _compute_heights(norms: np.ndarray, logs: np.ndarray, ratios: np.ndarray) -> np.ndarray:
    """Compute heights of points above a line of unit height, `(ratios, points)`, logarithms."""
    with np.errstate(divide="ignore", invalid="ignore"):
        shapes = np.where(
            np.isinf(ratios)[:, None], np.log(norms), np.log1p(np.outer(ratios, norms))
        )
    return logs - shapes


def _compute_constants(ratios: np.ndarray, heights: np.ndarray) -> np.ndarray:
    """Compute `L0` and `L1` from ratios and logarithms of heights, `(2, lines)`."""
    height, no_l0 = np.exp(heights), np.isinf(ratios)
    slope = np.where(no_l0, 1.0, ratios)
    return np.stack([np.where(no_l0, 0.0, height), height * slope])


def _find_best_ratio(
    norms: np.ndarray, logs: np.ndarray, grid: np.ndarray, heights: np.ndarray
) -> float:
    """Find the ratio with the least squares, by golden section about the best of the grid."""

    def cost(ratio: float) -> float:
        return float(_variance(_compute_heights(norms, logs, np.array([ratio])))[0])

    best = int(_variance(heights).argmin())
    if best in (0, len(grid) - 1):
        return float(grid[best])
    step = math.log(grid[2] / grid[1])
    low, high = math.log(grid[best]) - step, math.log(grid[best]) + step
    while high - low > 1e-10:
        inner, outer = high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)
        if cost(math.exp(inner)) <= cost(math.exp(outer)):
            high = outer
        else:
            low = inner
    return math.exp(0.5 * (low + high))


def _variance(heights: np.ndarray) -> np.ndarray:
    """Compute the variance of each row; infinite for a line that is 0 at a point."""
    passes = np.isfinite(heights).all(axis=1)
    return np.where(passes, np.where(passes[:, None], heights, 0.0).var(axis=1), math.inf)


def _draw_weights(
    random: np.random.Generator, count: int, length: int, resamples: int
) -> np.ndarray:
    """Draw blocks from a circle of points; count the draws of each, `(resamples, count)`."""
    begins = random.integers(count, size=(resamples, -(-count // length)))
    drawn = (begins[:, :, None] + np.arange(length)).reshape(resamples, -1)[:, :count] % count
    cells = drawn + count * np.arange(resamples)[:, None]
    return np.bincount(cells.ravel(), minlength=resamples * count).reshape(resamples, count)


def _fit_resamples(
    norms: np.ndarray, logs: np.ndarray, heights: np.ndarray, grid: np.ndarray, weights: np.ndarray
) -> np.ndarray:
    """Fit each resample: the best ratio of the grid, then Gauss-Newton from there."""
    passes = np.isfinite(heights).all(axis=1)
    grid, heights = grid[passes], heights[passes]
    shares = weights / weights.sum(axis=1, keepdims=True)
    # Centred rows, so that the difference of squares does not cancel.
    moved = heights - heights.mean(axis=1, keepdims=True)
    costs = shares @ np.square(moved).T - np.square(shares @ moved.T)
    best = costs.argmin(axis=1)
    means = (shares * heights[best]).sum(axis=1)
    ratios = grid[best]
    inside = (best > 0) & np.isfinite(ratios)
    if inside.any():
        ratios[inside], means[inside] = _refine(norms, logs, ratios[inside], shares[inside])
    return _compute_constants(ratios, means)


def _refine(
    norms: np.ndarray, logs: np.ndarray, ratios: np.ndarray, shares: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Refine ratios by a few steps; second, the mean heights above their lines."""
    for _ in range(_POLISH):
        scaled = np.outer(ratios, norms)
        left, slope = logs - np.log1p(scaled), scaled / (1 + scaled)
        slope = slope - (shares * slope).sum(axis=1, keepdims=True)
        bend = (shares * np.square(slope)).sum(axis=1)
        pull = (shares * slope * left).sum(axis=1)
        # Do not move where the cost is flat.
        move = np.where(bend > 1e-20, pull / np.maximum(bend, 1e-20), 0)
        ratios = ratios * np.exp(np.clip(move, -1, 1))
    return ratios, (shares * (logs - np.log1p(np.outer(ratios, norms)))).sum(axis=1)
