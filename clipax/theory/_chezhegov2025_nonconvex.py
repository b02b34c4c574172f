"""Parameters of clipped AdaGrad-Norm and Adam-Norm under heavy-tailed noise: non-convex.

S. Chezhegov et al., "Clipping Improves Adam-Norm and AdaGrad-Norm when the Noise Is Heavy-Tailed",
arXiv 2406.04443.
"""

from __future__ import annotations

from decimal import Decimal

from clipax.theory import _arguments
from clipax.theory._chezhegov2025 import (
    Constants,
    Noise,
    check_constants,
    check_decay,
    fix_scale,
)
from clipax.theory._exact import compute_exactly, to_floats
from clipax.theory._parameters import ClipAdagradNormParameters, ClipAdamNormParameters

__all__ = ["clip_adagrad_norm_nonconvex", "clip_adam_norm_nonconvex"]


@compute_exactly
def clip_adagrad_norm_nonconvex(
    *,
    smoothness: float,
    gap: float,
    sigma: float,
    alpha: float,
    steps: int,
    failure_probability: float,
    delayed: bool = True,
    b1: float | None = None,
    b_init: float | None = None,
    c1: float = 1.0,
    c2: float = 4.0,
) -> ClipAdagradNormParameters:
    """Compute the parameters of Clip-AdaGrad(D)-Norm for non-convex objectives.

    For the average of the squared gradient norms, with or without delay. As in the convex case the
    theorem fixes only the ratio of the rate to the first scale, and a scale of 1 stalls; by default
    the rate is the length `sqrt(2 D/L)`, over which a quadratic falls by the gap.

        gamma/b_{-1} = min(C_1 (1-b_1)^2/(L (K+1)^q A),
            C_2 sqrt(1-b_1) sqrt(D)/(sqrt(L) sigma (K+1)^r A^((alpha-1)/alpha)),
            C_2 (1-b_1)^((alpha-1)/(2 alpha-1)) D^(alpha/(2 alpha-1))
            /(sigma^(2 alpha/(2 alpha-1)) L^((alpha-1)/(2 alpha-1)) (K+1)^r
            A^((2 alpha-2)/(2 alpha-1))))

        c = C_2 sqrt(1-b_1) b_{-1} sqrt(D)/(sqrt(L) gamma A (K+1)^q),
        q = (alpha-1)/(3 alpha-2),
        r = alpha/(3 alpha-2),
        A = ln(4 (K+1)/delta)

    with `gamma` the learning rate, `c` the threshold, `b_{-1}` the `b_init`, `L` the `smoothness`,
    `D` the `gap`, `sigma` the `sigma`, `K+1` the `steps`, `delta` the `failure_probability`, `C_1`
    and `C_2` the `c1`, `c2`. Without delay `A = ln(4/delta)` and there are no factors `1 - b_1`.

    Args:
      smoothness: Lipschitz constant of the gradient, positive; gradient per length.
      gap: Bound of `f(x_0) - inf f`, positive; gradient times length. Without delay a bound of
        `sup f - inf f`, which must be finite.
      sigma: Scale of the noise, `(E||g - grad f||^alpha)^(1/alpha)`, positive; gradient.
      alpha: Tail index of the noise, in (1, 2]: it has moments up to this order.
      steps: Number of steps of the whole run, at least 1; the paper's K + 1.
      failure_probability: Probability with which the bound may fail, in (0, 1).
      delayed: Whether the divisor lags one step behind the gradient (default), or not at all.
      b1: Decay rate of the momentum, in [0, 1); None (default) for none, the paper's AdaGrad-Norm.
      b_init: The first scale, positive; a gradient. None (default) for the one that makes the rate
        `sqrt(2 D/L)`. With a number the rate follows from it.
      c1: Constant of the rate, positive; default 1. The paper's constants are not known here.
      c2: Constant of the threshold, at least `4 c1`; default 4.

    Returns:
      `ClipAdagradNormParameters`: keyword arguments of `clipax.clip_adagrad_norm`, with `delay`.

    Notes:
      The numerical constants are `c1` and `c2`, of our naming; the exponents were derived anew. The
      paper states the theorem for any first scale; `gamma = sqrt(2 D/L)` is our choice of it.

    Example:
      >>> import clipax
      >>> parameters = clipax.theory.clip_adagrad_norm_nonconvex(
      ...     smoothness=1.0, gap=2.0, sigma=6.36, alpha=1.4, steps=1001, failure_probability=0.01
      ... )
      >>> print(f"{parameters.learning_rate} {parameters.threshold:.2f} {parameters.b_init:.1f}")
      2.0 81.85 1311.1
      >>> optimizer = clipax.clip_adagrad_norm(**parameters._asdict())

    References:
      S. Chezhegov et al., "Clipping Improves Adam-Norm and AdaGrad-Norm when the Noise Is
      Heavy-Tailed", arXiv 2406.04443, the non-convex theorems with and without delay.
    """
    decay, noise = check_decay(b1), Noise(sigma, alpha, steps, failure_probability)
    constants = check_constants(c1, c2)
    ratio, threshold, length = _compute(smoothness, gap, noise, constants, decay, delayed)
    rate, scale = fix_scale(ratio, length, b_init)
    delay = 1 if delayed else None
    return to_floats(ClipAdagradNormParameters, rate, threshold, scale, decay, delay)


