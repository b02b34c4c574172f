"""The tail index of norms, and their quantiles."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp

from clipax import _validate
from clipax._statistics import _histogram
from clipax._typing import Array, Scalar
from clipax.diagnostics._states import histogram_of

__all__ = ["norm_quantiles", "tail_index"]


def tail_index(norms: Any, *, fraction: Scalar = _histogram.TAIL_FRACTION) -> Array:
    """Estimate the tail index of gradient norms.

    The index says which moments the norms have: below 2 no variance, below 1 no mean. It is Hill's
    estimator on norms in logarithmic bins, where the maximum of the likelihood has a closed form
    and the bins cost no bias.

        alphahat = 1/w ln(1 + k/(sum_{i=1}^k b_i))

    with `k` the number of norms in the tail, `b_i` how many bins of width `w = ln(2)/8` each lies
    above its beginning. The tail begins at the lowest bound of a bin above which there is at most
    the share `fraction` of the norms.

    Args:
      norms: An array of norms with steps along the last axis, non-finite entries left out. Or the
        state of an optimizer with `clipax.monitor_norms` or a threshold that remembers all norms
        (`percentile`, `tail_power`): the norms of all blocks of the first of these.
      fraction: The share of the norms that count as the tail, in (0, 1); default .05. Of the shares
        compared by `python -m benchmarks tail-index` it has the smallest mean error over the laws
        there whose error on Pareto norms stays below .1. More is steadier for few norms.

    Returns:
      The estimate, infinite without a tail: no norms, or all in one bin. Its standard deviation on
      Pareto norms is about `alpha / sqrt(fraction * steps)`. May be traced.

    Raises:
      ValueError: No norms in `norms`.

    Notes:
      From 10,000 Pareto norms of index 1.2, 1.5 or 1.8 the mean absolute error is below .1, and
      from as many of Student's t. It is biased where the power law sets in late: stable laws with
      an index near 2 look lighter, by .8 at 1.8 (`benchmarks/results/tail_index.md`). Norms whose
      scale drifts look heavier.

    Example:
      >>> import numpy as np, clipax
      >>> uniform = np.random.default_rng(0).random(10_000)
      >>> print(f"{clipax.diagnostics.tail_index(uniform ** (-1 / 1.5)):.2f}")
      1.54

    References:
      B. M. Hill, "A Simple General Approach to Inference about the Tail of a Distribution", Annals
      of Statistics 3 (1975).
    """
    _validate.within("fraction", fraction, 0, 1, brackets="()")
    return _histogram.tail_index(histogram_of(norms), fraction)


def norm_quantiles(norms: Any, quantiles: Sequence[float] = (0.5, 0.9, 0.99)) -> Array:
    """Read quantiles of gradient norms from an optimizer's state or an array.

    Args:
      norms: As for `tail_index`: the state of an optimizer that remembers norms, or an array.
      quantiles: Which quantiles, each in (0, 1].

    Returns:
      One number for each quantile along the first axis, within a factor `2^(1/16)`, 4.5 %, of the
      norm of rank `ceil(q t)` among `t`, if that lies in [2^-64, 2^64]; NaN without norms. May be
      traced.

    Raises:
      ValueError: No norms in `norms`.

    Example:
      >>> import numpy as np, clipax
      >>> print(clipax.diagnostics.norm_quantiles(np.arange(1.0, 1001.0), (0.5, 0.99)).round())
      [490. 981.]
    """
    for one in quantiles:
        _validate.within("quantiles", one, 0, 1, brackets="(]")
    histogram = histogram_of(norms)
    values = [_histogram.quantile(histogram, jnp.asarray(one, float)) for one in quantiles]
    return jnp.where(_histogram.total(histogram) > 0, jnp.stack(values), jnp.nan)
