"""Thresholds that grow as a power of time, where noise has no variance.

A. Sadiev, M. Danilova, E. Gorbunov et al., "High-Probability Bounds for Stochastic Optimization and
Variational Inequalities: the Case of Unbounded Variance", ICML 2023, arXiv 2302.00999 (exponent
1/alpha); T. D. Nguyen, T. H. Nguyen, A. Ene, H. L. Nguyen, arXiv 2304.01119 (1/(3 alpha - 2)).
"""

from __future__ import annotations

import math

import jax.numpy as jnp
import numpy as np

import clipax
from benchmarks.papers.claims import Source, close
from benchmarks.papers.draw import bands, spaced
from benchmarks.papers.paper import Options, Outcome, Panel, Paper
from clipax.lab import noise, problems, simulate
from clipax.thresholds import power

__all__ = ["PAPER"]

# Of U^(-1/1.55), centred: the 1.5th root of the moment of that order is finite, the variance not.
_INDEX, _ALPHA, _SIGMA, _STEPS = 1.55, 1.5, 9.412, 20_000
# Medians and 99 % points of |x| after all steps; without a clip the latter is no stable figure, and
# for the fastest growth it hangs on a few runs.
_THRESHOLDS = {
    "no clip": (math.inf, 0.068, None),
    "constant": (_SIGMA, 0.469, 0.504),
    "t^(1/(2 alpha))": (power(_SIGMA, _ALPHA, "design"), 0.107, 0.199),
    "t^(1/(3 alpha - 2))": (power(_SIGMA, _ALPHA, "nonconvex"), 0.079, 0.188),
    "t^(1/alpha)": (power(_SIGMA, _ALPHA, "convex"), 0.066, None),
}


def _mean(options: Options) -> Outcome:
    """Of a mean, estimated step by step: f = x^2/2 from its minimum, rate 1/t."""
    runs, allowed = (1_000, 0.15) if options.quick else (20_000, 0.05)
    found = simulate(
        {
            name: clipax.clip_sgd(lambda count: 1 / (count + 1), threshold)
            for name, (threshold, _, _) in _THRESHOLDS.items()
        },
        problems.quadratic([1.0], start=0.0),
        noise.skewed_pareto(_INDEX),
        runs=runs,
        record=spaced(_STEPS, 60).tolist(),
        quantiles=(0.01, 0.5, 0.99),
        seed=options.seed,
        measure=lambda x: jnp.abs(x[0]),
        progress=False,
    )
    claims, curves = [], {}
    for curve in found.curves:
        _, median, extreme = _THRESHOLDS[curve.label]
        _, middle, high = curve.quantiles[-1]
        # The first exponent is no paper's.
        source: Source = "ours" if "2 alpha" in curve.label else "derived"
        name = f"{curve.label}: median of |x|"
        claims.append(close(name, median, middle, allowed, source=source))
        if extreme is not None:
            name = f"{curve.label}: 99 % of |x|"
            claims.append(close(name, extreme, high, 2 * allowed, source=source))
        curves[curve.label] = (found.record, np.array(curve.quantiles).T)
    panel = Panel(
        f"Mean of noise without variance: median and 1-99 % of {runs:,} runs",
        "step",
        "|x|",
        bands(curves),
    )
    return Outcome(claims, [panel])


PAPER = Paper("growing thresholds, arXiv 2302.00999 and 2304.01119", (_mean,))
