"""Parameters of clipped AdaGrad-Norm and Adam-Norm under heavy-tailed noise.

S. Chezhegov et al., "Clipping Improves Adam-Norm and AdaGrad-Norm when the Noise Is Heavy-Tailed",
arXiv 2406.04443: the convex theorem, and the arithmetic that the others share with it.
"""

from __future__ import annotations

from decimal import Decimal
from typing import NamedTuple

from clipax import _validate
from clipax.theory import _arguments
from clipax.theory._exact import compute_exactly, to_floats
from clipax.theory._parameters import ClipAdagradNormParameters, ClipAdamNormParameters

__all__ = ["clip_adagrad_norm_convex", "clip_adam_norm_convex"]


@compute_exactly
def clip_adagrad_norm_convex(
    *,
    smoothness: float,
    radius: float,
    sigma: float,
    alpha: float,
    steps: int,
    failure_probability: float,
    b1: float | None = None,
    b_init: float | None = None,
    c1: float = 1.0,
    c2: float = 4.0,
) -> ClipAdagradNormParameters:
    """Compute the parameters of Clip-AdaGradD-Norm for convex objectives.

    For the delayed method and the average of its iterates. The theorem fixes only the ratio of the
    rate to the first scale. With a scale of 1 AdaGrad-Norm stalls, because its scale grows until
    steps vanish, so by default the rate is the radius.

        gamma/b_{-1} = min(C_1 (1-b_1)^2/(L A),
            C_2 sqrt(1-b_1) R/(sigma (K+1)^(1/alpha) A^((alpha-1)/alpha))),
        c = C_2 sqrt(1-b_1) R b_{-1}/(gamma A),  A = ln(4 (K+1)/delta)

    with `gamma` the learning rate, `c` the threshold, `b_{-1}` the `b_init`, `L` the `smoothness`,
    `R` the `radius`, `sigma` the `sigma`, `K+1` the `steps`, `delta` the `failure_probability`,
    `C_1` and `C_2` the `c1`, `c2`.

    Args:
      smoothness: Lipschitz constant of the gradient, positive; gradient per length.
      radius: Bound of the distance from start to solution, positive; a length.
      sigma: Scale of the noise, `(E||g - grad f||^alpha)^(1/alpha)`, positive; gradient.
      alpha: Tail index of the noise, in (1, 2]: it has moments up to this order.
      steps: Number of steps of the whole run, at least 1; the paper's K + 1.
      failure_probability: Probability with which the bound may fail, in (0, 1).
      b1: Decay rate of the momentum, in [0, 1); None (default) for none, the paper's AdaGrad-Norm.
      b_init: The first scale, positive; a gradient. None (default) for the one that makes the rate
        the radius, so that it grows with it. With a number the rate follows from it.
      c1: Constant of the rate, positive; default 1. The paper's constants are not known here.
      c2: Constant of the threshold, at least `4 c1`; default 4. The threshold is then at least
        `4 L R`, so that true gradients near the solution pass as they are.

    Returns:
      `ClipAdagradNormParameters`: keyword arguments of `clipax.clip_adagrad_norm`, `delay=1`
      included.

    Notes:
      The numerical constants are `c1` and `c2`, of our naming. The paper states the theorem for any
      first scale; `gamma = R` is our choice of it. There is no convex theorem without delay here.

    Example:
      >>> import clipax
      >>> parameters = clipax.theory.clip_adagrad_norm_convex(
      ...     smoothness=1.0, radius=2.0, sigma=6.36, alpha=1.4, steps=1001,
      ...     failure_probability=0.01,
      ... )
      >>> print(f"{parameters.learning_rate} {parameters.threshold:.1f} {parameters.b_init:.1f}")
      2.0 142.3 459.1
      >>> optimizer = clipax.clip_adagrad_norm(**parameters._asdict())

    References:
      S. Chezhegov et al., "Clipping Improves Adam-Norm and AdaGrad-Norm when the Noise Is
      Heavy-Tailed", arXiv 2406.04443, the convex theorem of the delayed methods.
    """
    decay, noise = check_decay(b1), Noise(sigma, alpha, steps, failure_probability)
    length = _arguments.positive("radius", radius)
    ratio, threshold = compute_convex(smoothness, length, noise, check_constants(c1, c2), decay)
    rate, scale = fix_scale(ratio, length, b_init)
    return to_floats(ClipAdagradNormParameters, rate, threshold, scale, decay, 1)


