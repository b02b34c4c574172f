"""The risk of clipped SGD against its prediction, and when a clip helps: streaming least squares.

N. Marshall, K. L. Xiao, A. Agarwala, C. Paquette, "To Clip or not to Clip: the Dynamics of SGD with
Gradient Clipping in High-Dimensions", arXiv 2406.11733.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import jax
import numpy as np

import clipax
from benchmarks.papers.claims import Claim, at_most, close, within
from benchmarks.papers.draw import bands, lines
from benchmarks.papers.marshall2025_real import real
from benchmarks.papers.marshall2025_runs import (
    Curves,
    deviation,
    joined,
    rows,
    spectrum,
    start_of,
    streamed,
)
from benchmarks.papers.marshall2025_schedules import criterion, schedules
from benchmarks.papers.paper import Options, Outcome, Panel, Paper
from clipax.lab import noise
from clipax.lab.noise import Law
from clipax.lab.problems import StreamingLeastSquares, streaming_least_squares
from clipax.theory import dynamics

__all__ = ["PAPER"]

_INF = math.inf
_HORIZON = 15.0
_TIME = "time, steps over intrinsic dimension"
# Noise of deviation .5 (Cauchy: of scale .5), for the theory and for the runs.
_LAWS: dict[str, tuple[dynamics.LabelNoise, Law]] = {
    "Cauchy": (dynamics.cauchy_noise(0.5), noise.cauchy(0.5)),
    "Gaussian": (dynamics.gaussian_noise(0.5), noise.gaussian(0.5)),
    "Laplace": (dynamics.laplace_noise(0.5), noise.laplace(0.5 / math.sqrt(2))),
    "Rademacher-like": (dynamics.rademacher_noise(0.5, 0.2), noise.rademacher_like(0.5, 0.2)),
}
_RATE, _THRESHOLD = 0.6, 0.4
# Risks at times 1, 5, 10 and 15, on the spectrum j^(-1/5), j up to 500.
_RISKS = {
    ("Cauchy", _THRESHOLD): (0.16530, 0.12122, 0.08812, 0.06979),
    ("Gaussian", _THRESHOLD): (0.15732, 0.09453, 0.05596, 0.03973),
    ("Laplace", _THRESHOLD): (0.15597, 0.08912, 0.04823, 0.03160),
    ("Rademacher-like", _THRESHOLD): (0.15496, 0.08366, 0.03776, 0.01870),
    ("Gaussian", _INF): (0.14575, 0.08137, 0.06009, 0.05512),
}
_TIMES = (1.0, 5.0, 10.0, 15.0)


def _predicted(
    problem: StreamingLeastSquares,
    law: dynamics.LabelNoise,
    threshold: float,
    times: Sequence[float] | np.ndarray,
) -> np.ndarray:
    # Always over the whole horizon: one program for all sizes of the experiment.
    grid = np.linspace(0, _HORIZON, 301)
    risks = dynamics.homogenized_risk(
        spectrum(problem),
        start_of(problem),
        law,
        learning_rate=_RATE,
        threshold=threshold,
        times=grid,
    )
    return np.asarray(np.interp(times, grid, np.asarray(risks)))


def _laws(options: Options) -> dict[str, tuple[dynamics.LabelNoise, Law]]:
    """All of them, or two: every law is a program of its own to compile."""
    names = ("Gaussian", "Rademacher-like") if options.quick else tuple(_LAWS)
    return {name: _LAWS[name] for name in names}


def _table(options: Options) -> Outcome:
    """The equation's solution against values computed beforehand by other code."""
    problem = streaming_least_squares(exponent=0.2)
    claims = [close("spectrum j^(-1/5): trace", 179.7478, problem.intrinsic_dim, 0, 5.1e-5)]
    for (law, threshold), expected in _RISKS.items():
        if law not in _laws(options):
            continue
        found = _predicted(problem, _LAWS[law][0], threshold, _TIMES)
        place = f"ODE, {law} noise, " + ("no clip" if threshold == _INF else f"c {threshold:g}")
        claims += [
            close(f"{place}: risk at {time:g}", reference, value, 0, 6e-6)
            for time, reference, value in zip(_TIMES, expected, found, strict=True)
        ]
    return Outcome(claims)


