"""The equation for clipped SGD against runs on real features, which are not Gaussian.

N. Marshall, K. L. Xiao, A. Agarwala, C. Paquette, "To Clip or not to Clip: the Dynamics of SGD with
Gradient Clipping in High-Dimensions", arXiv 2406.11733. Their real data are others; the default
here is scikit-learn's digits.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

import clipax
from benchmarks.papers.claims import at_most
from benchmarks.papers.datasets import binary, fashion_mnist
from benchmarks.papers.draw import bands
from benchmarks.papers.marshall2025_runs import Curves, deviation, rows, simulated
from benchmarks.papers.paper import Options, Outcome, Panel
from clipax.theory import dynamics

__all__ = ["real"]

_RATE, _CLIP = 0.4, 0.5  # the threshold over the deviation of the residuals
_HORIZON = 15.0
# Features, and by how much the label is off.
Example = tuple[jax.Array, jax.Array]


@dataclass(frozen=True)
class _Regression:
    """Least squares on real features, along the eigenvectors of their covariance.

    Attributes:
      name: Of the data.
      features: A row for each example; their covariance is diagonal, its largest entry 1.
      spectrum: Its diagonal.
      solution: Of the least squares problem.
      residuals: Of the labels, at the solution.
    """

    name: str
    features: np.ndarray
    spectrum: np.ndarray
    solution: np.ndarray
    residuals: np.ndarray

    @property
    def dimension(self) -> float:
        """The intrinsic one."""
        return float(self.spectrum.sum())


def real(options: Options) -> Outcome:
    """Features drawn with replacement, each with its own label, against the equation.

    The equation is given the features' covariance and the residuals' law. Beside the data stand
    two samples that it should describe better and better: real features with residuals drawn apart
    from them, and Gaussian features of the same covariance with such residuals.
    """
    outcomes = [_compare(data, options) for data in _data(options)]
    note = (
        "Real features are not Gaussian: there the equation is off by tenths under a clip, and "
        "without one runs may diverge at a rate that it calls stable. Gaussian features of the "
        "same covariance follow it."
    )
    return Outcome(
        [claim for outcome in outcomes for claim in outcome.claims],
        [panel for outcome in outcomes for panel in outcome.panels],
        [note, *(line for outcome in outcomes for line in outcome.notes)],
    )


def _data(options: Options) -> Iterator[_Regression]:
    images = fashion_mnist(options.data_dir)
    pixels = images.train.x.reshape(len(images.train.x), -1)
    labels = np.where(images.train.y < 5, 1.0, -1.0)
    for white in (False,) if options.quick else (False, True):
        yield _regression(images.name, pixels, labels, white)
    if options.data_dir is not None:
        name, data = binary(options.data_dir)
        yield _regression(name, data.x, np.asarray(data.y, np.float64), white=False)


def _regression(name: str, x: np.ndarray, labels: np.ndarray, white: bool) -> _Regression:
    x = np.asarray(x[:, x.std(axis=0) > 0], np.float64)
    x = (x - x.mean(axis=0)) / x.std(axis=0)
    labels = labels - labels.mean()
    spectrum, vectors = np.linalg.eigh(x.T @ x / len(x))
    kept = spectrum > 1e-6 * spectrum[-1]
    features, spectrum = x @ vectors[:, kept], spectrum[kept]
    if white:
        features, spectrum = features / np.sqrt(spectrum), np.ones_like(spectrum)
    features, spectrum = features / math.sqrt(spectrum[-1]), spectrum / spectrum[-1]
    solution = features.T @ labels / len(labels) / spectrum
    form = "whitened" if white else "standardised"
    return _Regression(
        f"{name}, {form}", features, spectrum, solution, labels - features @ solution
    )


def _compare(data: _Regression, options: Options) -> Outcome:
    dimension = data.dimension
    steps = int((5.0 if options.quick else _HORIZON) * dimension)
    times = np.arange(steps + 1) / dimension
    thresholds = {"clip": _CLIP * float(data.residuals.std()), "no clip": math.inf}
    predicted = {name: _predicted(data, threshold, times) for name, threshold in thresholds.items()}
    found = {
        kind: _runs(data, sample, thresholds, steps, options)
        for kind, sample in _samples(data, options.quick).items()
    }
    off = {
        kind: {name: deviation(curves[name], predicted[name]).mean() for name in thresholds}
        for kind, curves in found.items()
    }
    label = "mean over time of |mean of runs/ODE - 1|"
    claims = [
        at_most(
            f"{data.name}, Gaussian features, {name}: {label}",
            0.15 if options.quick else 0.1,
            off["Gaussian"][name],
        )
        for name in thresholds
    ] + [at_most(f"{data.name}, real features, clip: {label}", 0.5, off["real"]["clip"])]
    words = [
        f"{kind} " + ", ".join(f"{name} {value:.3g}" for name, value in values.items())
        for kind, values in off.items()
    ]
    size = f"{len(data.features)} examples, d = {dimension:.1f}"
    note = f"{data.name} ({size}): {label}, by features: {'; '.join(words)}"
    return Outcome(claims, [_panel(data, times, predicted, found)], [f"{note}."])


def _predicted(data: _Regression, threshold: float, times: np.ndarray) -> np.ndarray:
    # Always over the whole horizon: one program for all sizes of the experiment.
    grid = np.linspace(0, _HORIZON, 301)
    risks = dynamics.homogenized_risk(
        data.spectrum,
        data.solution**2 / 2,
        dynamics.empirical_noise(data.residuals),
        learning_rate=_RATE,
        threshold=threshold,
        times=grid,
    )
    return np.asarray(np.interp(times, grid, np.asarray(risks)))


def _samples(data: _Regression, quick: bool) -> dict[str, Callable[[jax.Array], Example]]:
    features, residuals, deviations = (
        jnp.asarray(values, jnp.float32)
        for values in (data.features, data.residuals, np.sqrt(data.spectrum))
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
        normal = jax.random.normal(first, deviations.shape)
        return deviations * normal, residuals[pick(second)]

    samples: dict[str, Callable[[jax.Array], Example]] = {"real": paired, "Gaussian": gaussian}
    return samples if quick else samples | {"real with residuals drawn apart": apart}


def _runs(
    data: _Regression,
    draw: Callable[[jax.Array], Example],
    thresholds: dict[str, float],
    steps: int,
    options: Options,
) -> Curves:
    root = math.sqrt(data.dimension)
    optimizers = {
        name: clipax.clip_sgd(_RATE / data.dimension, threshold * root)
        for name, threshold in thresholds.items()
    }
    spectrum = jnp.asarray(data.spectrum, jnp.float32)

    def sample(key: jax.Array) -> tuple[jax.Array, dict[str, jax.Array]]:
        features, residual = draw(key)
        return features, dict.fromkeys(optimizers, residual)

    return simulated(
        optimizers,
        sample,
        lambda x: spectrum @ x**2 / 2,
        jnp.asarray(-data.solution, jnp.float32),
        steps=steps,
        runs=20 if options.quick else 100,
        seed=options.seed,
    )


def _panel(
    data: _Regression, times: np.ndarray, predicted: Curves, found: dict[str, Curves]
) -> Panel:
    shown = np.linspace(0, len(times) - 1, min(150, len(times))).astype(int)
    curves = {
        f"{kind}, {name}": (times[shown], rows(found[kind][name])[:, shown])
        for name in predicted
        for kind in ("real", "Gaussian")
    }
    lowest = min(float(risks.min()) for risks in predicted.values())
    first = float(predicted["clip"][0])
    return Panel(
        f"{data.name}, d = {data.dimension:.0f}",
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
