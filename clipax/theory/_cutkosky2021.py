"""Parameters of normalised momentum on clipped gradients.

A. Cutkosky, H. Mehta, "High-probability Bounds for Non-Convex Stochastic Optimization with Heavy
Tails", NeurIPS 2021, arXiv 2106.14343.
"""

from __future__ import annotations

from clipax.theory import _arguments
from clipax.theory._exact import compute_exactly, to_floats
from clipax.theory._parameters import ClipNormalizedMomentumParameters

__all__ = ["clip_normalized_momentum_nonconvex"]


@compute_exactly
def clip_normalized_momentum_nonconvex(
    *, moment: float, alpha: float, steps: int, scale: float = 1.0
) -> ClipNormalizedMomentumParameters:
    """Compute the parameters of clipping, momentum and normalisation for non-convex objectives.

        eta = s T^(-(2 alpha-1)/(3 alpha-2)),
        c = G T^(1/(3 alpha-2)),
        1 - b = T^(-alpha/(3 alpha-2))

    with `eta` the learning rate, which is the length of every step, `c` the threshold, `b` the
    decay, `G` the `moment`, `T` the `steps` and `s` the `scale`.

    Args:
      moment: `(E||g||^alpha)^(1/alpha)` of the stochastic gradients, noise and all, or a bound of
        it; positive, a gradient.
      alpha: Order of that moment, in (1, 2]; the paper's p.
      steps: Number of steps of the whole run, at least 1.
      scale: Factor of the rate, a length, positive; default 1. The theorem gives the rate up to
        this factor: tune it.

    Returns:
      `ClipNormalizedMomentumParameters`: `learning_rate`, `threshold` and `decay` for
      `clipax.clip_normalized_momentum`.

    Notes:
      Its factors of proportionality in rate and decay are `scale` and 1.

    Example:
      >>> from clipax import theory
      >>> problem = dict(moment=3.0, alpha=2.0, steps=10_000)
      >>> parameters = theory.clip_normalized_momentum_nonconvex(**problem)
      >>> print(" ".join(f"{name}={value:.3f}" for name, value in parameters._asdict().items()))
      learning_rate=0.001 threshold=30.000 decay=0.990

    References:
      A. Cutkosky, H. Mehta, "High-probability Bounds for Non-Convex Stochastic Optimization with
      Heavy Tails", NeurIPS 2021, arXiv 2106.14343.
    """
    moment = _arguments.positive("moment", moment)
    alpha = _arguments.tail_index(alpha)
    steps = _arguments.steps(steps)
    scale = _arguments.positive("scale", scale)
    order = 3 * alpha - 2
    return to_floats(
        ClipNormalizedMomentumParameters,
        scale * steps ** (-(2 * alpha - 1) / order),
        moment * steps ** (1 / order),
        1 - steps ** (-alpha / order),
    )
