"""AdaGrad-Norm under heavy-tailed noise, with and without clip and delay.

S. Chezhegov et al., "Clipping Improves Adam-Norm and AdaGrad-Norm when the Noise Is Heavy-Tailed",
arXiv 2406.04443.
"""

from __future__ import annotations

import math
from functools import partial
from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import optax

import clipax
from benchmarks.papers import chezhegov2025_theory
from benchmarks.papers.claims import Claim, at_most, close, exact, factor
from benchmarks.papers.loops import steps_until
from benchmarks.papers.paper import Options, Outcome, Paper
from clipax.lab.noise import Noise

__all__ = ["PAPER"]

Carry = tuple[jax.Array, optax.OptState]

# Of the negative result; the last iterate is thrown after so many steps of this rate.
_START = 10.0
_HORIZON, _RATE = 2_000, 0.1

# The percentiles 10, 50 and 90 of x^2 over seeds, after 1,000 and after 10,000 steps, by method
# and rate. Those of the clipped methods are the same with and without delay.
_SHORT, _LONG = 1_000, 10_000
_SYNTHETIC = {
    ("AdaGrad-Norm", 1.0): ((1.2e-3, 4.9e-2, 0.42), (6.6e-4, 1.9e-2, 0.19)),
    ("AdaGradD-Norm", 1.0): ((2.3e-3, 9.1e-2, 3.7), (7.6e-4, 2.5e-2, 0.67)),
    ("Clip-AdaGrad-Norm", 1.0): ((2.6e-4, 6.8e-3, 3.8e-2), (7.5e-5, 2.1e-3, 1.3e-2)),
    ("Clip-AdaGradD-Norm", 1.0): ((2.6e-4, 6.8e-3, 3.8e-2), (7.5e-5, 2.1e-3, 1.3e-2)),
    ("AdaGrad-Norm", 1 / 16): ((0.43, 0.80, 1.5), (2.6e-2, 0.11, 0.39)),
    ("Clip-AdaGrad-Norm", 1 / 16): ((2.3e-2, 3.7e-2, 5.6e-2), (4.3e-6, 1.3e-4, 7.5e-4)),
    ("Clip-AdaGradD-Norm", 1 / 16): ((2.3e-2, 3.7e-2, 5.6e-2), (4.3e-6, 1.3e-4, 7.5e-4)),
}


def _figures(options: Options) -> Outcome:
    return Outcome(_claims(options.quick, options.seed))


def _claims(quick: bool, seed: int) -> list[Claim]:
    return [*_first_step(), *_last_step(), *_synthetic(quick, seed)]


def _huber(x: jax.Array, nu: jax.Array) -> jax.Array:
    return jnp.clip(x, -nu, nu)


def _first_step() -> list[Claim]:
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
    with jax.enable_x64(True):
        for (eps, sign), (plain, clipped) in counts.items():
            nu = 2 * math.sqrt(2 * eps)
            for delta, steps in zip((1e-2, 1e-4, 1e-6), plain, strict=True):
                outlier = sign * delta**-0.5
                place = f"first step off by {outlier:+g}, eps {eps:g}"
                for method, reference, threshold in (
                    ("AdaGrad-Norm", steps, math.inf),
                    ("Clip-AdaGrad-Norm", clipped, 2 * nu),
                ):
                    measured = _count(outlier, nu, eps, threshold)
                    claims.append(exact(f"{place}: {method}", reference, measured))
    return claims


@jax.jit
def _count(outlier: jax.Array, nu: jax.Array, eps: jax.Array, threshold: jax.Array) -> jax.Array:
    return steps_until(
        clipax.clip_adagrad_norm(1.0, threshold, b_init=1.0),
        lambda x, count: _huber(x, nu) + jnp.where(count == 0, outlier, 0),
        # f = x^2/2 inside the ball of radius nu, and eps = nu^2/8 lies in it.
        lambda x: x**2 / 2 < eps,
        jnp.asarray(_START, jnp.float64),
    )


def _last_step() -> list[Claim]:
    """The negative result for delayed methods: the outlier comes in the last step.

    It is not in the divisor yet, so that the iterate is thrown by `rate |g|/b`; clipped, by no more
    than `rate threshold/b`.
    """
    nu = 2 * math.sqrt(2 * 1e-2)
    claims = []
    with jax.enable_x64(True):
        for outlier in (1e1, 1e2, 1e3):
            place = f"last step off by {outlier:g}"
            thrown, size, divisor = map(float, _throw(outlier, nu, math.inf))
            claims.append(
                close(f"{place}: AdaGradD-Norm's throw", _RATE * size / divisor, thrown, 1e-9)
            )
            thrown, _, divisor = map(float, _throw(outlier, nu, 2 * nu))
            bound = _RATE * 2 * nu / divisor
            # Up to the rounding of a difference of iterates.
            claims.append(
                at_most(f"{place}: Clip-AdaGradD-Norm's throw", bound * (1 + 1e-9), thrown)
            )
    return claims


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


def _synthetic(quick: bool, seed: int) -> list[Claim]:
    """Percentiles of f = x^2/2 from 2 under noise without a variance, threshold 1/2, b_init 3.

    Over 100 seeds the medians scatter by half, so it takes thousands.
    """
    runs = 2_000 if quick else 20_000
    of_medians, of_others = 0.15, 2.0 if quick else 1.5
    steps = (_SHORT,) if quick else (_SHORT, _LONG)
    claims = []
    for (method, rate), references in _SYNTHETIC.items():
        threshold = 0.5 if method.startswith("Clip") else math.inf
        delay = 1 if method.endswith("D-Norm") else None
        squares = _run(rate, threshold, jax.random.key(seed), delay, runs, steps)
        for count, reference, values in zip(steps, references, squares, strict=False):
            place = f"{method}, rate {rate:g}, t = {count:,}"
            low, median, high = np.percentile(values, (10, 50, 90))
            claims += [
                factor(f"{place}: 10 %", reference[0], low, of_others),
                close(f"{place}: median", reference[1], median, of_medians),
                factor(f"{place}: 90 %", reference[2], high, of_others),
            ]
    return claims


@partial(jax.jit, static_argnums=(3, 4, 5))
def _run(
    rate: jax.Array,
    threshold: jax.Array,
    key: jax.Array,
    delay: int | None,
    runs: int,
    steps: tuple[int, ...],
) -> list[jax.Array]:
    """`x^2` of many runs at once, after each of the given numbers of steps."""
    optimizer = clipax.clip_adagrad_norm(rate, threshold, b_init=3.0, delay=delay)
    # Symmetric, with the density 3/(4 (1 + |t|)^2.5).
    noise = Noise("pareto", 1.5)

    def advance(count: jax.Array, carry: Carry) -> Carry:
        x, state = carry
        gradients = x + noise.sample(jax.random.fold_in(key, count), x.shape)
        # Mapped, so that every run has a norm and a stepsize of its own.
        updates, state = jax.vmap(optimizer.update)(gradients, state)
        return optax.apply_updates(x, updates), state

    x = jnp.full(runs, 2.0)
    carry, found = (x, jax.vmap(optimizer.init)(x)), []
    for begin, end in pairwise((0, *steps)):
        carry = jax.lax.fori_loop(begin, end, advance, carry)
        found.append(carry[0] ** 2)
    return found


PAPER = Paper("clipped AdaGrad-Norm, arXiv 2406.04443", (_figures, chezhegov2025_theory.parameters))
