"""The equation for clipped SGD against runs on real features, and why the two part.

N. Marshall, K. L. Xiao, A. Agarwala, C. Paquette, "To Clip or not to Clip: the Dynamics of SGD with
Gradient Clipping in High-Dimensions", arXiv 2406.11733. The default here is scikit-learn's digits.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

import clipax
from benchmarks.papers.claims import Claim, Interval, Source, at_most
from benchmarks.papers.draw import bands
from benchmarks.papers.intervals import bootstrap
from benchmarks.papers.marshall2025_features import Regression, regressions
from benchmarks.papers.marshall2025_runs import Curves, deviation, rows, simulated
from benchmarks.papers.paper import Options, Outcome, Panel
from clipax.theory import dynamics

__all__ = ["real"]

_RATE, _CLIP = 0.4, 0.5  # the threshold over the deviation of the residuals
_HORIZON = 15.0
# What counts as agreement: the largest deviation of runs on synthetic data is .036.
_AGREES = 0.05
_LABEL = "mean over time of |mean of runs/ODE - 1|"
# The real data that the paper shows; its theorem is of Gaussian features.
_OF_THE_PAPER = ("CIFAR-10", "WikiText-2")
# Features, and by how much the label is off.
Example = tuple[jax.Array, jax.Array]


def real(options: Options) -> Outcome:
    """Features drawn with replacement against the equation, and what of them it does not see.

    The paper's model has labels with noise that is independent of the features, and features whose
    norm is nearly constant. Beside the data stand residuals of other examples, features scaled to
    one norm, and both. The equation is given the covariance and the law of the residuals of each.
    """
    outcomes = [
        _compare(data, options)
        for data in regressions(options.data_dir, options.quick, options.seed)
    ]
    note = (
        "Why real data leaves the equation under a clip: the equation takes labels for a linear "
        "function with noise that does not depend on the features, and norms for constant. Labels "
        "of classes are +-1: at the start every residual is a label, nearly all of one size, which "
        "the threshold clips, where the equation lets a share of them pass. With residuals of "
        "other examples and one norm, runs on the same features follow it; what either does alone "
        "is below. In the whole loss the difference of the risks is small beside the noise. Which "
        "of the two the paper draws, and of which features, is in an appendix not at hand."
    )
    return Outcome(
        [claim for outcome in outcomes for claim in outcome.claims],
        [panel for outcome in outcomes for panel in outcome.panels],
        [note, *(line for outcome in outcomes for line in outcome.notes)],
    )


def _compare(data: Regression, options: Options) -> Outcome:
    claims: list[Claim] = []
    panels, words = [], []
    for problem in (data, data.rescaled()):
        thresholds = {"clip": _CLIP * float(problem.residuals.std()), "no clip": math.inf}
        steps = int((5.0 if options.quick else _HORIZON) * problem.dimension)
        times = np.arange(steps + 1) / problem.dimension
        predicted = {
            name: _predicted(problem, threshold, times) for name, threshold in thresholds.items()
        }
        found = {
            kind: _runs(problem, sample, thresholds, steps, options)
            for kind, sample in _samples(problem, options.quick).items()
        }
        off = {
            kind: {name: deviation(curves[name], predicted[name]).mean() for name in thresholds}
            for kind, curves in found.items()
        }
        claims += _claims(problem, found, predicted, rescaled=problem is not data)
        words.append(
            f"{problem.name} ({len(problem.features)} examples, d = {problem.dimension:.1f}, "
            f"deviation of |a|^2/d {problem.spread:.2g}): {_LABEL} "
            + "; ".join(
                f"{kind} " + ", ".join(f"{name} {value:.3g}" for name, value in values.items())
                for kind, values in off.items()
            )
        )
        panels.append(_panel(problem, times, predicted, found))
    return Outcome(claims, panels, [f"{line}." for line in words])


def _claims(
    problem: Regression, found: dict[str, Curves], predicted: Curves, rescaled: bool
) -> list[Claim]:
    def claim(kind: str, name: str, source: Source, noise: float = 0.0) -> Claim:
        """With `noise`, half the variance of the residuals, of the whole loss."""
        curves, path = found[kind][name] + noise, predicted[name] + noise
        what = f"{name}, whole loss" if noise else name
        return at_most(
            f"{problem.name}, {kind}, {what}: {_LABEL}",
            _AGREES,
            deviation(curves, path).mean(),
            source=source,
            interval=_interval(curves, path),
        )

    half = float(problem.residuals.var() / 2)
    if rescaled:
        kind = "residuals of other examples"
        return [claim(kind, "clip", "ours"), claim(kind, "no clip", "ours")]
    source: Source = "paper" if problem.name in _OF_THE_PAPER else "ours"
    claims = [
        claim("real", "clip", source),
        claim("real", "clip", "ours", half),
        claim("real", "no clip", source),
    ]
    kind = "Gaussian features"
    if kind not in found:
        return claims
    return [claim(kind, "clip", "derived"), claim(kind, "no clip", "derived"), *claims]


def _interval(curves: np.ndarray, path: np.ndarray) -> Interval:
    """Over runs, at some of the times."""
    shown = np.linspace(0, len(path) - 1, min(100, len(path))).astype(int)
    few, at = curves[:, shown], path[shown]

    def statistic(picks: np.ndarray) -> np.ndarray:
        picks = picks.astype(int)
        if picks.ndim == 1:
            return np.asarray(deviation(curves, path).mean())
        return np.array([deviation(few[pick], at).mean() for pick in picks])

    return bootstrap(statistic, np.arange(len(curves)))


def _predicted(problem: Regression, threshold: float, times: np.ndarray) -> np.ndarray:
    # Always over the whole horizon: one program for all sizes of the experiment.
    grid = np.linspace(0, _HORIZON, 301)
    risks = dynamics.homogenized_risk(
        problem.spectrum,
        problem.solution**2 / 2,
        dynamics.empirical_noise(problem.residuals),
        learning_rate=_RATE,
        threshold=threshold,
        times=grid,
    )
    return np.asarray(np.interp(times, grid, np.asarray(risks)))


def _samples(problem: Regression, quick: bool) -> dict[str, Callable[[jax.Array], Example]]:
    features, residuals, deviations = (
        jnp.asarray(values, jnp.float32)
        for values in (problem.features, problem.residuals, np.sqrt(problem.spectrum))
    )

    def pick(key: jax.Array) -> jax.Array:
        return jax.random.randint(key, (), 0, len(residuals))

    def paired(key: jax.Array) -> Example:
        place = pick(key)
        return features[place], residuals[place]

    def apart(key: jax.Array) -> Example:
        first, second = jax.random.split(key)
        return features[pick(first)], residuals[pick(second)]

    def gaussian(key: jax.Array) -> Example:
        first, second = jax.random.split(key)
        return deviations * jax.random.normal(first, deviations.shape), residuals[pick(second)]

    samples: dict[str, Callable[[jax.Array], Example]] = {
        "real": paired,
        "residuals of other examples": apart,
    }
    return samples if quick else samples | {"Gaussian features": gaussian}


def _runs(
    problem: Regression,
    draw: Callable[[jax.Array], Example],
    thresholds: dict[str, float],
    steps: int,
    options: Options,
) -> Curves:
    root = math.sqrt(problem.dimension)
    optimizers = {
        name: clipax.clip_sgd(_RATE / problem.dimension, threshold * root)
        for name, threshold in thresholds.items()
    }
    spectrum = jnp.asarray(problem.spectrum, jnp.float32)

    def sample(key: jax.Array) -> tuple[jax.Array, dict[str, jax.Array]]:
        features, residual = draw(key)
        return features, dict.fromkeys(optimizers, residual)

    return simulated(
        optimizers,
        sample,
        lambda x: spectrum @ x**2 / 2,
        jnp.asarray(-problem.solution, jnp.float32),
        steps=steps,
        runs=20 if options.quick else 50,
        seed=options.seed,
    )


def _panel(
    problem: Regression, times: np.ndarray, predicted: Curves, found: dict[str, Curves]
) -> Panel:
    shown = np.linspace(0, len(times) - 1, min(150, len(times))).astype(int)
    curves = {kind: (times[shown], rows(risks["clip"])[:, shown]) for kind, risks in found.items()}
    curves["real, no clip"] = times[shown], rows(found["real"]["no clip"])[:, shown]
    lowest = min(float(risks.min()) for risks in predicted.values())
    first = float(predicted["clip"][0])
    return Panel(
        f"{problem.name}, d = {problem.dimension:.0f}, clipped",
        "time, steps over intrinsic dimension",
        "risk R",
        bands(
            curves,
            theory={f"ODE, {name}": (times[shown], predicted[name][shown]) for name in predicted},
            scales=("linear", "log"),
            # Runs that diverge leave the picture.
            ylim=(lowest / 2, 5 * first),
        ),
    )