@compute_exactly
def clip_adam_norm_nonconvex(
    *,
    smoothness: float,
    gap: float,
    sigma: float,
    alpha: float,
    steps: int,
    failure_probability: float,
    delayed: bool = True,
    b1: float | None = 0.9,
    b_init: float | None = None,
    c1: float = 1.0,
    c2: float = 4.0,
) -> ClipAdamNormParameters:
    """Compute the parameters of Clip-Adam(D)-Norm for non-convex objectives.

    For the average of the squared gradient norms, with or without delay. Rate, threshold and first
    scale are those of `clip_adagrad_norm_nonconvex`, with a moving average of the squared norms
    over the whole run.

        b_2 = K/(K+1)

    with `K+1` the `steps`.

    Args:
      smoothness: Lipschitz constant of the gradient, positive; gradient per length.
      gap: Bound of `f(x_0) - inf f`, as for `clip_adagrad_norm_nonconvex`.
      sigma: Scale of the noise, positive; gradient.
      alpha: Tail index of the noise, in (1, 2].
      steps: Number of steps of the whole run, at least 1; the paper's K + 1.
      failure_probability: Probability with which the bound may fail, in (0, 1).
      delayed: Whether the divisor lags one step behind the gradient (default), or not at all.
      b1: Decay rate of the momentum, in [0, 1); default .9, as `clipax.clip_adam_norm`; None for
        none. Without delay rate and threshold do not depend on it.
      b_init: The first scale, as for `clip_adagrad_norm_nonconvex`.
      c1: Constant of the rate, as for `clip_adagrad_norm_nonconvex`.
      c2: Constant of the threshold, at least `4 c1`; default 4.

    Returns:
      `ClipAdamNormParameters`: keyword arguments of `clipax.clip_adam_norm`, `delay` included.

    Example:
      >>> import clipax
      >>> parameters = clipax.theory.clip_adam_norm_nonconvex(
      ...     smoothness=1.0, gap=2.0, sigma=6.36, alpha=1.4, steps=1000, failure_probability=0.01,
      ...     delayed=False,
      ... )
      >>> parameters.learning_rate, parameters.b2, parameters.delay
      (2.0, 0.999, None)
      >>> optimizer = clipax.clip_adam_norm(**parameters._asdict())

    References:
      S. Chezhegov et al., "Clipping Improves Adam-Norm and AdaGrad-Norm when the Noise Is
      Heavy-Tailed", arXiv 2406.04443, the non-convex theorems with and without delay.
    """
    decay, noise = check_decay(b1), Noise(sigma, alpha, steps, failure_probability)
    constants = check_constants(c1, c2)
    ratio, threshold, length = _compute(smoothness, gap, noise, constants, decay, delayed)
    rate, scale = fix_scale(ratio, length, b_init)
    delay = 1 if delayed else None
    return to_floats(ClipAdamNormParameters, rate, threshold, scale, decay, noise.b2, delay)


def _compute(
    smoothness: float,
    gap: float,
    noise: Noise,
    constants: Constants,
    b1: Decimal | None,
    delayed: bool,
) -> tuple[Decimal, Decimal, Decimal]:
    """Compute the ratio of the rate to the first scale, the threshold, and the default rate."""
    curvature = _arguments.positive("smoothness", smoothness)
    fall, (c1, c2) = _arguments.positive("gap", gap), constants
    if not isinstance(delayed, bool):
        raise TypeError(f"`delayed` must be True or False, got {delayed!r}.")
    log = noise.log if delayed else (4 / noise.failure_probability).ln()
    fresh = Decimal(1 - (b1 or 0) if delayed else 1)
    a, sigma = noise.alpha, noise.sigma
    slow, fast = noise.steps ** ((a - 1) / (3 * a - 2)), noise.steps ** (a / (3 * a - 2))
    length = (fall / curvature).sqrt()
    ratio = min(
        c1 * fresh**2 / (curvature * slow * log),
        c2 * fresh.sqrt() * length / (sigma * fast * log ** ((a - 1) / a)),
        # With exponents e = (a - 1)/(2a - 1) and 1 - e = a/(2a - 1).
        c2
        * (fresh / curvature / log**2) ** ((a - 1) / (2 * a - 1))
        * (fall / sigma**2) ** (a / (2 * a - 1))
        / fast,
    )
    threshold = c2 * fresh.sqrt() * length / (ratio * log * slow)
    return ratio, threshold, (2 * fall / curvature).sqrt()
