"""A threshold that finds the median of the norms from far below.

G. Andrew, O. Thakkar, H. B. McMahan, S. Ramaswamy, "Differentially Private Learning with Adaptive
Clipping", NeurIPS 2021, arXiv 1905.03871.
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax

import clipax
from benchmarks.papers.claims import close, within
from benchmarks.papers.draw import bands
from benchmarks.papers.paper import Options, Outcome, Panel, Paper

__all__ = ["PAPER"]

# Lognormal norms with this median, so many in a round. The threshold starts a hundredfold below.
_MEDIAN, _RECORDS, _START = 10.0, 100, 0.1
_ROUNDS = 80


def _rounds(options: Options) -> Outcome:
    """With the paper's defaults, without noise on the count and with the paper's m/20."""
    runs, share = (100, 0.95) if options.quick else (2_000, 0.99)
    keys = jax.random.split(jax.random.key(options.seed), runs)
    claims, curves = [], {}
    for noise in (None, _RECORDS / 20):
        # The noise on the count has a seed of its own, and is the same in every run.
        thresholds = _thresholds(noise, keys)
        near = jnp.abs(thresholds / _MEDIAN - 1) <= 0.1
        place = "no noise on the count" if noise is None else f"noise {noise:g} on the count"
        # `argmax` alone would be 0 for a run that never gets there.
        arrival = jnp.where(near.any(axis=1), jnp.argmax(near, axis=1), _ROUNDS)
        claims += [
            close(f"{place}: rounds until within 10 %", 70, jnp.median(arrival), 0.1),
            within(f"{place}: share within 10 % after {_ROUNDS}", (share, 1.0), near[:, -1].mean()),
        ]
        curves[place] = (range(_ROUNDS + 1), np.percentile(thresholds, (10, 50, 90), axis=0))
    panel = Panel(
        f"Threshold: median and 10-90 % of {runs:,} runs",
        "round",
        "threshold",
        bands(
            curves,
            theory={"median of the norms": ([0, _ROUNDS], [_MEDIAN] * 2)},
            scales=("linear", "log"),
        ),
    )
    return Outcome(claims, [panel])


@partial(jax.jit, static_argnums=0)
@partial(jax.vmap, in_axes=(None, 0))
def _thresholds(noise: float | None, key: jax.Array) -> jax.Array:
    """The threshold before every round of a run, and after the last."""
    optimizer = clipax.clip_sgd(
        1.0, clipax.thresholds.geometric_quantile(0.5, initial=_START, noise=noise)
    )
    params = jnp.zeros(())

    def step(state: optax.OptState, count: jax.Array) -> tuple[optax.OptState, jax.Array]:
        normal = jax.random.normal(jax.random.fold_in(key, count), (_RECORDS,))
        norms = _MEDIAN * jnp.exp(normal)
        _, state = optimizer.update(norms.mean(), state, params, example_norms=norms)
        return state, clipax.metrics(state)["threshold"]

    # What a step records is what the rounds before it have left.
    return jax.lax.scan(step, optimizer.init(params), jnp.arange(_ROUNDS + 1))[1]


PAPER = Paper("geometric quantile, arXiv 1905.03871", (_rounds,))
