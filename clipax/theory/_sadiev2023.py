"""Parameters of clipped SGD under heavy-tailed noise.

A. Sadiev et al., "High-Probability Bounds for Stochastic Optimization and Variational Inequalities:
the Case of Unbounded Variance", ICML 2023, arXiv 2302.00999.
"""

from __future__ import annotations

from clipax.theory import _arguments
from clipax.theory._exact import compute_exactly, to_floats
from clipax.theory._parameters import ClipSgdParameters

__all__ = ["clip_sgd_convex"]


@compute_exactly
def clip_sgd_convex(
    *,
    smoothness: float,
    radius: float,
    sigma: float,
    alpha: float,
    steps: int,
    failure_probability: float,
    c: float = 0.5,
) -> ClipSgdParameters:
    """Compute the parameters of clipped SGD for convex objectives and a known horizon.

    For the average of the iterates, under noise that need not have a variance. Where the horizon is
    unknown, prefer the growing thresholds of `clipax.thresholds`.

        eta = min(1/(L A), R/(sigma K^(1/alpha) A^((alpha-1)/alpha))),
        lambda = R/(c eta A),
        A = ln(4 (K+1)/delta)

    with `eta` the learning rate, `lambda` the threshold, `L` the `smoothness`, `R` the `radius`,
    `sigma` the `sigma`, `K` the `steps`, `delta` the `failure_probability` and `c` the `c`.

    Args:
      smoothness: Lipschitz constant of the gradient, positive; gradient per length.
      radius: Bound of the distance from start to solution, positive; a length.
      sigma: Scale of the noise, `(E||g - grad f||^alpha)^(1/alpha)`, positive; gradient.
      alpha: Tail index of the noise, in (1, 2]: it has moments up to this order.
      steps: Number of steps of the whole run, at least 1; the paper's K.
      failure_probability: Probability with which the bound may fail, in (0, 1).
      c: Constant of the threshold, positive; default 1/2, with which the threshold is at least
        `2 L R`, so that true gradients within twice the radius pass as they are. Unverified.

    Returns:
      `ClipSgdParameters`: `learning_rate` and `threshold` for `clipax.clip_sgd`.

    Notes:
      The paper's numerical constants in the rate are left out, and `c` is chosen to go with that.

    Example:
      >>> import clipax
      >>> parameters = clipax.theory.clip_sgd_convex(
      ...     smoothness=1.0, radius=2.0, sigma=6.36, alpha=1.4, steps=1000,
      ...     failure_probability=0.01,
      ... )
      >>> print(f"{parameters.learning_rate:.6f} {parameters.threshold:.1f}")
      0.001090 284.5
      >>> optimizer = clipax.clip_sgd(**parameters._asdict())

    References:
      A. Sadiev et al., "High-Probability Bounds for Stochastic Optimization and Variational
      Inequalities: the Case of Unbounded Variance", ICML 2023, arXiv 2302.00999, the convex theorem
      of clipped SGD.
    """
    smoothness = _arguments.positive("smoothness", smoothness)
    radius = _arguments.positive("radius", radius)
    sigma, alpha = _arguments.positive("sigma", sigma), _arguments.tail_index(alpha)
    steps, c = _arguments.steps(steps), _arguments.positive("c", c)
    log = (4 * (steps + 1) / _arguments.failure_probability(failure_probability)).ln()
    noisy = sigma * steps ** (1 / alpha) * log ** ((alpha - 1) / alpha)
    rate = min(1 / (smoothness * log), radius / noisy)
    return to_floats(ClipSgdParameters, rate, radius / (c * rate * log))
