"""Clipped SGD with any constant threshold: its step, and the bias that no step removes.

A. Koloskova, H. Hendrikx, S. U. Stich, "Revisiting Gradient Clipping: Stochastic bias and tight
convergence guarantees", ICML 2023, arXiv 2305.01588.
"""

from __future__ import annotations

from clipax.theory import _arguments
from clipax.theory._exact import compute_exactly, to_float, to_floats
from clipax.theory._parameters import ClipSgdParameters

__all__ = ["clip_sgd_any_threshold", "clipping_bias"]


@compute_exactly
def clip_sgd_any_threshold(
    *, l0: float, l1: float, threshold: float | None = None, constant: float = 9.0
) -> ClipSgdParameters:
    """Compute the step of clipped SGD for a constant threshold.

    For any threshold. It costs exact gradients only a term of higher order, and stochastic ones a
    bias, `clipping_bias`, that no step size removes.

        eta = 1/(9 (L_0 + c L_1)),  c = L_0/L_1 by default

    with `eta` the learning rate, `c` the `threshold`, `L_0` the `l0`, `L_1` the `l1`, and 9 the
    `constant`.

    Args:
      l0: Smoothness where the gradient vanishes, positive; gradient per length.
      l1: How fast smoothness grows with the gradient norm, positive; per length.
      threshold: Threshold on the gradient norm, positive and finite; None (default) for `l0/l1`,
        the paper's choice for convex functions and exact gradients.
      constant: The 9 above, positive; from general knowledge of the paper, unverified.

    Returns:
      `ClipSgdParameters`: `learning_rate` and `threshold` for `clipax.clip_sgd`.

    Notes:
      It allows any step up to this one; this is the largest.

    Example:
      >>> import clipax
      >>> parameters = clipax.theory.clip_sgd_any_threshold(l0=1.0, l1=0.5, threshold=18.0)
      >>> print(f"{parameters.learning_rate:.4f} {parameters.threshold}")
      0.0111 18.0
      >>> optimizer = clipax.clip_sgd(**parameters._asdict())

    References:
      A. Koloskova, H. Hendrikx, S. U. Stich, "Revisiting Gradient Clipping: Stochastic bias and
      tight convergence guarantees", ICML 2023, arXiv 2305.01588.
    """
    l0, l1 = _arguments.check_smoothness(l0, l1)
    threshold = l0 / l1 if threshold is None else _arguments.positive("threshold", threshold)
    constant = _arguments.positive("constant", constant)
    return to_floats(ClipSgdParameters, 1 / (constant * (l0 + threshold * l1)), threshold)


@compute_exactly
def clipping_bias(sigma: float, threshold: float) -> float:
    """Compute the gradient at which clipped SGD comes to rest under a skewed noise.

    The exact fixed point of an example: a lower bound of the bias that noise of this size can cause
    at any step size.

        bias = sigma^2/(4 c)  if c > sigma/2,  else sigma/2 - c/4

    with `sigma` the `sigma` and `c` the `threshold`, for `f(x) = x^2/2` and a noise that is
    `sigma/s` with probability `s^2/(1+s^2)`, else `-sigma s`: the clipped gradient has mean zero
    where the gradient is `sigma s - c s^2`. Above `sigma/2` the skewness has the largest bias,
    `s = sigma/(2 c)`; below it is `s = 1/2`, one example and not the worst, so the value falls to
    `3 sigma/8` at `c = sigma/2`.

    Args:
      sigma: Standard deviation of the noise, positive; a gradient.
      threshold: Threshold on the gradient norm, positive and finite; a gradient.

    Returns:
      The size of the gradient at the fixed point, in the units of `sigma`.

    Notes:
      The paper bounds the bias by the order of `min(sigma, sigma^2/c)`; the exact example is ours.

    Example:
      >>> from clipax import theory
      >>> [theory.clipping_bias(1.0, threshold) for threshold in (0.4, 1.0, 20.0)]
      [0.4, 0.25, 0.0125]

    References:
      A. Koloskova, H. Hendrikx, S. U. Stich, "Revisiting Gradient Clipping: Stochastic bias and
      tight convergence guarantees", ICML 2023, arXiv 2305.01588.
    """
    size, bound = _arguments.positive("sigma", sigma), _arguments.positive("threshold", threshold)
    return to_float("bias", size**2 / (4 * bound) if bound > size / 2 else size / 2 - bound / 4)
