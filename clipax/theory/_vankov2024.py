"""Tighter steps for functions whose smoothness grows with the gradient.

D. Vankov, A. Rodomanov, A. Nedich, L. Sankar, S. U. Stich, "Optimizing (L0, L1)-Smooth Functions by
Gradient Methods", arXiv 2410.10800.
"""

from __future__ import annotations

from clipax.theory import _arguments
from clipax.theory._exact import compute_exactly, to_floats
from clipax.theory._parameters import ClipSgdParameters, NormalizedSgdParameters

__all__ = ["clip_sgd_tight", "normalized_sgd_tight"]


@compute_exactly
def normalized_sgd_tight(*, l0: float, l1: float) -> NormalizedSgdParameters:
    """Compute the parameters of normalised gradient descent under (L0, L1)-smoothness.

    For exact gradients; the step adapts smoothly to the gradient norm.

        h = 1/(L_0 + 3/2 L_1 n) = eta/(n + epsilon),  eta = 2/(3 L_1),  epsilon = 2 L_0/(3 L_1)

    for the step size `h` at gradient norm `n`, with `L_0` the `l0` and `L_1` the `l1`.

    Args:
      l0: Smoothness where the gradient vanishes, positive; gradient per length.
      l1: How fast smoothness grows with the gradient norm, positive; per length.

    Returns:
      `NormalizedSgdParameters`: `learning_rate` and `eps` for `clipax.normalized_sgd`.

    Notes:
      The paper's step, written as a normalised step.

    Example:
      >>> import clipax
      >>> parameters = clipax.theory.normalized_sgd_tight(l0=3.0, l1=2.0)
      >>> print(f"{parameters.learning_rate:.4f} {parameters.eps:.4f}")
      0.3333 1.0000
      >>> optimizer = clipax.normalized_sgd(**parameters._asdict())

    References:
      D. Vankov, A. Rodomanov, A. Nedich, L. Sankar, S. U. Stich, "Optimizing (L0, L1)-Smooth
      Functions by Gradient Methods", arXiv 2410.10800.
    """
    l0, l1 = _arguments.check_smoothness(l0, l1)
    return to_floats(NormalizedSgdParameters, 2 / (3 * l1), 2 * l0 / (3 * l1))


@compute_exactly
def clip_sgd_tight(*, l0: float, l1: float) -> ClipSgdParameters:
    """Compute the parameters of clipped gradient descent by the tighter analysis.

    For exact gradients; five times the rate of `clip_sgd_smooth`.

        h = min(1/(2 L_0), 1/(3 L_1 n))

    for the step size `h` at gradient norm `n`, with `L_0` the `l0` and `L_1` the `l1`: the rate
    `1/(2 L_0)` and the threshold `2 L_0/(3 L_1)`.

    Args:
      l0: Smoothness where the gradient vanishes, positive; gradient per length.
      l1: How fast smoothness grows with the gradient norm, positive; per length.

    Returns:
      `ClipSgdParameters`: `learning_rate` and `threshold` for `clipax.clip_sgd`.

    Notes:
      The paper's step, written as a clip.

    Example:
      >>> from clipax import theory
      >>> theory.clip_sgd_tight(l0=2.0, l1=0.5)
      ClipSgdParameters(learning_rate=0.25, threshold=2.6666666666666665)

    References:
      D. Vankov, A. Rodomanov, A. Nedich, L. Sankar, S. U. Stich, "Optimizing (L0, L1)-Smooth
      Functions by Gradient Methods", arXiv 2410.10800.
    """
    l0, l1 = _arguments.check_smoothness(l0, l1)
    return to_floats(ClipSgdParameters, 1 / (2 * l0), 2 * l0 / (3 * l1))
