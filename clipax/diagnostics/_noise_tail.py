"""The noise of minibatch gradients at a fixed point, and how heavy its tail is."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from clipax._typing import Array
from clipax.diagnostics._smoothness import subtract
from clipax.measure import global_norm

__all__ = ["TailShares", "gradient_noise", "tail_shares"]

_LEAST = 4
# The upper quartile of a normal law, in standard deviations: the fences lie at 4 and 7 times it.
_QUARTILE = 0.6744897501960817


def gradient_noise(grad_fun: Callable[..., Any], params: Any, batches: Iterable[Any]) -> np.ndarray:
    """Measure the distances of minibatch gradients at one point from their mean.

        ||g_i - gbar||,  gbar = 1/n sum_{i=1}^n g_i

    It iterates over the batches twice, first for the mean, so that memory holds the mean and one
    gradient.

    Args:
      grad_fun: From parameters and a batch to a gradient; traceable.
      params: The parameters, the same for all batches.
      batches: The batches, which can be iterated over twice, such as a list. A tuple is unpacked
        into arguments of `grad_fun`, any other batch is one argument.

    Returns:
      The norms in the batches' order, float64. A gradient that is not finite has an infinite norm
      and is left out of the mean.

    Raises:
      TypeError: `batches` is an iterator, which can be used once.
      ValueError: The second time there are more or fewer batches.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from clipax.diagnostics import gradient_noise
      >>> gradient = jax.grad(lambda x, shift: jnp.sum((x - shift) ** 2) / 2)
      >>> print(gradient_noise(gradient, jnp.zeros(1), [1.0, 2.0, 6.0]))
      [2. 1. 3.]

    References:
      Chezhegov et al., "Clipping Improves Adam-Norm and AdaGrad-Norm when the Noise Is
      Heavy-Tailed", arXiv 2406.04443 (the figure of the gradients' noise).
    """
    if isinstance(batches, Iterator):
        raise TypeError(f"`batches` must be such that it can be gone through twice, got {batches}.")

    @jax.jit
    def update_mean(mean: Any, count: Array, params: Any, *batch: Any) -> tuple[Any, Array]:
        gradient = grad_fun(params, *batch)
        finite = jnp.isfinite(global_norm(gradient))
        count = count + finite
        share = finite / jnp.maximum(count, 1)

        def toward(old: Array, change: Array) -> Array:
            return jnp.where(finite, old + share.astype(old.real.dtype) * change, old)

        return jax.tree.map(toward, mean, subtract(gradient, mean)), count

    @jax.jit
    def measure_distance(mean: Any, params: Any, *batch: Any) -> Array:
        return global_norm(subtract(grad_fun(params, *batch), mean))

    mean, count, seen = None, jnp.zeros((), int), 0
    for batch in batches:
        parts = batch if isinstance(batch, tuple) else (batch,)
        if mean is None:
            mean = jax.tree.map(_zeros, jax.eval_shape(grad_fun, params, *parts))
        mean, count = update_mean(mean, count, params, *parts)
        seen += 1
    norms = [
        measure_distance(mean, params, *(batch if isinstance(batch, tuple) else (batch,)))
        for batch in batches
    ]
    if len(norms) != seen:
        raise ValueError(
            f"`batches` must be the same the second time, got {seen}, then {len(norms)}."
        )
    distances = np.array(jax.device_get(norms), np.float64)
    return np.where(np.isfinite(distances), distances, np.inf)


def _zeros(leaf: Any) -> Array:
    return jnp.zeros(leaf.shape, jnp.promote_types(leaf.dtype, jnp.float32))


@dataclass(frozen=True)
class TailShares:
    """The result of `tail_shares`: shares of outliers.

    Attributes:
      moderate: Share above the third quartile plus 1.5 interquartile ranges.
      extreme: Share above the third quartile plus 3 interquartile ranges.
      relative_moderate: `moderate` in units of a normal law's share, .0034883.
      relative_extreme: `extreme` in units of a normal law's share, 1.17097e-6.
      n: Number of norms used.
      skipped: Number of norms left out as not finite.
    """

    moderate: float
    extreme: float
    relative_moderate: float
    relative_extreme: float
    n: int
    skipped: int


def tail_shares(norms: Any) -> TailShares:
    """Count outliers among the norms of gradient noise, and compare with a normal law.

        P(n > Q_3 + 1.5 (Q_3 - Q_1)),  P(n > Q_3 + 3 (Q_3 - Q_1))

    For a normal law these are .0035 and 1.2e-6. Ratios far above 1 indicate a heavy tail; one
    extreme norm among `n` already gives a ratio of `854,000 / n`.

    Args:
      norms: The norms, such as those of `gradient_noise`: a vector; entries that are not finite are
        left out.

    Returns:
      A `TailShares`.

    Raises:
      ValueError: Not a vector; fewer than 4 finite entries.

    Example:
      >>> import numpy as np
      >>> from clipax.diagnostics import tail_shares
      >>> shares = tail_shares([1, 2, 3, 4, 5, 6, 7, 8, 20, 100])
      >>> print(shares.moderate, shares.extreme, round(shares.relative_moderate, 1))
      0.2 0.1 57.3

    References:
      Chezhegov et al., "Clipping Improves Adam-Norm and AdaGrad-Norm when the Noise Is
      Heavy-Tailed", arXiv 2406.04443 (the figure of the gradients' noise).
    """
    values = np.asarray(norms, np.float64)
    if values.ndim != 1:
        raise ValueError(f"`norms` must be a vector, got an array of shape {values.shape}.")
    finite = values[np.isfinite(values)]
    if len(finite) < _LEAST:
        raise ValueError(f"`norms` must have at least {_LEAST} finite entries, got {len(finite)}.")
    lower, upper = np.quantile(finite, (0.25, 0.75))
    shares = [float((finite > upper + reach * (upper - lower)).mean()) for reach in (1.5, 3.0)]
    normal = [0.5 * math.erfc(times * _QUARTILE / math.sqrt(2.0)) for times in (4, 7)]
    return TailShares(
        shares[0],
        shares[1],
        shares[0] / normal[0],
        shares[1] / normal[1],
        len(finite),
        len(values) - len(finite),
    )
