"""How far a figure moves with the seeds it was measured on."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.stats import t

from benchmarks.papers.claims import Interval

__all__ = ["bootstrap", "of_mean", "of_ratio"]


def bootstrap(
    statistic: Callable[..., np.ndarray],
    *samples: np.ndarray,
    level: float = 0.95,
    draws: int = 2000,
    seed: int = 0,
) -> Interval:
    """The percentile interval of a statistic over seeds that are drawn again.

    The same seeds are drawn from every sample, as one seed means the same start and the same
    batches for all methods. Few seeds make it too short: with ten of them, some 90 % of such
    intervals hold the truth.

    Args:
      statistic: From arrays with the seeds along the last axis to one number in place of that axis.
      *samples: One number a seed, in the order of the seeds.
      level: Share of the draws that lie inside.
      draws: How often.
      seed: Of the draws.

    Returns:
      The lower and the upper end, made to hold the statistic of the samples themselves.

    Raises:
      ValueError: The samples are of different lengths, or have fewer than two seeds.
    """
    arrays = [np.asarray(sample, float) for sample in samples]
    sizes = {array.shape for array in arrays}
    if len(sizes) != 1 or len(next(iter(sizes))) != 1 or next(iter(sizes))[0] < 2:
        raise ValueError(f"Samples must have one number each for two or more seeds, got {sizes}.")
    (size,) = next(iter(sizes))
    picks = np.random.default_rng(seed).integers(size, size=(draws, size))
    drawn = np.asarray(statistic(*(array[picks] for array in arrays)))
    if drawn.shape != (draws,):
        raise ValueError(f"The statistic must reduce the last axis, got shape {drawn.shape}.")
    measured = float(statistic(*arrays))
    low, high = np.quantile(drawn, ((1 - level) / 2, (1 + level) / 2))
    return min(float(low), measured), max(float(high), measured)


def of_mean(values: np.ndarray, level: float = 0.95) -> Interval:
    """Student's interval of a mean: for few seeds, of which a bootstrap makes too little.

    Args:
      values: One number a seed, such as the difference of two methods on it.
      level: Share of such intervals that hold the mean, where the numbers are normal.

    Returns:
      The lower and the upper end.

    Raises:
      ValueError: There are fewer than two numbers, or more than one axis.
    """
    values = np.asarray(values, float)
    if values.ndim != 1 or len(values) < 2:
        raise ValueError(f"Values must be two or more numbers, got shape {values.shape}.")
    error = values.std(ddof=1) / np.sqrt(len(values))
    room = t.ppf((1 + level) / 2, len(values) - 1) * error
    return float(values.mean() - room), float(values.mean() + room)


def of_ratio(over: np.ndarray, under: np.ndarray) -> tuple[float, Interval]:
    """The geometric mean of the ratio of two figures on the same seeds, and its interval.

    Args:
      over: A positive number a seed.
      under: Likewise, with the same start and the same batches.

    Returns:
      The mean, and the ends of Student's interval.

    Raises:
      ValueError: As for `of_mean`.
    """
    logs = np.log(np.asarray(over) / np.asarray(under))
    low, high = np.exp(of_mean(logs))
    return float(np.exp(logs.mean())), (float(low), float(high))
