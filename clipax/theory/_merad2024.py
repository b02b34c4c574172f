"""The bias of clipping at a quantile of the gradient norm.

I. Merad, S. Gaïffas, "Robust Stochastic Optimization via Gradient Quantile Clipping", TMLR 2024,
arXiv 2309.17316.
"""

from __future__ import annotations

from clipax.theory import _arguments
from clipax.theory._exact import compute_exactly, to_float

__all__ = ["quantile_clipping_bias"]


@compute_exactly
def quantile_clipping_bias(quantile: float, sigma: float, *, order: float = 2.0) -> float:
    """Compute a bound of the bias of clipping at a quantile of the gradient norm.

        ||E[f g] - E[f] grad f|| <= (1-p)^(1-1/q) sigma_q,
        sigma_q = (E||g - grad f||^q)^(1/q)

    for the factor `f = min(1, c/||g||)` with the threshold `c` the `p`-quantile of `||g||`; `p` is
    the `quantile`, `q` the `order`. It bounds the distance of the clipped gradient from a multiple
    of the true one. Where the threshold is at least the norm of the true gradient, the bound holds
    for `||E[f g] - grad f||` as well.

    Args:
      quantile: The probability with which a gradient passes as it is, in (0, 1).
      sigma: `sigma_q`, positive; a gradient.
      order: Order of the moment, at least 1 and finite, default 2. Tail indices below 2 have no
        variance: take the tail index, or less.

    Returns:
      The bound, in the units of `sigma`.

    Notes:
      For a threshold that is the quantile itself; an estimate from a window of norms has an error
      of its own.

    Example:
      >>> from clipax import theory
      >>> theory.quantile_clipping_bias(0.75, sigma=6.0, order=2.0)
      3.0

    References:
      I. Merad, S. Gaïffas, "Robust Stochastic Optimization via Gradient Quantile Clipping", TMLR
      2024, arXiv 2309.17316.
      E. Shulgin, P. Richtárik, "On the Convergence of DP-SGD with Adaptive Clipping", 2024, arXiv
      2412.19916.
    """
    clipped = 1 - _arguments.probability("quantile", quantile)
    size, q = _arguments.positive("sigma", sigma), _arguments.order(order)
    return to_float("bound", clipped ** (1 - 1 / q) * size)
