"""Clipped descent against plain descent where the curvature grows with the gradient.

J. Zhang, T. He, S. Sra, A. Jadbabaie, "Why gradient clipping accelerates training: A theoretical
justification for adaptivity", ICLR 2020, arXiv 1905.11881.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

import clipax
from benchmarks.papers.claims import Claim, exact
from benchmarks.papers.loops import steps_until
from benchmarks.papers.paper import Options, Outcome, Paper
from clipax import theory

__all__ = ["PAPER"]

Function = Callable[[jax.Array, jax.Array], jax.Array]


class _Problem(NamedTuple):
    """Two functions of x and L1: the gradient, and what must fall to the precision."""

    gradient: Function
    gap: Function


class _Run(NamedTuple):
    """A method on its way from a start to a precision, and how many steps it takes."""

    name: str
    steps: int
    problem: _Problem
    rate: float
    threshold: float
    start: float
    eps: float
    l1: float = 1.0


_POWER = _Problem(lambda x, l1: 4 * x**3, lambda x, l1: jnp.abs(4 * x**3))
_COSINE = _Problem(lambda x, l1: jnp.sinh(x), lambda x, l1: jnp.abs(jnp.sinh(x)))
_QUARTIC = _Problem(
    lambda x, l1: l1**2 / 18 * x**3 + x / 2, lambda x, l1: l1**2 / 72 * x**4 + x**2 / 4
)


def _figures(options: Options) -> Outcome:
    return Outcome(_claims(options.quick, options.seed))


def _claims(quick: bool, seed: int) -> list[Claim]:
    runs = [*_power(), *_cosine(), *_quartic()]
    # Rounding decides on the last of a million steps.
    with jax.enable_x64(True):
        return [exact(run.name, run.steps, _count(*run[2:])) for run in runs]


@partial(jax.jit, static_argnums=0)
def _count(
    problem: _Problem,
    rate: jax.Array,
    threshold: jax.Array,
    start: jax.Array,
    eps: jax.Array,
    l1: jax.Array,
) -> jax.Array:
    return steps_until(
        clipax.clip_sgd(rate, threshold),
        lambda x, count: problem.gradient(x, l1),
        lambda x: problem.gap(x, l1) <= eps,
        jnp.asarray(start, jnp.float64),
    )


def _plain(largest: float, l0: float, l1: float) -> tuple[float, float]:
    """The theorem's step for descent without a clip: it must fit the largest gradient."""
    step = theory.sgd_smooth(l0=l0, l1=l1, gradient_bound=largest)
    return step.learning_rate, math.inf


def _power() -> list[_Run]:
    """With f = x^4 from 30, L0 = 16 and L1 = 1."""
    runs = []
    for eps, plain, theorem, practical in ((0.1, 315_804, 508, 49), (0.01, 1_465_965, 1_359, 133)):
        rows = (
            ("descent", plain, _plain(4 * 30.0**3, 16, 1)),
            ("clipped, theorem", theorem, theory.clip_sgd_smooth(l0=16, l1=1)),
            ("clipped, practical", practical, theory.clip_sgd_practical(l0=16, l1=1)),
        )
        runs += [
            _Run(f"x^4 to a gradient of {eps:g}: {method}", steps, _POWER, *settings, 30.0, eps)
            for method, steps, settings in rows
        ]
    return runs


def _cosine() -> list[_Run]:
    """With f = cosh(x) - 1 to a gradient of .001, L0 = L1 = 1."""
    runs = []
    counts = ((3.0, 161, 85), (6.0, 3_074, 115), (9.0, 61_597, 145), (12.0, 1_237_088, 175))
    for start, plain, theorem in counts:
        rows = (
            ("descent", plain, _plain(math.sinh(start), 1, 1)),
            ("clipped, theorem", theorem, theory.clip_sgd_smooth(l0=1, l1=1)),
        )
        runs += [
            _Run(f"cosh from {start:g}: {method}", steps, _COSINE, *settings, start, 1e-3)
            for method, steps, settings in rows
        ]
    return runs


def _quartic() -> list[_Run]:
    """With f = (L1^2/72) x^4 + x^2/4 from 5 to a gap of 1e-6, L0 = 1."""
    runs = []
    for l1, plain, clipped in ((1.0, 62, 13), (10.0, 4_172, 55), (100.0, 225_940, 502)):
        rows = (
            ("descent", plain, (1 / (25 * l1**2 / 6 + 1 / 2), math.inf)),
            ("clipped, practical", clipped, theory.clip_sgd_practical(l0=1, l1=l1)),
        )
        runs += [
            _Run(f"quartic, L1 = {l1:g}: {method}", steps, _QUARTIC, *settings, 5.0, 1e-6, l1)
            for method, steps, settings in rows
        ]
    return runs


PAPER = Paper("relaxed smoothness, arXiv 1905.11881", (_figures,))
