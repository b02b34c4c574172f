"""AdaGrad-Norm under heavy-tailed noise, with and without clip and delay.

S. Chezhegov et al., "Clipping Improves Adam-Norm and AdaGrad-Norm when the Noise Is Heavy-Tailed",
arXiv 2406.04443.
"""

from __future__ import annotations

import math
from fractions import Fraction
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax

import clipax
from benchmarks.papers import chezhegov2025_outliers, chezhegov2025_theory
from benchmarks.papers.chezhegov2025_cola import cola
from benchmarks.papers.claims import close, factor
from benchmarks.papers.draw import bands, spaced
from benchmarks.papers.paper import Options, Outcome, Panel, Paper
from clipax.lab.noise import Noise

__all__ = ["PAPER"]

Carry = tuple[jax.Array, optax.OptState]

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


# Drawn too: the paper's third rate, and what else it shows.
_METHODS = ("AdaGrad-Norm", "AdaGradD-Norm", "Clip-AdaGrad-Norm", "Clip-AdaGradD-Norm")
_RATES = (1.0, 1 / 16, 1 / 128)


def _synthetic(options: Options) -> Outcome:
    """Percentiles of f = x^2/2 from 2 under noise without a variance, threshold 1/2, b_init 3.

    Over the paper's 100 seeds the medians scatter by half, so it takes thousands.
    """
    runs = 2_000 if options.quick else 20_000
    of_medians, of_others = 0.15, 2.0 if options.quick else 1.5
    steps = (_SHORT,) if options.quick else (_SHORT, _LONG)
    # Every number of steps of which a figure is claimed is among those drawn.
    shown = np.union1d(spaced(steps[-1], 50), steps)
    claims, panels = [], []
    for rate in _RATES:
        curves = {}
        for method in _METHODS:
            references = _SYNTHETIC.get((method, rate), ())
            if options.quick and not references:
                continue
            threshold = 0.5 if method.startswith("Clip") else math.inf
            delay = 1 if method.endswith("D-Norm") else None
            key = jax.random.key(options.seed)
            squares = _run(rate, threshold, key, shown, delay, runs)
            percentiles = np.percentile(squares, (10, 50, 90), axis=1)
            curves[method] = (shown, percentiles)
            for count, reference in zip(steps, references, strict=False):
                place = f"{method}, rate {rate:g}, t = {count:,}"
                low, median, high = percentiles[:, np.searchsorted(shown, count)]
                claims += [
                    factor(f"{place}: 10 %", reference[0], low, of_others),
                    close(f"{place}: median", reference[1], median, of_medians),
                    factor(f"{place}: 90 %", reference[2], high, of_others),
                ]
        if curves:
            title = f"$\\gamma$ = {Fraction(rate)}: median and 10-90 % of {runs:,} runs"
            panels.append(Panel(title, "step", "$x^2$", bands(curves)))
    return Outcome(claims, panels)


@partial(jax.jit, static_argnums=(4, 5))
def _run(
    rate: jax.Array,
    threshold: jax.Array,
    key: jax.Array,
    shown: jax.Array,
    delay: int | None,
    runs: int,
) -> jax.Array:
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

    def until(carry: Carry, ends: tuple[jax.Array, jax.Array]) -> tuple[Carry, jax.Array]:
        carry = jax.lax.fori_loop(*ends, advance, carry)
        return carry, carry[0] ** 2

    x = jnp.full(runs, 2.0)
    ends = (jnp.concatenate([jnp.zeros(1, shown.dtype), shown[:-1]]), shown)
    return jax.lax.scan(until, (x, jax.vmap(optimizer.init)(x)), ends)[1]


PAPER = Paper(
    "clipped AdaGrad-Norm, arXiv 2406.04443",
    (
        _synthetic,
        chezhegov2025_outliers.first_step,
        chezhegov2025_outliers.last_step,
        chezhegov2025_theory.parameters,
        cola,
    ),
)
