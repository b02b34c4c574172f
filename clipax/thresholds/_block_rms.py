"""Thresholds on the root mean square of a block's entries.

N. Shazeer, M. Stern, "Adafactor: Adaptive Learning Rates with Sublinear Memory Cost", ICML 2018,
arXiv 1804.04235, section 6.
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp

from clipax._typing import Array, ScalarOrSchedule
from clipax.thresholds._base import Context, Threshold, as_threshold

__all__ = ["block_rms"]


def block_rms(threshold: ScalarOrSchedule | Threshold) -> Threshold:
    """Turn a threshold on the root mean square of a block's entries into one on its norm.

    Blocks of all sizes are then clipped at one size of their entries: a norm grows with the root of
    the number of entries, their root mean square does not.

        c = d sqrt(N),  n > c <=> rms = n/sqrt(N) > d

    with `d` the `threshold` and `N` the number of entries behind the norm.

    Args:
      threshold: Largest root mean square: a positive number (infinity: never clip), an
        `optax.Schedule` of the step count, or a `Threshold`, which is handed root mean squares.

    Returns:
      A `Threshold`; without memory unless `threshold` has one.

    Raises:
      ValueError: When used: the context does not know the sizes of the blocks.

    Example:
      >>> import jax.numpy as jnp, clipax
      >>> threshold = clipax.thresholds.block_rms(0.5)
      >>> context = clipax.thresholds.Context(count=jnp.array(0), sizes=jnp.array([4.0, 16.0]))
      >>> print(threshold.update(jnp.ones(2), threshold.init((2,)), context)[0])
      [1. 2.]

    References:
      Shazeer, Stern, "Adafactor: Adaptive Learning Rates with Sublinear Memory Cost", ICML 2018,
      arXiv 1804.04235, section 6.
    """
    inner = as_threshold(threshold)

    def update(norms: Array, state: Any, context: Context) -> tuple[Array, Any]:
        if context.sizes is None:
            raise ValueError(
                "`context` must know the sizes of the blocks: use `thresholds.block_rms` with "
                "`clipax.scale_by_norm` or a method made of it."
            )
        # A block without entries has norm zero, and any threshold will do.
        root = jnp.sqrt(jnp.maximum(jnp.asarray(context.sizes, norms.dtype), 1))
        if context.param_norms is not None:
            context = context._replace(param_norms=context.param_norms / root)
        now, state = inner.update(norms / root, state, context)
        return now * root, state

    return inner._replace(update=update)
