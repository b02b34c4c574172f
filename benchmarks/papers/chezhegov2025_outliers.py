"""What one outlier costs AdaGrad-Norm, and what it costs once clipped: the negative results.

S. Chezhegov et al., "Clipping Improves Adam-Norm and AdaGrad-Norm when the Noise Is Heavy-Tailed",
arXiv 2406.04443.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
import optax

import clipax
from benchmarks.papers.claims import Number, at_most, close, exact
from benchmarks.papers.draw import lines
from benchmarks.papers.loops import steps_until
from benchmarks.papers.paper import Options, Outcome, Panel

__all__ = ["first_step", "last_step"]

Carry = tuple[jax.Array, optax.OptState]

# Of the negative result; the last iterate is thrown after so many steps of this rate.
_START = 10.0
_HORIZON, _RATE = 2_000, 0.1


def _huber(x: jax.Array, nu: jax.Array) -> jax.Array:
    return jnp.clip(x, -nu, nu)


def first_step(options: Options) -> Outcome:
    """The negative result: one outlier in the first step, and the steps that it costs.

    The noise, of variance 1, is `+-delta^(-1/2)` with probability `delta/2` each, and else zero. On
    an event of this probability AdaGrad-Norm needs of the order of `delta^(-1/2)` steps; clipped,
    it does not see how large the outlier was.
    """
    # By eps and sign of the noise: AdaGrad-Norm for three deltas, clipped for all of them.
    counts = {
        (1e-2, -1): ((408, 3_879, 38_604), 71),
        (1e-2, +1): ((347, 3_181, 31_543), 62),
        (1e-3, -1): ((1_253, 12_289, 122_697), 142),
        (1e-3, +1): ((1_039, 10_062, 100_347), 137),
    }
    claims = []
    curves: dict[str, tuple[list[float], list[Number]]] = {}
    deltas = (1e-2, 1e-4, 1e-6)
    with jax.enable_x64(True):
        for (eps, sign), (plain, clipped) in counts.items():
            nu = 2 * math.sqrt(2 * eps)
            for delta, steps in zip(deltas, plain, strict=True):
                outlier = sign * delta**-0.5
                place = f"first step off by {outlier:+g}, eps {eps:g}"
                for method, reference, threshold in (
                    ("AdaGrad-Norm", steps, math.inf),
                    ("Clip-AdaGrad-Norm", clipped, 2 * nu),
                ):
                    measured = _count(outlier, nu, eps, threshold)
                    claims.append(exact(f"{place}: {method}", reference, measured))
                    if sign < 0:
                        x, y = curves.setdefault(f"{method}, eps {eps:g}", ([], []))
                        x.append(delta)
                        y.append(claims[-1].measured)
    slope = np.asarray(deltas) ** -0.5
    panel = Panel(
        "One outlier in the first step (Huber loss)",
        r"probability $\delta$ of the outlier",
        r"iterations to a gap of eps",
        lines(
            curves,
            theory={r"$\propto \delta^{-1/2}$": (deltas, 20 * slope)},
            marker="o",
            ylim=(30, 3e6),
        ),
    )
    return Outcome(claims, [panel])


@jax.jit
def _count(outlier: jax.Array, nu: jax.Array, eps: jax.Array, threshold: jax.Array) -> jax.Array:
    return steps_until(
        clipax.clip_adagrad_norm(1.0, threshold, b_init=1.0),
        lambda x, count: _huber(x, nu) + jnp.where(count == 0, outlier, 0),
        # f = x^2/2 inside the ball of radius nu, and eps = nu^2/8 lies in it.
        lambda x: x**2 / 2 < eps,
        jnp.asarray(_START, jnp.float64),
    )


def last_step(options: Options) -> Outcome:
    """The negative result for delayed methods: the outlier comes in the last step.

    It is not in the divisor yet, so that the iterate is thrown by `rate |g|/b`; clipped, by no more
    than `rate threshold/b`.
    """
    nu = 2 * math.sqrt(2 * 1e-2)
    claims = []
    outliers = (1e1, 1e2, 1e3)
    plain, clipped, bounds = [], [], []
    with jax.enable_x64(True):
        for outlier in outliers:
            place = f"last step off by {outlier:g}"
            thrown, size, divisor = map(float, _throw(outlier, nu, math.inf))
            plain.append(thrown)
            claims.append(
                close(f"{place}: AdaGradD-Norm's throw", _RATE * size / divisor, thrown, 1e-9)
            )
            thrown, _, divisor = map(float, _throw(outlier, nu, 2 * nu))
            clipped.append(thrown)
            bounds.append(_RATE * 2 * nu / divisor)
            # Up to the rounding of a difference of iterates.
            claims.append(
                at_most(f"{place}: Clip-AdaGradD-Norm's throw", bounds[-1] * (1 + 1e-9), thrown)
            )
    panel = Panel(
        f"One outlier in the last of {_HORIZON:,} steps (Huber loss)",
        "size of the outlier",
        "length of the last step",
        lines(
            {"AdaGradD-Norm": (outliers, plain), "Clip-AdaGradD-Norm": (outliers, clipped)},
            theory={"bound with clip": (outliers, bounds)},
            marker="o",
        ),
    )
    return Outcome(claims, [panel])


@jax.jit
def _throw(
    outlier: jax.Array, nu: jax.Array, threshold: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Length of the last step, norm of its gradient, and the divisor that the steps before left."""
    optimizer = clipax.clip_adagrad_norm(_RATE, threshold, b_init=1.0, delay=1)

    def step(carry: Carry, count: jax.Array) -> tuple[Carry, tuple[jax.Array, jax.Array]]:
        x, state = carry
        gradient = _huber(x, nu) + jnp.where(count == _HORIZON, outlier, 0)
        updates, state = optimizer.update(gradient, state)
        return (optax.apply_updates(x, updates), state), (x, jnp.abs(gradient))

    x = jnp.asarray(_START, jnp.float64)
    counts = jnp.arange(_HORIZON + 1)
    (last, _), (path, sizes) = jax.lax.scan(step, (x, optimizer.init(x)), counts)
    # From the gradients, not from what the optimizer remembers of them.
    divisor = jnp.sqrt(1 + jnp.sum(jnp.minimum(sizes[:-1], threshold) ** 2))
    return jnp.abs(last - path[-1]), sizes[-1], divisor
