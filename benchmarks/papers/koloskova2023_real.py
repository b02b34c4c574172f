"""Clipped gradient descent and clipped SGD on logistic regression with real data.

A. Koloskova, H. Hendrikx, S. U. Stich, "Revisiting Gradient Clipping: Stochastic bias and tight
convergence guarantees", arXiv 2305.01588. Their data is w1a; the default here is breast cancer.
"""

from __future__ import annotations

from functools import partial

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
_THRESHOLDS = (0.05, 0.1, 0.3, 1.0, 3.0)  # of SGD, whose gradients are of one example
_DESCENT_RATES = (0.5, 1.0, 1.9)  # over 1/L
_SGD_RATES = (0.003, 0.01, 0.03, 0.1)  # over 1/L
_RECORDS = 40


def logistic_real(options: Options) -> Outcome:
    """Iterations that a small threshold costs without noise, and the bias that it has with noise.

    The objective is `mean log(1 + exp(-y x'w)) + |w|^2/(2 n)`, from zero. The learning rate is
    chosen for every threshold, among multiples of one over the smoothness: by the iterations to
    the target, and for SGD (batch 1) by the norm of the whole gradient over its last tenth.
    """
    with jax.enable_x64(True):
        name, data = binary(options.data_dir)
        rows = jnp.asarray(data.x * data.y[:, None], jnp.float64)
        smoothness = float(jnp.linalg.eigvalsh(rows.T @ rows)[-1]) / len(rows) / 4 + 1 / len(rows)
        descent = _descent(name, rows, smoothness, options.quick)
        sgd = _stochastic(name, rows, smoothness, options)
    return Outcome(descent.claims + sgd.claims, descent.panels + sgd.panels)


def _objective(w: jax.Array, rows: jax.Array) -> jax.Array:
    """Of all rows, or of one of them: the ridge does not depend on which."""
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
        ),
        close(
            f"{name}, descent, the same: iterations from there to {late / first:g} of it, over "
            "those without a clip",
            1.0,
            after[0] / after[-1],
            0.1,
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


def _stochastic(name: str, rows: jax.Array, smoothness: float, options: Options) -> Outcome:
    ridge, steps = 1 / len(rows), 8_000 if options.quick else 400_000
    thresholds: tuple[float, ...] = (*_THRESHOLDS, _INF)
    rates: tuple[float, ...] = _SGD_RATES
    if options.quick:
        thresholds, rates = (_THRESHOLDS[0], _THRESHOLDS[2], _INF), _SGD_RATES[2:]
    dimension, block = rows.shape[1], steps // _RECORDS

    @jax.jit
    @partial(jax.vmap, in_axes=(0, 0, None))
    def run(threshold: jax.Array, rate: jax.Array, picks: jax.Array) -> jax.Array:
        optimizer = clipax.clip_sgd(rate / smoothness, threshold)

        def step(carry, pick):  # type: ignore[no-untyped-def]
            w, state, total = carry
            grads = _gradient(w, rows[pick][None], ridge)
            updates, state = optimizer.update(grads, state, w)
            w = optax.apply_updates(w, updates)
            return (w, state, total + w), None

        def record(carry, picks):  # type: ignore[no-untyped-def]
            # Of the block's mean iterate: its noise averages out, its bias does not.
            w, state = carry
            (w, state, total), _ = jax.lax.scan(step, (w, state, jnp.zeros(dimension)), picks)
            return (w, state), total / block

        start = jnp.zeros(dimension)
        _, means = jax.lax.scan(record, (start, optimizer.init(start)), picks)
        return jax.vmap(lambda w: jnp.linalg.norm(_gradient(w, rows, ridge)))(means)

    picks = np.random.default_rng(options.seed).integers(len(rows), size=(_RECORDS, block))
    norms = np.asarray(run(*_grid(thresholds, rates), jnp.asarray(picks)))
    norms = norms.reshape(len(thresholds), len(rates), _RECORDS)
    ends = norms[:, :, -_RECORDS // 10 :].mean(axis=2)
    best = norms[np.arange(len(thresholds)), ends.argmin(axis=1)]
    floors = ends.min(axis=1)
    zero = jnp.zeros(dimension)
    each = jax.vmap(lambda row: _gradient(zero, row[None], ridge))(rows)
    sigma = float(jnp.sqrt(jnp.mean(jnp.sum((each - each.mean(axis=0)) ** 2, axis=1))))
    bounds = np.array([min(sigma, sigma**2 / c) for c in thresholds[:-1]])
    claims = [
        within(
            f"{name}, SGD, c = {thresholds[0]}: last norm of the gradient, over that without a "
            "clip",
            (3.0, 1e4),
            floors[0] / floors[-1],
        ),
        at_most(
            f"{name}, SGD: largest ratio of a last norm to that of the next smaller c",
            1.0,
            float(np.max(floors[1:] / floors[:-1])),
        ),
        at_most(
            f"{name}, SGD: largest last norm over min(sigma, sigma^2/c)",
            1.0,
            float(np.max(floors[:-1] / bounds)),
        ),
    ]

    def draw(axes: Axes) -> None:
        times = block * np.arange(1, _RECORDS + 1)
        for threshold, line in zip(thresholds, best, strict=True):
            axes.loglog(times, line, label="no clip" if threshold == _INF else f"c = {threshold:g}")
        axes.legend()

    title = f"{name}: SGD of batch 1, tuned rates"
    return Outcome(claims, [Panel(title, "iteration", "norm of the whole gradient", draw)])
