"""A threshold at a percentile of all norms so far ("AutoClip").

P. Seetharaman, G. Wichern, B. Pardo, J. Le Roux, "AutoClip: Adaptive Gradient Clipping for Source
Separation Networks", arXiv 2007.14469.
"""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp

from clipax import _validate
from clipax._export import exportable
from clipax._statistics import _histogram, _window
from clipax._statistics._histogram import HistogramState
from clipax._typing import Array, Scalar
from clipax.thresholds._base import Context, Threshold, follow_norms

__all__ = ["PercentileState", "percentile"]


@exportable
class PercentileState(NamedTuple):
    """State of `percentile`; each array's leading shape is that of the norms.

    Attributes:
      ordered: The first `window` norms, ascending; places that hold none yet are zero and come
        first.
      histogram: All norms so far.
    """

    ordered: Array
    histogram: HistogramState


def percentile(percentile: Scalar = 10.0, *, window: int = _validate.fixed_size(1000)) -> Threshold:
    """Make a threshold of a percentile of all norms so far ("AutoClip").

    With nine steps in ten clipped, the default, the learning rate means the same throughout, at any
    scale of gradients. Prefer it where all history is to count; `quantile` forgets old norms.

        c_t = n_{(r)},  r = ceil(p t/100)

    with `n_{(r)}` the r-th smallest of the norms of all `t` steps, this one included.

    Args:
      percentile: `p`, in [1, 100), not a share; default 10, the paper's: clips about 90 %.
      window: Up to how many norms it is exact, a concrete integer of at least 1; default 1000.

    Returns:
      A `Threshold` with a `PercentileState`: 4 `window` bytes and 4 KiB a block in float32.

    Notes:
      - Up to `window` norms one of those seen, exactly; later of a histogram: within `2^(1/16)`,
        4.5 %, for norms in [2^-64, 2^64], whose ends others count as. Ranks as for `quantile`.
      - The first step is not clipped. Norms after the first 2^31 - 1 are not remembered.
      - The paper keeps all norms; its code interpolates (`numpy.percentile`); a NaN stays for ever.

    Example:
      >>> import jax.numpy as jnp, clipax
      >>> median = clipax.thresholds.percentile(50.0)
      >>> context = clipax.thresholds.Context(jnp.array(0))
      >>> _, state = median.update(jnp.array(2.0), median.init(()), context)
      >>> print(median.update(jnp.array(100.0), state, context)[0])
      2.0

    References:
      Seetharaman, Wichern, Pardo, Le Roux, "AutoClip", MLSP 2020, arXiv 2007.14469.
    """
    # A share, such as 0.1, is taken for a percentage by mistake only.
    rule = "in [1, 100), in percent (10 for a tenth)"
    _validate.number("percentile", percentile, rule, lambda value: 1 <= value < 100)
    window = _validate.index("window", window, minimum=1)

    def init(shape: tuple[int, ...]) -> PercentileState:
        return PercentileState(jnp.zeros((*shape, window), float), _histogram.init(shape))

    def remember(state: PercentileState, norms: Array, context: Context) -> PercentileState:
        stays = (_histogram.total(state.histogram) >= window) | jnp.isinf(norms)
        # The first place holds no norm as long as there is room.
        more = _window.insert(state.ordered[..., 1:], norms)
        ordered = jnp.where(stays[..., None], state.ordered, more)
        return PercentileState(ordered, _histogram.update(state.histogram, norms))

    def read(state: PercentileState, context: Context) -> Array:
        count = _histogram.total(state.histogram)
        share = jnp.asarray(percentile / 100, float)
        place = window - count + _window.rank(share, count) - 1
        exact = _window.select(state.ordered, place)
        return jnp.where(count > window, _histogram.quantile(state.histogram, share), exact)

    return follow_norms(init, remember, read, passes_over_infinity=True)
