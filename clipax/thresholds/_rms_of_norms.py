"""A threshold at a multiple of the root mean square of the norms.

N. Marshall, K. L. Xiao, A. Agarwala, C. Paquette, "To Clip or not to Clip: the Dynamics of SGD with
Gradient Clipping in High-Dimensions", arXiv 2406.11733.
"""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp

from clipax import _validate
from clipax._export import exportable
from clipax._statistics import _moving
from clipax._typing import Array, Scalar
from clipax.thresholds._base import Context, Threshold, follow_norms, raise_to_normal

__all__ = ["RmsOfNormsState", "rms_of_norms", "share_within"]


@exportable
class RmsOfNormsState(NamedTuple):
    """State of `rms_of_norms`; each array has the shape of the norms.

    Attributes:
      root: Root of the average of the squared norms, without bias correction.
      within: Average share of the steps whose norm lay within the threshold, likewise.
      weight: The same average of ones: the bias correction of both.
      was_low: Whether the last norm was far below the root mean square, 1 or 0.
    """

    root: Array
    within: Array
    weight: Array
    was_low: Array


def rms_of_norms(
    kappa: Scalar,
    *,
    decay: Scalar = 0.99,
    limit: Scalar | None = 10.0,
) -> Threshold:
    """Make a threshold of the root mean square of the norms.

    The one-parameter rule of the theory of clipping in high dimensions; `norms.rms_clip` makes up
    for its bias. Prefer it where norms change slowly and a window of them is too much memory.

        c_t = kappa R_t,  R_t^2 = v_t/w_t,  v_t = beta v_{t-1} + (1 - beta) min(n_t, L R_{t-1})^2,
        w_t = beta w_{t-1} + (1 - beta)

    Args:
      kappa: The threshold `kappa` in units of the root mean square, positive and finite.
      decay: Decay rate `beta` of the average, in [0, 1); default .99: some 100 steps.
      limit: Largest norm remembered as it is, `L R`; above 1, default 10; with None all are. A norm
        below `R/L^2`, if the one before was too, begins the averages anew.

    Returns:
      A `Threshold` with an `RmsOfNormsState`.

    Notes:
      - With the defaults a spike raises the threshold by a factor of at most 1.41, in the first
        steps of up to `L/sqrt(t)`; one in the very first step is forgotten after two more.
      - The norms `n` are unclipped, else the threshold would collapse for `kappa < 1`; the current
        one is included, so that there is a threshold from the first step on.
      - The paper has the root of `2 R + sigma^2`, the scale of the residual of streaming least
        squares; that this is the root mean square of norms elsewhere, average and limit are ours.

    Example:
      >>> import jax.numpy as jnp, clipax
      >>> threshold = clipax.thresholds.rms_of_norms(0.5, decay=0.0, limit=2.0)
      >>> context = clipax.thresholds.Context(jnp.array(0))
      >>> _, state = threshold.update(jnp.array(4.0), threshold.init(()), context)
      >>> print(threshold.update(jnp.array(100.0), state, context)[0])  # half of 2 times 4
      4.0

    References:
      Marshall et al., "To Clip or not to Clip", arXiv 2406.11733.
    """
    _validate.positive("kappa", kappa)
    _validate.open_unit("decay", decay)
    if limit is not None:
        _validate.number("limit", limit, "above 1", lambda value: value > 1)

    def init(shape: tuple[int, ...]) -> RmsOfNormsState:
        return RmsOfNormsState(*(jnp.zeros(shape, float) for _ in range(4)))

    def remember(state: RmsOfNormsState, norms: Array, context: Context) -> RmsOfNormsState:
        dtype = state.root.dtype
        old, new = _moving.weights(decay, dtype)
        entering = norms.astype(dtype)
        low = anew = jnp.zeros_like(entering, bool)
        if limit is not None:
            times, usual = _validate.to_float(limit, dtype), _compute_root(state)
            most = times * usual
            # One low norm may be an accident, and a spike that was the first has two behind it.
            low = entering < usual / times**2
            anew = low & (state.was_low > 0)
            entering = jnp.where(most > 0, jnp.minimum(entering, most), entering)
        kept = jnp.where(anew, 0, old)
        scale = _moving.hypot(jnp.sqrt(kept) * state.root, jnp.sqrt(new) * entering)
        # A subnormal scale counts as zero: a limit relative to it would never let it grow.
        info = jnp.finfo(dtype)
        scale = jnp.where(scale < info.smallest_normal, 0, jnp.minimum(scale, info.max))
        flag = (low & ~anew).astype(dtype)
        state = state._replace(root=scale, weight=kept * state.weight + new, was_low=flag)
        threshold = raise_to_normal(read(state, context).astype(norms.dtype))
        within = kept * state.within + new * (norms <= threshold).astype(dtype)
        return state._replace(within=within)

    def read(state: RmsOfNormsState, context: Context) -> Array:
        return _validate.to_float(kappa, state.root.dtype) * _compute_root(state)

    return follow_norms(init, remember, read)


def share_within(state: RmsOfNormsState) -> Array:
    """Compute the average share of the norms within the threshold, zero before the first step."""
    return state.within / jnp.where(state.weight > 0, state.weight, 1)


def _compute_root(state: RmsOfNormsState) -> Array:
    """Compute the root mean square of the norms so far, zero before the first step."""
    return state.root / jnp.sqrt(jnp.where(state.weight > 0, state.weight, 1))
