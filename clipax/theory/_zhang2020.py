"""Steps for functions whose smoothness grows with the gradient.

J. Zhang, T. He, S. Sra, A. Jadbabaie, "Why gradient clipping accelerates training: A theoretical
justification for adaptivity", ICLR 2020, arXiv 1905.11881.
"""

from __future__ import annotations

from clipax.theory import _arguments
from clipax.theory._exact import compute_exactly, to_floats
from clipax.theory._parameters import ClipSgdParameters, OffsetClipSgdParameters, SgdParameters

__all__ = ["clip_sgd_bounded_noise", "clip_sgd_practical", "clip_sgd_smooth", "sgd_smooth"]


@compute_exactly
def sgd_smooth(*, l0: float, l1: float, gradient_bound: float) -> SgdParameters:
    """Compute the step of gradient descent under (L0, L1)-smoothness.

    The step must suit the largest gradient of the path; `clip_sgd_smooth` avoids that.

        eta = 1/(2 (M L_1 + L_0)),
        ||grad^2 f(x)|| <= L_0 + L_1 ||grad f(x)||

    with `L_0` the `l0`, `L_1` the `l1` and `M` the `gradient_bound`.

    Args:
      l0: Smoothness where the gradient vanishes, positive; gradient per length.
      l1: How fast smoothness grows with the gradient norm, positive; per length.
      gradient_bound: Largest gradient norm on the sublevel set of the start, positive.

    Returns:
      `SgdParameters`: `learning_rate` for `optax.sgd`.

    Example:
      >>> from clipax import theory
      >>> theory.sgd_smooth(l0=1.0, l1=1.0, gradient_bound=9.0)
      SgdParameters(learning_rate=0.05)

    References:
      J. Zhang, T. He, S. Sra, A. Jadbabaie, "Why gradient clipping accelerates training: A
      theoretical justification for adaptivity", ICLR 2020, arXiv 1905.11881.
    """
    l0, l1 = _arguments.check_smoothness(l0, l1)
    bound = _arguments.positive("gradient_bound", gradient_bound)
    return to_floats(SgdParameters, 1 / (2 * (bound * l1 + l0)))


@compute_exactly
def clip_sgd_smooth(*, l0: float, l1: float) -> ClipSgdParameters:
    """Compute the parameters of clipped gradient descent under (L0, L1)-smoothness.

    For exact gradients, of which no bound is needed. Its constants are cautious: `clip_sgd_tight`
    and `clip_sgd_practical` take larger steps.

        eta = 1/(10 L_0),
        c = min(1/eta, 1/(10 L_1 eta)) = min(10 L_0, L_0/L_1)

    with `L_0` the `l0` and `L_1` the `l1`.

    Args:
      l0: Smoothness where the gradient vanishes, positive; gradient per length.
      l1: How fast smoothness grows with the gradient norm, positive; per length.

    Returns:
      `ClipSgdParameters`: `learning_rate` and `threshold` for `clipax.clip_sgd`.

    Notes:
      The first bound of the threshold, `10 L0`, limits a step to length 1 in whatever unit
      lengths are measured; where it acts (`l1` below 1/10), the result depends on that unit.

    Example:
      >>> import clipax
      >>> parameters = clipax.theory.clip_sgd_smooth(l0=2.0, l1=1.0)
      >>> parameters
      ClipSgdParameters(learning_rate=0.05, threshold=2.0)
      >>> optimizer = clipax.clip_sgd(**parameters._asdict())

    References:
      J. Zhang, T. He, S. Sra, A. Jadbabaie, "Why gradient clipping accelerates training: A
      theoretical justification for adaptivity", ICLR 2020, arXiv 1905.11881, Theorem 3.
    """
    l0, l1 = _arguments.check_smoothness(l0, l1)
    return to_floats(ClipSgdParameters, 1 / (10 * l0), min(10 * l0, l0 / l1))


@compute_exactly
def clip_sgd_bounded_noise(
    *, l0: float, l1: float, noise_bound: float, steps: int
) -> OffsetClipSgdParameters:
    """Compute the parameters of clipped SGD under (L0, L1)-smoothness and bounded noise.

        eta = min(1/(20 L_0), 1/(128 L_1 tau), 1/sqrt(T)),
        h = min(eta, 1/(16 L_1 (n + tau)))

    for the step size `h` at gradient norm `n`, with `L_0` the `l0`, `L_1` the `l1`, `tau` the
    `noise_bound` and `T` the `steps`. This is `clipax.clip_sgd` with the threshold `1/(16 L_1 eta)`
    and the offset `tau`.

    Args:
      l0: Smoothness where the gradient vanishes, positive; gradient per length.
      l1: How fast smoothness grows with the gradient norm, positive; per length.
      noise_bound: Largest norm of the gradient noise, positive; no heavy tails.
      steps: Number of steps of the whole run, at least 1.

    Returns:
      `OffsetClipSgdParameters`: `learning_rate`, `threshold` and `offset` for `clipax.clip_sgd`.

    Notes:
      The print has a further `eta` in the denominator of the second step size, `1/(16 eta L1 (n +
      tau))`, which does not fit the units; it is left out here. `1/sqrt(T)` is as printed: a step
      size in whatever units it is measured.

    Example:
      >>> import clipax
      >>> parameters = clipax.theory.clip_sgd_bounded_noise(
      ...     l0=1.0, l1=0.125, noise_bound=1.0, steps=10_000
      ... )
      >>> parameters
      OffsetClipSgdParameters(learning_rate=0.01, threshold=50.0, offset=1.0)
      >>> optimizer = clipax.clip_sgd(**parameters._asdict())

    References:
      J. Zhang, T. He, S. Sra, A. Jadbabaie, "Why gradient clipping accelerates training: A
      theoretical justification for adaptivity", ICLR 2020, arXiv 1905.11881, the stochastic
      theorem.
    """
    l0, l1 = _arguments.check_smoothness(l0, l1)
    noise_bound = _arguments.positive("noise_bound", noise_bound)
    root = _arguments.steps(steps).sqrt()
    rate = min(1 / (20 * l0), 1 / (128 * l1 * noise_bound), 1 / root)
    return to_floats(OffsetClipSgdParameters, rate, 1 / (16 * l1 * rate), noise_bound)


@compute_exactly
def clip_sgd_practical(*, l0: float, l1: float) -> ClipSgdParameters:
    """Compute the parameters of clipped gradient descent by the practical rule.

    Ten times the steps of the theorem (`clip_sgd_smooth`), without a theorem of the paper.

        h = min(1/L_0, 1/(L_1 n))

    for the step size `h` at gradient norm `n`, with `L_0` the `l0` and `L_1` the `l1`: the rate
    `1/L_0` and the threshold `L_0/L_1`.

    Args:
      l0: Smoothness where the gradient vanishes, positive; gradient per length.
      l1: How fast smoothness grows with the gradient norm, positive; per length.

    Returns:
      `ClipSgdParameters`: `learning_rate` and `threshold` for `clipax.clip_sgd`.

    Notes:
      A rule of thumb, not one of its theorems.

    Example:
      >>> from clipax import theory
      >>> theory.clip_sgd_practical(l0=16.0, l1=1.0)
      ClipSgdParameters(learning_rate=0.0625, threshold=16.0)

    References:
      J. Zhang, T. He, S. Sra, A. Jadbabaie, "Why gradient clipping accelerates training: A
      theoretical justification for adaptivity", ICLR 2020, arXiv 1905.11881.
    """
    l0, l1 = _arguments.check_smoothness(l0, l1)
    return to_floats(ClipSgdParameters, 1 / l0, l0 / l1)