def _risks(options: Options) -> Outcome:
    """The mean of runs against the equation, for several laws, with and without a clip."""
    problem = streaming_least_squares(exponent=0.2)
    dimension, horizon = problem.intrinsic_dim, 3.0 if options.quick else _HORIZON
    steps = int(horizon * dimension)
    times = np.arange(steps + 1) / dimension
    cases = {f"{law}, c = {_THRESHOLD}": (law, _THRESHOLD) for law in _laws(options)}
    # Without a second moment there is no risk to predict.
    cases |= {f"{law}, no clip": (law, _INF) for law in _laws(options) if law != "Cauchy"}
    optimizers = {
        name: clipax.clip_sgd(_RATE / dimension, threshold * math.sqrt(dimension))
        for name, (_, threshold) in cases.items()
    }
    laws = {name: _LAWS[law][1] for name, (law, _) in cases.items()}
    found = streamed(problem, optimizers, laws, steps, options)
    predicted = {
        name: _predicted(problem, _LAWS[law][0], threshold, times)
        for name, (law, threshold) in cases.items()
    }
    off = {name: deviation(found[name], predicted[name]) for name in cases}
    single = {name: np.abs(found[name] / predicted[name] - 1).mean() for name in cases}
    few = options.quick
    claims = [
        at_most(f"{name}: mean over time of |mean of runs/ODE - 1|", 0.06 if few else 0.02, path)
        for name, path in ((name, off[name].mean()) for name in cases)
    ]
    average = float(np.mean([path.mean() for path in off.values()]))
    worst = max(float(path.max()) for path in off.values())
    claims += [
        at_most("all cases: mean of |mean of runs/ODE - 1|", 0.04 if few else 0.02, average),
        at_most("all cases: largest |mean of runs/ODE - 1|", 0.2 if few else 0.06, worst),
        within(
            "all cases: mean of |single run/ODE - 1|",
            (0.02, 0.2),
            float(np.mean(list(single.values()))),
            source="ours",
        ),
        _spread(problem, found, horizon, options),
    ]
    shown = np.linspace(0, steps, 150).astype(int)
    panels = [
        Panel(
            title,
            _TIME,
            "risk R",
            bands(
                {
                    name.split(",")[0]: (times[shown], rows(found[name])[:, shown])
                    for name, case in cases.items()
                    if case[1] == threshold
                },
                theory={
                    "ODE": joined(
                        times[shown],
                        [
                            predicted[name][shown]
                            for name, case in cases.items()
                            if case[1] == threshold
                        ],
                    )
                },
                scales=("linear", "log"),
            ),
        )
        for title, threshold in (
            (f"Clipped at c = {_THRESHOLD}: mean of runs, 10-90 % of them", _THRESHOLD),
            ("No clip: mean of runs, 10-90 % of them", _INF),
        )
    ]
    signed = {
        name: (times[shown], 100 * (found[name].mean(axis=0) / predicted[name] - 1)[shown])
        for name in cases
    }
    count = len(next(iter(found.values())))
    panels.append(
        Panel(
            f"Mean of {count} runs against the ODE, d = {dimension:.0f}",
            _TIME,
            "deviation (%)",
            lines(signed, scales=("linear", "linear"), ylim=(-6, 3)),
        )
    )
    return Outcome(claims, panels)


def _spread(
    problem: StreamingLeastSquares, found: Curves, horizon: float, options: Options
) -> Claim:
    """Single runs scatter somewhat less than the paths of the stochastic equation do.

    Its noise has not the covariance of the gradient along the mean gradient, nor the change of the
    squared step, both of which count for the scatter and not for the mean.
    """
    law, case = "Gaussian", f"Gaussian, c = {_THRESHOLD}"
    paths = dynamics.homogenized_paths(
        jax.random.key(options.seed),
        spectrum(problem),
        start_of(problem),
        _LAWS[law][0],
        learning_rate=_RATE,
        threshold=_THRESHOLD,
        times=[horizon],
        runs=len(found[case]),
    )
    name = f"{case}: spread of runs at the end over that of the SDE's paths"
    allowed = (0.4, 2.0) if options.quick else (0.6, 1.1)
    ratio = found[case][:, -1].std() / np.asarray(paths).std()
    return within(name, allowed, ratio, source="ours")


PAPER = Paper(
    "the dynamics of clipped SGD, arXiv 2406.11733",
    (_table, _risks, schedules, criterion, real),
)
