"""Problems in one dimension, for which everything is known."""

from __future__ import annotations

import math

import jax.numpy as jnp

from clipax import _validate
from clipax._typing import Array
from clipax.lab.problems._problem import Problem, check_start

__all__ = ["cosh", "huber", "huber_counterexample", "l0l1_quartic", "quartic"]


def huber(nu: float, *, start: float = 10.0) -> Problem:
    """Make the Huber function, whose gradient never exceeds `nu`.

        f'(x) = min(max(x, -nu), nu)

    Args:
      nu: The largest gradient `nu`, positive.
      start: The first iterate; default 10.

    Returns:
      The problem: `L = L0 = 1`, `L1 = 0`, no `mu`.

    Example:
      >>> from clipax.lab.problems import huber
      >>> print(huber(0.5).gradient(huber(0.5).start))
      [0.5]
    """
    _validate.positive("nu", nu)
    nu = float(nu)
    vector, x0 = check_start(start, 1)

    def value(x: Array) -> Array:
        size = jnp.abs(x)
        return jnp.sum(jnp.where(size <= nu, 0.5 * jnp.square(x), nu * size - 0.5 * nu**2))

    def gradient(x: Array) -> Array:
        return jnp.clip(x, -nu, nu)

    return Problem(
        f"Huber, nu = {nu:g}",
        vector,
        value,
        gradient,
        jnp.zeros_like(vector),
        0.0,
        L=1.0,
        L0=1.0,
        L1=0.0,
        M=min(abs(float(x0[0])), nu),
        L_sublevel=1.0,
    )


def huber_counterexample(eps: float, *, start: float = 10.0) -> Problem:
    """Make the Huber function on which AdaGrad and Adam without a clip do not reach `eps`.

    It is `huber` with `nu = 2 sqrt(2 epsilon)`. The noise that goes with it comes at the first step
    alone: `+-delta^(-1/2)` with probability `delta/2` each.

    Args:
      eps: The accuracy `epsilon` of `f` that is asked for, positive.
      start: The first iterate; default 10.

    Returns:
      The problem.

    Example:
      >>> from clipax.lab.problems import huber_counterexample
      >>> print(round(huber_counterexample(0.02).M, 3))
      0.4

    References:
      Chezhegov et al., "Clipping Improves Adam-Norm and AdaGrad-Norm when the Noise Is
      Heavy-Tailed", arXiv 2406.04443.
    """
    _validate.positive("eps", eps)
    return huber(2.0 * math.sqrt(2.0 * float(eps)), start=start)


def quartic(L1: float = 1.0, *, start: float = 30.0) -> Problem:
    """Make the fourth power, for which no constant step size works.

        f(x) = x^4,  12 x^2 <= 16/L_1^2 + L_1 |4 x^3|

    with equality at `|x| = 2/L_1`, for every `L_1`: there is a choice.

    Args:
      L1: Which `L_1`, positive; default 1.
      start: The first iterate; default 30.

    Returns:
      The problem: `L0 = 16 / L1^2`, `L` infinite, no `mu`.

    Example:
      >>> from clipax.lab.problems import quartic
      >>> quartic().L0, quartic(2.0).L0
      (16.0, 4.0)

    References:
      Zhang, He, Sra and Jadbabaie, "Why Gradient Clipping Accelerates Training", arXiv 1905.11881.
    """
    _validate.positive("L1", L1)
    vector, x0 = check_start(start, 1)
    far = abs(float(x0[0]))
    return Problem(
        "x^4",
        vector,
        lambda x: jnp.sum(jnp.square(jnp.square(x))),
        lambda x: 4.0 * x * jnp.square(x),
        jnp.zeros_like(vector),
        0.0,
        L0=16.0 / L1**2,
        L1=float(L1),
        M=4.0 * far**3,
        L_sublevel=12.0 * far**2,
    )


def cosh(*, start: float = 3.0) -> Problem:
    """Make the hyperbolic cosine, whose gradient and Hessian grow exponentially.

        f(x) = cosh(x) - 1,  cosh x <= 1 + |sinh x|

    Args:
      start: The first iterate; default 3.

    Returns:
      The problem: `L0 = L1 = mu = 1`, `L` infinite.

    Example:
      >>> from clipax.lab.problems import cosh
      >>> print(round(cosh().M, 3), round(cosh().L_sublevel, 3))
      10.018 10.068
    """
    vector, x0 = check_start(start, 1)
    far = abs(float(x0[0]))
    return Problem(
        "cosh x - 1",
        vector,
        # Without the cancellation of `cosh(x) - 1` near 0.
        lambda x: jnp.sum(2.0 * jnp.square(jnp.sinh(0.5 * x))),
        lambda x: jnp.sinh(x),
        jnp.zeros_like(vector),
        0.0,
        L0=1.0,
        L1=1.0,
        mu=1.0,
        M=math.sinh(far),
        L_sublevel=math.cosh(far),
    )


def l0l1_quartic(L1: float, *, start: float = 5.0) -> Problem:
    """Make a quartic that is (1, L1)-smooth; `L1` sets how badly it is scaled.

        f(x) = L_1^2/72 x^4 + x^2/4

    Args:
      L1: The constant `L_1`, positive.
      start: The first iterate; default 5.

    Returns:
      The problem: `L0 = 1` as in the literature, of which a half would do; `mu = 1/2`, `L`
      infinite.

    Example:
      >>> from clipax.lab.problems import l0l1_quartic
      >>> l0l1_quartic(12.0).L_sublevel
      600.5

    References:
      Koloskova, Hendrikx and Stich, "Revisiting Gradient Clipping", arXiv 2305.01588.
    """
    _validate.positive("L1", L1)
    L1 = float(L1)
    vector, x0 = check_start(start, 1)
    far = abs(float(x0[0]))

    def value(x: Array) -> Array:
        square = jnp.square(x)
        return jnp.sum(square * (L1**2 / 72.0 * square + 0.25))

    def gradient(x: Array) -> Array:
        return x * (L1**2 / 18.0 * jnp.square(x) + 0.5)

    return Problem(
        f"(1, {L1:g})-smooth quartic",
        vector,
        value,
        gradient,
        jnp.zeros_like(vector),
        0.0,
        L0=1.0,
        L1=L1,
        mu=0.5,
        M=far * (L1**2 / 18.0 * far**2 + 0.5),
        L_sublevel=L1**2 / 6.0 * far**2 + 0.5,
    )
