"""The threshold at which clipping helps most, read off the last norms.

N. Marshall, K. L. Xiao, A. Agarwala, C. Paquette, "To Clip or not to Clip: the Dynamics of SGD with
Gradient Clipping in High-Dimensions", arXiv 2406.11733.
"""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
from jax import lax

from clipax import _validate
from clipax._export import exportable
from clipax._statistics import _window
from clipax._statistics._window import WindowState
from clipax._typing import Array, Scalar
from clipax.thresholds._base import Context, Threshold, is_seen, keep_rows, raise_to_normal

__all__ = ["MaxCccState", "max_ccc"]

# Norms that must lie within a threshold before it is taken for an estimate.
_LEAST_COUNT = 10
# The root of the criterion must exceed 1 by this, or by the bound on rounding if that is more.
_MARGIN = 5e-10


@exportable
class MaxCccState(NamedTuple):
    """State of `max_ccc`.

    Attributes:
      window: The last norms.
      fraction: Share of them within the threshold; 1 where nothing clips.
    """

    window: WindowState
    fraction: Array


def max_ccc(*, window: int = _validate.fixed_size(500), min_fraction: Scalar = 0.1) -> Threshold:
    """Make a threshold where the comparison criterion of clipping is largest.

    The criterion (CCC) is the factor by which clipping reduces a step's noise if the rate makes up
    for its bias (`norms.max_ccc_clip`). For unknown thresholds, where no clip at all may be best.

        c = argmax_c F(c)^2 mean(n^2)/mean(min(n^2, c^2)),
        F(c) = share of the norms n_i <= c

    over the last `window` norms `n_i`, this one included, the candidates for `c` too; bars are
    means. Nothing is clipped (an infinite `c`) where the largest value is at most 1.

    Args:
      window: How many norms are remembered, a concrete integer of at least 20; default 500.
      min_fraction: Smallest share of the norms within the threshold, in (0, 1]; default .1.

    Returns:
      A `Threshold` with a `MaxCccState`, twice `window` numbers a block.

    Notes:
      - All candidates are compared, exactly. A norm of 1e30 neither overflows nor hides the others.
      - To be taken, a maximum must exceed 1 by 1e-9, in float32 by the rounding errors, 2e-5. At
        least 10 norms of the window lie within a threshold: the first ten steps are never clipped.
      - Without `min_fraction` a single small norm would often be taken by chance. For gradients of
        one entry, near zero more often than norms of many, the choice often falls on this bound.
      - The paper has `mu^2/nu` of the residual of streaming least squares, of known distribution;
        the empirical form on norms, `min_fraction` and the least number of norms are ours.

    Example:
      >>> import jax.numpy as jnp, clipax
      >>> threshold = clipax.thresholds.max_ccc(window=20)
      >>> context, state = clipax.thresholds.Context(jnp.array(0)), threshold.init(())
      >>> for norm in [1.0] * 19 + [100.0]:
      ...     now, state = threshold.update(jnp.array(norm), state, context)
      >>> print(now, state.fraction)
      1.0 0.95

    References:
      Marshall et al., "To Clip or not to Clip", arXiv 2406.11733.
    """
    window = _validate.index("window", window, minimum=2 * _LEAST_COUNT)
    _validate.within("min_fraction", min_fraction, 0, 1, brackets="(]")

    def init(shape: tuple[int, ...]) -> MaxCccState:
        return MaxCccState(_window.init(shape, window), jnp.ones(shape, float))

    def update(norms: Array, state: MaxCccState, context: Context) -> tuple[Array, MaxCccState]:
        seen = keep_rows(is_seen(norms), _window.update(state.window, norms), state.window)
        share = jnp.asarray(min_fraction, seen.ordered.dtype)
        least = jnp.maximum(_window.rank(share, seen.filled), _LEAST_COUNT)
        threshold, fraction = _find_best(seen.ordered, seen.filled, least)
        return raise_to_normal(threshold).astype(norms.dtype), MaxCccState(seen, fraction)

    return Threshold(init, update, keeps_zeros_out=True)


def _find_best(values: Array, count: Array, least: Array) -> tuple[Array, Array]:
    """Find the best threshold, and the share of the norms within it.

    Args:
      values: Norms in ascending order, the last `count` of them.
      count: Number of norms.
      least: Smallest number of norms within a threshold.
    """
    window = values.shape[-1]
    beyond = window - 1 - jnp.arange(window, dtype=jnp.int32)
    inside = count[..., None] - beyond
    # The root of the criterion at c = x_k is J_m / J_k with J_k = x_k/k sqrt(s_k/x_k^2), where
    # s_k = x_1^2 + ... + x_k^2 + (m - k) x_k^2. Equal norms: the last of them has the smallest J.
    squares = _sum_relative_squares(values) + beyond.astype(values.dtype)
    noise = values / jnp.maximum(inside, 1).astype(values.dtype) * jnp.sqrt(squares)
    noise = jnp.minimum(noise, jnp.finfo(values.dtype).max)
    unclipped = _window.select(noise, jnp.full_like(count, window - 1))
    noise = jnp.where((inside >= least[..., None]) & (values > 0), noise, jnp.inf)
    margin = max(_MARGIN, 64 * float(jnp.finfo(values.dtype).eps))
    helps = jnp.min(noise, axis=-1) < unclipped * (1 - margin)
    place = jnp.argmin(noise, axis=-1).astype(jnp.int32)
    best = count - (window - 1 - place)
    share = best.astype(values.dtype) / jnp.maximum(count, 1).astype(values.dtype)
    threshold = jnp.where(helps, _window.select(values, place), jnp.inf)
    return threshold, jnp.where(helps, share, 1)


def _sum_relative_squares(values: Array) -> Array:
    """Compute `(x_1^2 + ... + x_k^2) / x_k^2` for ascending x: `a_k = a_(k-1) r_k^2 + 1`.

    With `r_k = x_(k-1)/x_k`; ratios alone are squared, so that nothing overflows.
    """
    before = jnp.concatenate([jnp.zeros_like(values[..., :1]), values[..., :-1]], axis=-1)
    positive = values > 0
    ratio = jnp.where(positive, jnp.minimum(before / jnp.where(positive, values, 1), 1), 0)

    def then(first: tuple[Array, Array], second: tuple[Array, Array]) -> tuple[Array, Array]:
        return first[0] * second[0], first[1] * second[0] + second[1]

    return lax.associative_scan(then, (ratio**2, jnp.ones_like(ratio)), axis=-1)[1]