@compute_exactly
def clip_adam_norm_convex(
    *,
    smoothness: float,
    radius: float,
    sigma: float,
    alpha: float,
    steps: int,
    failure_probability: float,
    b1: float | None = 0.9,
    b_init: float | None = None,
    c1: float = 1.0,
    c2: float = 4.0,
) -> ClipAdamNormParameters:
    """Compute the parameters of Clip-AdamD-Norm for convex objectives.

    For the delayed method and the average of its iterates. It is `clip_adagrad_norm_convex` with a
    moving average of the squared norms over the whole run.

        gamma/b_{-1} = min(C_1 (1-b_1)^2/(L A),
            C_2 sqrt(1-b_1) R/(sigma (K+1)^(1/alpha) A^((alpha-1)/alpha))),
        c = C_2 sqrt(1-b_1) R b_{-1}/(gamma A),  b_2 = K/(K+1)

    with `A = ln(4 (K+1)/delta)` and symbols as in `clip_adagrad_norm_convex`.

    Args:
      smoothness: Lipschitz constant of the gradient, positive; gradient per length.
      radius: Bound of the distance from start to solution, positive; a length.
      sigma: Scale of the noise, positive; gradient.
      alpha: Tail index of the noise, in (1, 2].
      steps: Number of steps of the whole run, at least 1; the paper's K + 1.
      failure_probability: Probability with which the bound may fail, in (0, 1).
      b1: Decay rate of the momentum, in [0, 1); default .9, as `clipax.clip_adam_norm`; None for
        none.
      b_init: The first scale, as for `clip_adagrad_norm_convex`.
      c1: Constant of the rate, as for `clip_adagrad_norm_convex`.
      c2: Constant of the threshold, at least `4 c1`; default 4.

    Returns:
      `ClipAdamNormParameters`: keyword arguments of `clipax.clip_adam_norm`, `delay=1` included.

    Example:
      >>> import clipax
      >>> parameters = clipax.theory.clip_adam_norm_convex(
      ...     smoothness=1.0, radius=2.0, sigma=6.36, alpha=1.4, steps=1000,
      ...     failure_probability=0.01,
      ... )
      >>> parameters.learning_rate, parameters.b1, parameters.b2, parameters.delay
      (2.0, 0.9, 0.999, 1)
      >>> optimizer = clipax.clip_adam_norm(**parameters._asdict())

    References:
      S. Chezhegov et al., "Clipping Improves Adam-Norm and AdaGrad-Norm when the Noise Is
      Heavy-Tailed", arXiv 2406.04443, the convex theorem of the delayed methods.
    """
    decay, noise = check_decay(b1), Noise(sigma, alpha, steps, failure_probability)
    length = _arguments.positive("radius", radius)
    ratio, threshold = compute_convex(smoothness, length, noise, check_constants(c1, c2), decay)
    rate, scale = fix_scale(ratio, length, b_init)
    return to_floats(ClipAdamNormParameters, rate, threshold, scale, decay, noise.b2, 1)


class Noise:
    """The noise and the run, checked, and the logarithm A of the theorems."""

    def __init__(self, sigma: float, alpha: float, steps: int, failure_probability: float) -> None:
        self.sigma = _arguments.positive("sigma", sigma)
        self.alpha = _arguments.tail_index(alpha)
        self.steps = _arguments.steps(steps)
        self.failure_probability = _arguments.failure_probability(failure_probability)

    @property
    def log(self) -> Decimal:
        """`ln(4 (K+1)/delta)`."""
        return (4 * self.steps / self.failure_probability).ln()

    @property
    def b2(self) -> Decimal:
        """`K/(K+1)`."""
        return (self.steps - 1) / self.steps


class Constants(NamedTuple):
    """The constants `c1` and `c2`."""

    c1: Decimal
    c2: Decimal


def check_constants(c1: float, c2: float) -> Constants:
    """Return the constants; raise unless they are positive and `c2` at least `4 c1`."""
    first, second = _arguments.positive("c1", c1), _arguments.positive("c2", c2)
    # In floats, where four times a number is exact.
    least = 4 * float(c1)
    _validate.number("c2", c2, f"at least 4 `c1` = {least:g}", lambda c2: c2 >= least)
    return Constants(first, second)


def check_decay(b1: float | None) -> Decimal | None:
    """Return `b1`, None where there is no momentum."""
    return None if b1 is None else _arguments.decay("b1", b1)


def compute_convex(
    smoothness: float, radius: Decimal, noise: Noise, constants: Constants, b1: Decimal | None
) -> tuple[Decimal, Decimal]:
    """Compute the ratio of the rate to the first scale, and the threshold."""
    curvature, (c1, c2) = _arguments.positive("smoothness", smoothness), constants
    fresh, log, order = 1 - (b1 or 0), noise.log, 1 / noise.alpha
    noisy = noise.sigma * noise.steps**order * log ** (1 - order)
    reach = c2 * Decimal(fresh).sqrt() * radius
    ratio = min(c1 * fresh**2 / (curvature * log), reach / noisy)
    return ratio, reach / (ratio * log)


def fix_scale(ratio: Decimal, length: Decimal, b_init: float | None) -> tuple[Decimal, Decimal]:
    """Choose rate and first scale by their ratio: the rate is `length` unless `b_init` is given."""
    if b_init is None:
        return length, length / ratio
    scale = _arguments.positive("b_init", b_init)
    return ratio * scale, scale
