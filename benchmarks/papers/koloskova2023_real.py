"""Clipped gradient descent on logistic regression with real data.

A. Koloskova, H. Hendrikx, S. U. Stich, "Revisiting Gradient Clipping: Stochastic bias and tight
convergence guarantees", arXiv 2305.01588. Their data is w1a; the default here is breast cancer.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
from matplotlib.axes import Axes

import clipax
from benchmarks.papers.claims import at_most, close, within
from benchmarks.papers.datasets import binary
from benchmarks.papers.paper import Options, Outcome, Panel

__all__ = ["logistic_real"]

_INF = float("inf")
_FRACTIONS = (0.02, 0.05, 0.2, 1.0)  # thresholds of gradient descent over the first norm
_DESCENT_RATES = (0.5, 1.0, 1.9)  # over 1/L


def logistic_real(options: Options) -> Outcome:
    """Iterations that a small threshold costs without noise.

    The objective is `mean log(1 + exp(-y x'w)) + |w|^2/(2 n)`, from zero. The learning rate is
    chosen for every threshold, among multiples of one over the smoothness, by the iterations to
    the target.
    """
    with jax.enable_x64(True):
        name, data = binary(options.data_dir)
        rows = jnp.asarray(data.x * data.y[:, None], jnp.float64)
        smoothness = float(jnp.linalg.eigvalsh(rows.T @ rows)[-1]) / len(rows) / 4 + 1 / len(rows)
        return _descent(name, rows, smoothness, options.quick)


def _objective(w: jax.Array, rows: jax.Array) -> jax.Array:
    return jnp.mean(jax.nn.softplus(-rows @ w))


def _gradient(w: jax.Array, rows: jax.Array, ridge: float) -> jax.Array:
    return jax.grad(_objective)(w, rows) + ridge * w


def _grid(thresholds: tuple[float, ...], rates: tuple[float, ...]) -> list[jax.Array]:
    """Every threshold with every rate, each a flat array."""
    return [jnp.asarray(part.ravel()) for part in np.meshgrid(thresholds, rates, indexing="ij")]


def _descent(name: str, rows: jax.Array, smoothness: float, quick: bool) -> Outcome:
    ridge, steps = 1 / len(rows), 800 if quick else 4000
    first = float(jnp.linalg.norm(_gradient(jnp.zeros(rows.shape[1]), rows, ridge)))
    thresholds = (*(first * fraction for fraction in _FRACTIONS), _INF)
    rates = _DESCENT_RATES[1:] if quick else _DESCENT_RATES

    @jax.jit
    @jax.vmap
    def run(threshold: jax.Array, rate: jax.Array) -> jax.Array:
        optimizer = clipax.clip_sgd(rate / smoothness, threshold)
        start = jnp.zeros(rows.shape[1])

        def step(carry, _):  # type: ignore[no-untyped-def]
            w, state = carry
            grads = _gradient(w, rows, ridge)
            updates, state = optimizer.update(grads, state, w)
            return (optax.apply_updates(w, updates), state), jnp.linalg.norm(grads)

        return jax.lax.scan(step, (start, optimizer.init(start)), length=steps)[1]

    norms = np.asarray(run(*_grid(thresholds, rates))).reshape(len(thresholds), len(rates), steps)
    early, late = 0.1 * first, 0.002 * first
    hits = np.where((norms <= late).any(axis=2), np.argmax(norms <= late, axis=2), steps)
    best = norms[np.arange(len(thresholds)), hits.argmin(axis=1)]
    to_early, to_late = np.argmax(best <= early, axis=1), hits.min(axis=1)
    after = to_late - to_early
    claims = [
        at_most(f"{name}, descent: thresholds that miss the target", 0, int(sum(to_late == steps))),
        within(
            f"{name}, descent, c = {_FRACTIONS[0]} of the first norm: iterations to a tenth of it, "
            "over those without a clip",
            (3.0, 300.0),
            to_early[0] / to_early[-1],
            source="ours",
        ),
        close(
            f"{name}, descent, the same: iterations from there to {late / first:g} of it, over "
            "those without a clip",
            1.0,
            after[0] / after[-1],
            0.1,
            source="ours",
        ),
    ]

    def draw(axes: Axes) -> None:
        for threshold, line in zip(thresholds, best, strict=True):
            label = "no clip" if threshold == _INF else f"c = {threshold:.3g}"
            axes.loglog(np.arange(1, steps + 1), line, label=label)
        axes.set_ylim(bottom=late / 3)
        axes.legend()

    title = f"{name}: gradient descent, tuned rates"
    return Outcome(claims, [Panel(title, "iteration", "gradient norm", draw)])
