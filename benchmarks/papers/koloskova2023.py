"""What a constant threshold costs: a bias under noise, a slow start without it.

A. Koloskova, H. Hendrikx, S. U. Stich, "Revisiting Gradient Clipping: Stochastic Bias and Tight
Convergence Guarantees", ICML 2023, arXiv 2305.01588.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
from scipy import integrate, optimize

import clipax
from benchmarks.papers.claims import Claim, Number, close, exact
from benchmarks.papers.draw import lines, spaced
from benchmarks.papers.koloskova2023_batches import batches
from benchmarks.papers.koloskova2023_real import logistic_real
from benchmarks.papers.loops import recorded, steps_until
from benchmarks.papers.paper import Options, Outcome, Panel, Paper

__all__ = ["PAPER"]

# From the shape of the result, a key and a parameter of the law to independent variates.
Sampler = Callable[[tuple[int, ...], jax.Array, jax.Array], jax.Array]
Carry = tuple[jax.Array, optax.OptState]

_THRESHOLDS = (0.1, 0.5, 1.0, 2.0, 4.0)
# Stationary norm of the gradient by threshold, under noise of unit variance.
_SKEWED = {
    "Gaussian": (0.0, 0.0, 0.0, 0.0, 0.0),
    "chi2": (0.3816, 0.2799, 0.1631, 0.0654, 0.0128),
    "exponential": (0.3052, 0.2655, 0.1586, 0.0525, 0.0068),
}
# Their distribution functions; those of scipy.stats would take most of the time.
_LAWS: dict[str, Callable[[float], float]] = {
    "Gaussian": lambda u: math.erfc(-u / math.sqrt(2)) / 2,
    "chi2": lambda u: math.erf(math.sqrt(max(1 + math.sqrt(2) * u, 0) / 2)),
    "exponential": lambda u: -math.expm1(-max(1 + u, 0)),
}

# Iterations to a norm of .1, .01 and .001, by threshold.
_ITERATIONS = {
    0.05: (920, 1555, 3291),
    0.1: (460, 1064, 2800),
    0.5: (132, 735, 2471),
    1.0: (101, 705, 2441),
    10.0: (83, 686, 2422),
    math.inf: (82, 686, 2422),
}


def _two_points(options: Options) -> Outcome:
    """Noise of unit variance on f = x^2/2 that takes two values, the worst there are.

    It is `1/s` with probability `s^2/(1 + s^2)`, else `-s`, and the bias `s - c s^2`: with the best
    s, `1/(4c)` for c above 1/2 and else `1/2 - c/4`, whatever the rate.
    """
    allowed = 0.1 if options.quick else 0.03
    settings = [(0.01, threshold) for threshold in (0.25, 0.5, 1.0, 2.0, 5.0, 20.0)]
    settings += [(0.1, 1.0), (0.001, 1.0)]
    claims = []
    points: dict[str, tuple[list[float], list[Number]]] = {}
    for rate, threshold in settings:
        s = _worst(threshold)
        measured = _average("two-point", s, rate, threshold, options)
        name = f"two-point noise, c {threshold:g}, rate {rate:g}"
        claims.append(close(name, s - threshold * s**2, measured, allowed))
        x, y = points.setdefault(f"measured, rate {rate:g}", ([], []))
        x.append(threshold)
        y.append(claims[-1].measured)
    thresholds = np.geomspace(0.1, 30, 100)
    biases = [s - c * s**2 for c in thresholds for s in [_worst(c)]]
    panel = Panel(
        "Bias under the worst noise of variance 1",
        "threshold c",
        "mean gradient in the long run",
        lines(
            points,
            theory={
                "exact": (thresholds, biases),
                r"$\min(\sigma, \sigma^2/c)$": (thresholds, np.minimum(1, 1 / thresholds)),
            },
            joined=False,
        ),
    )
    return Outcome(claims, [panel])


def _worst(threshold: float) -> float:
    return min(1 / 2, 1 / (2 * threshold))


def _two_point(shape: tuple[int, ...], key: jax.Array, s: jax.Array) -> jax.Array:
    return jnp.where(jax.random.uniform(key, shape) < s**2 / (1 + s**2), 1 / s, -s)


def _gaussian(shape: tuple[int, ...], key: jax.Array, _: jax.Array) -> jax.Array:
    return jax.random.normal(key, shape)


def _chi2(shape: tuple[int, ...], key: jax.Array, _: jax.Array) -> jax.Array:
    return (jax.random.normal(key, shape) ** 2 - 1) / math.sqrt(2)


def _exponential(shape: tuple[int, ...], key: jax.Array, _: jax.Array) -> jax.Array:
    return jax.random.exponential(key, shape) - 1


def _stationary(options: Options) -> Outcome:
    """Skewed noise leaves a bias, symmetric noise none; and where the iterates then are."""
    relative = 0.1 if options.quick else 0.03
    claims: list[Claim] = []
    curves, exact_ones = {}, {}
    for law in _LAWS:
        found = []
        for threshold, reference in zip(_THRESHOLDS, _SKEWED[law], strict=True):
            place = f"{law} noise, c {threshold:g}"
            measured = _average(law, 0.0, 0.01, threshold, options)
            # Where there is no bias, a share of it says nothing; and few runs scatter by 7e-4.
            absolute = 3e-3 if options.quick else 0.0 if reference else 1e-3
            claims += [
                # To the last digit of the reference.
                close(f"{place}: fixed point", reference, _fixed_point(law, threshold), 0, 5.1e-5),
                close(f"{place}: mean iterate", reference, measured, relative, absolute),
            ]
            found.append(measured)
        curves[f"{law}, measured"] = (_THRESHOLDS, found)
        if law != "Gaussian":
            places = np.geomspace(_THRESHOLDS[0], _THRESHOLDS[-1], 4 if options.quick else 30)
            exact_ones[f"{law}, fixed point"] = (places, [_fixed_point(law, c) for c in places])
    panel = Panel(
        "Bias by the law of the noise, variance 1",
        "threshold c",
        "mean gradient in the long run",
        lines(curves, theory=exact_ones, scales=("log", "linear"), joined=False),
    )
    return Outcome(claims, [panel])


def _fixed_point(law: str, threshold: float) -> float:
    """The root of `E clip(x + xi, c)`, which is c less an integral of the distribution of xi."""

    def mean(x: float) -> float:
        below, _ = integrate.quad(lambda u: _LAWS[law](u - x), -threshold, threshold)
        return threshold - below

    return float(optimize.brentq(mean, -1, 1, xtol=1e-9))


def _average(law: str, shape: float, rate: float, threshold: float, options: Options) -> float:
    """The mean iterate on f = x^2/2 over many runs, once they have forgotten their start."""
    runs, steps = (1_000, 2_000) if options.quick else (10_000, 10_000)
    key = jax.random.key(options.seed)
    # No step is longer than the rate times the threshold.
    burn = int(10 / (rate * min(1, threshold)))
    place = [*_SAMPLERS].index(law)
    means = _means(runs, steps, place, burn, shape, rate, threshold, key)
    return float(np.asarray(means, np.float64).mean())


@partial(jax.jit, static_argnums=(0, 1))
def _means(
    runs: int,
    steps: int,
    law: jax.Array,
    burn: jax.Array,
    shape: jax.Array,
    rate: jax.Array,
    threshold: jax.Array,
    key: jax.Array,
) -> jax.Array:
    """The mean over runs after each step from `burn` on; one program for all laws."""
    samplers = [partial(sampler, (1, runs)) for sampler in _SAMPLERS.values()]
    # One row of parameters, whose columns are units: every run is clipped by itself.
    optimizer = clipax.clip_sgd(rate, threshold, scope="unit")

    def advance(count: jax.Array, carry: Carry) -> Carry:
        x, state = carry
        noise = jax.lax.switch(law, samplers, jax.random.fold_in(key, count), shape)
        updates, state = optimizer.update(x + noise, state)
        return optax.apply_updates(x, updates), state

    def record(carry: Carry, count: jax.Array) -> tuple[Carry, jax.Array]:
        carry = advance(count, carry)
        return carry, carry[0].mean()

    x = jnp.zeros((1, runs))
    carry = jax.lax.fori_loop(0, burn, advance, (x, optimizer.init(x)))
    return jax.lax.scan(record, carry, burn + jnp.arange(steps))[1]


def _deterministic(options: Options) -> Outcome:
    """Without noise a threshold costs a slow start only: iterations from far away.

    f = x'Ax/2 with eigenvalues from .001 to 1, evenly spaced in logarithm, from 10 in every
    direction, with rate 1.
    """
    claims, steps = [], 3_500
    shown = spaced(steps)
    with jax.enable_x64(True):
        thresholds = jnp.asarray([*_ITERATIONS])
        paths = np.asarray(_norms(thresholds, steps))
        for threshold, counts in _ITERATIONS.items():
            for eps, reference in zip((0.1, 0.01, 0.001), counts, strict=True):
                name = f"no noise, c {threshold:g}: steps to a gradient of {eps:g}"
                claims.append(exact(name, reference, _count(threshold, eps)))
    curves = {
        "no clip" if threshold == math.inf else f"c = {threshold:g}": (shown, path[shown - 1])
        for threshold, path in zip(_ITERATIONS, paths, strict=True)
    }
    panel = Panel("No noise: a quadratic", "iteration", "norm of the gradient", lines(curves))
    return Outcome(claims, [panel])


@jax.jit
def _count(threshold: jax.Array, eps: jax.Array) -> jax.Array:
    return steps_until(
        clipax.clip_sgd(1.0, threshold),
        lambda x, count: _eigenvalues() * x,
        lambda x: jnp.linalg.norm(_eigenvalues() * x) <= eps,
        jnp.full(20, 10.0, jnp.float64),
    )


@partial(jax.jit, static_argnums=1)
@partial(jax.vmap, in_axes=(0, None))
def _norms(threshold: jax.Array, steps: int) -> jax.Array:
    """The gradient's norm after each step."""
    return recorded(
        clipax.clip_sgd(1.0, threshold),
        lambda x, count: _eigenvalues() * x,
        lambda x, state: jnp.linalg.norm(_eigenvalues() * x),
        jnp.full(20, 10.0, jnp.float64),
        steps,
    )


def _eigenvalues() -> jax.Array:
    return jnp.logspace(-3, 0, 20, dtype=jnp.float64)


_SAMPLERS: dict[str, Sampler] = {
    "two-point": _two_point,
    "Gaussian": _gaussian,
    "chi2": _chi2,
    "exponential": _exponential,
}
PAPER = Paper(
    "the bias of clipping, arXiv 2305.01588",
    (_two_points, _stationary, _deterministic, logistic_real, batches),
)
