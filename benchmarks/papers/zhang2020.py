"""Clipped descent against plain descent where the curvature grows with the gradient.

J. Zhang, T. He, S. Sra, A. Jadbabaie, "Why gradient clipping accelerates training: A theoretical
justification for adaptivity", ICLR 2020, arXiv 1905.11881.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import clipax
from benchmarks.papers.claims import at_most, exact
from benchmarks.papers.draw import lines, spaced
from benchmarks.papers.loops import recorded, steps_until
from benchmarks.papers.paper import Options, Outcome, Panel, Paper
from benchmarks.papers.zhang2020_real import smoothness_real
from clipax import theory

__all__ = ["PAPER"]

# Of x^4.
_START = 30.0

Curve = tuple[list[float], list[Any]]
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


def _counts(options: Options) -> Outcome:
    """Iterations to a precision, from further and further away and for steeper functions."""
    runs = [*_power(), *_cosine(), *_quartic()]
    # Rounding decides on the last of a million steps.
    with jax.enable_x64(True):
        claims = [exact(run.name, run.steps, _count(*run[2:])) for run in runs]
    counts = {run.name: claim.measured for run, claim in zip(runs, claims, strict=True)}

    def curve(prefix: str, method: str, places: Callable[[_Run], float]) -> Curve:
        found = [run for run in runs if run.name.startswith(prefix) and run.name.endswith(method)]
        return [places(run) for run in found], [counts[run.name] for run in found]

    panels = [
        Panel(
            "cosh(x) - 1 from further and further away",
            "starting point",
            "iterations to a gradient of .001",
            lines(
                {
                    "descent, the theorem's step": curve("cosh", "descent", lambda r: r.start),
                    "clipped, the theorem's steps": curve("cosh", "theorem", lambda r: r.start),
                },
                scales=("linear", "log"),
                marker="o",
            ),
        ),
        Panel(
            r"$(L_1^2/72)\, x^4 + x^2/4$ from 5",
            "$L_1$",
            "iterations to a gap of 1e-6",
            lines(
                {
                    "descent, 1 over the curvature": curve("quartic", "descent", lambda r: r.l1),
                    "clipped, practical": curve("quartic", "practical", lambda r: r.l1),
                },
                marker="o",
            ),
        ),
    ]
    return Outcome(claims, panels)


def _path(options: Options) -> Outcome:
    """The gradient of x^4 along the way from 30, and the curvature that goes with it."""
    steps = 2_000 if options.quick else 400_000
    shown = spaced(steps)
    curves, smoothness = {}, {}
    with jax.enable_x64(True):
        for method, (rate, threshold) in _power_settings().items():
            path = np.asarray(_iterates(rate, threshold, steps))
            curves[method] = (shown, np.abs(4 * path[shown - 1] ** 3))
            smoothness[method] = _smoothness(np.concatenate(([_START], path)))
    sizes = np.geomspace(1e-3, 4 * _START**3, 50)
    panels = [
        Panel("x^4 from 30", "iteration", "size of the gradient", lines(curves)),
        Panel(
            "Local smoothness along the paths on x^4",
            "size of the gradient",
            "local smoothness",
            lines(
                smoothness,
                theory={"$L_0 + L_1 |f'|$ = 16 + |f'|": (sizes, 16 + sizes)},
                joined=False,
            ),
        ),
    ]
    # Of the paper's condition: the theorem promises 16 + |f'| within a step of length 1/L1.
    sizes, found = smoothness["clipped, theorem"]
    over = np.max(found / (16 + sizes))
    return Outcome([at_most("x^4: local smoothness over 16 + |f'|, clipped", 1, over)], panels)


def _smoothness(path: np.ndarray, parts: int = 10) -> tuple[np.ndarray, np.ndarray]:
    """Size of the gradient, and the largest slope of it on the way to the next iterate.

    As in the paper's figure of trained networks: a maximum over points of each step.
    """
    moved = np.abs(np.diff(path)) > 1e-9
    here, way = path[:-1][moved], np.diff(path)[moved]
    some = spaced(len(here), 60) - 1
    here, way = here[some], way[some]
    shares = np.arange(1, parts + 1)[:, None] / parts
    rise = np.abs(4 * (here + shares * way) ** 3 - 4 * here**3)
    return np.abs(4 * here**3), np.max(rise / (shares * np.abs(way)), axis=0)


@partial(jax.jit, static_argnums=2)
def _iterates(rate: jax.Array, threshold: jax.Array, steps: int) -> jax.Array:
    return recorded(
        clipax.clip_sgd(rate, threshold),
        lambda x, count: _POWER.gradient(x, jnp.ones(())),
        lambda x, state: x,
        jnp.asarray(_START, jnp.float64),
        steps,
    )


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


def _power_settings() -> dict[str, tuple[float, float]]:
    return {
        "descent": _plain(4 * _START**3, 16, 1),
        "clipped, theorem": theory.clip_sgd_smooth(l0=16, l1=1),
        "clipped, practical": theory.clip_sgd_practical(l0=16, l1=1),
    }


def _power() -> list[_Run]:
    """With f = x^4 from 30, L0 = 16 and L1 = 1."""
    runs = []
    for eps, *counts in ((0.1, 315_804, 508, 49), (0.01, 1_465_965, 1_359, 133)):
        for steps, (method, settings) in zip(counts, _power_settings().items(), strict=True):
            name = f"x^4 to a gradient of {eps:g}: {method}"
            runs.append(_Run(name, steps, _POWER, *settings, _START, eps))
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


PAPER = Paper("relaxed smoothness, arXiv 1905.11881", (_counts, _path, smoothness_real))
