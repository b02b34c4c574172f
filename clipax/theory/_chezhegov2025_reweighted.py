"""Parameters of the reweighted, clipped AdaGrad-Norm with delay.

S. Chezhegov et al., "Gradient Clipping Improves AdaGrad when the Noise Is Heavy-Tailed", 2024, the
first version of arXiv 2406.04443.
"""

from __future__ import annotations

from clipax.theory import _arguments
from clipax.theory._chezhegov2025 import Noise, check_constants, compute_convex
from clipax.theory._exact import compute_exactly, to_floats
from clipax.theory._parameters import ClipRadagradNormParameters

__all__ = ["clip_radagrad_norm_convex"]


@compute_exactly
def clip_radagrad_norm_convex(
    *,
    smoothness: float,
    radius: float,
    sigma: float,
    alpha: float,
    steps: int,
    failure_probability: float,
    b_init: float = 1.0,
    c1: float = 1.0,
    c2: float = 4.0,
) -> ClipRadagradNormParameters:
    """Compute the parameters of Clip-RAdaGradD for convex objectives.

    The small weight of new gradients replaces the large first scale of `clip_adagrad_norm_convex`:
    the iterates are the same for any first scale.

        gamma = b_{-1} min(C_1/(L A), C_2 R/(sigma (K+1)^(1/alpha) A^((alpha-1)/alpha))),
        c = C_2 R b_{-1}/(gamma A),
        w = gamma^2/R^2,
        A = ln(4 (K+1)/delta)

    with `gamma` the learning rate, `c` the threshold, `w` the reweighting, `b_{-1}` the `b_init`,
    `L` the `smoothness`, `R` the `radius`, `sigma` the `sigma`, `K+1` the `steps`, `delta` the
    `failure_probability`, `C_1` and `C_2` the `c1` and `c2`.

    Args:
      smoothness: Lipschitz constant of the gradient, positive; gradient per length.
      radius: Bound of the distance from start to solution, positive; a length.
      sigma: Scale of the noise, `(E||g - grad f||^alpha)^(1/alpha)`, positive; gradient.
      alpha: Tail index of the noise, in (1, 2]: it has moments up to this order.
      steps: Number of steps of the whole run, at least 1; the paper's K + 1.
      failure_probability: Probability with which the bound may fail, in (0, 1).
      b_init: The first scale, positive, default 1. It only sets the unit of the rate.
      c1: Constant of the rate, positive; default 1. The paper's constants are not known here.
      c2: Constant of the threshold, at least `4 c1`; default 4.

    Returns:
      `ClipRadagradNormParameters`: keyword arguments of `clipax.clip_radagrad_norm`.

    Notes:
      `w = gamma^2/R^2` is from general knowledge of the first version, unverified; rate and
      threshold are those of the later version's convex theorem, with its constants `c1` and `c2`
      of our naming.

    Example:
      >>> from clipax import theory
      >>> problem = dict(smoothness=1.0, radius=2.0, sigma=6.36, alpha=1.4, steps=1001)
      >>> ours = theory.clip_radagrad_norm_convex(**problem, failure_probability=0.01)
      >>> print(f"{ours.learning_rate:.6f} {ours.threshold:.1f} {ours.reweight:.3g}")
      0.004357 142.3 4.75e-06

    References:
      S. Chezhegov et al., "Gradient Clipping Improves AdaGrad when the Noise Is Heavy-Tailed",
      2024, arXiv 2406.04443, first version.
    """
    noise = Noise(sigma, alpha, steps, failure_probability)
    length, scale = _arguments.positive("radius", radius), _arguments.positive("b_init", b_init)
    ratio, threshold = compute_convex(smoothness, length, noise, check_constants(c1, c2), None)
    rate = ratio * scale
    return to_floats(ClipRadagradNormParameters, rate, threshold, scale, (rate / length) ** 2)
