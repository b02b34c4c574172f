"""Regularized clipping on least squares: what its floor is worth.

M. Tucat, A. Mukherjee et al., "Regularized Gradient Clipping Provably Trains Wide and Deep Neural
Networks", arXiv 2404.08624.
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax

import clipax
from benchmarks.papers.claims import at_most, within
from benchmarks.papers.draw import lines, spaced
from benchmarks.papers.loops import recorded
from benchmarks.papers.paper import Options, Outcome, Panel, Paper
from benchmarks.papers.tucat2025_vae import vae
from benchmarks.papers.tucat2025_wide import wide

__all__ = ["PAPER"]

_THRESHOLD, _TARGET, _LIMIT = 0.1, 1e-6, 20_000
# Iterations until the loss is at the target, over draws of the problem.
_RANGES = {
    0.0: (7_900, 9_300),
    1e-3: (5_300, 6_800),
    1e-2: (1_500, 1_850),
    0.1: (320, 355),
    1.0: (67, 75),
}


def _contraction(options: Options) -> Outcome:
    """Iterations to the target, and that every step contracts as the theorem says.

    The loss is `||Aw - y||^2/2` with 50 rows of N(0, 1/200) in A, from `w = 50 N(0, I)`; the rate
    is 1 over the largest eigenvalue of A A', the threshold .1.
    """
    draws, length = (9, 2_000) if options.quick else (100, 10_000)
    shown = spaced(length)
    claims, curves = [], {}
    with jax.enable_x64(True):
        problems = [_problem(options.seed, draw) for draw in range(draws)]
        matrices, targets, starts = (
            jnp.asarray(np.stack(parts)) for parts in zip(*problems, strict=True)
        )
        losses = _losses(matrices[0], targets[0], starts[0], jnp.asarray([*_RANGES]), length)
        for place, (delta, iterations) in enumerate(_RANGES.items()):
            steps, violations = _descend(matrices, targets, starts, delta)
            # The range is that of a few draws. More of them reach further, but lie about it.
            claims += [
                within(f"delta {delta:g}: median of iterations", iterations, jnp.median(steps)),
                at_most(f"delta {delta:g}: steps that contract less", 0, violations.sum()),
            ]
            curves[_label(delta)] = (shown, np.asarray(losses[place])[shown - 1])
    panel = Panel(
        "Least squares, one draw",
        "iteration",
        "loss",
        lines(curves, theory={"target": ([1, length], [_TARGET] * 2)}, ylim=(1e-8, None)),
    )
    return Outcome(claims, [panel])


def _label(delta: float) -> str:
    return f"delta {delta:g}" + {0.0: ", clipped", 1.0: ", descent"}.get(delta, "")


def _problem(seed: int, draw: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng((seed, draw))
    matrix = rng.normal(size=(50, 200)) / np.sqrt(200)
    return matrix, rng.normal(size=50), 50 * rng.normal(size=200)


@jax.jit
@partial(jax.vmap, in_axes=(0, 0, 0, None))
def _descend(
    matrix: jax.Array, target: jax.Array, start: jax.Array, delta: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Number of steps to the target, and of those that contract less than they must."""
    eigenvalues = jnp.linalg.eigvalsh(matrix @ matrix.T)
    rate, smallest = 1 / eigenvalues[-1], eigenvalues[0]
    optimizer = clipax.regularized_clip_sgd(rate, _THRESHOLD, delta)
    loss = partial(_loss, matrix, target)

    def more(carry):  # type: ignore[no-untyped-def]
        _, _, before, steps, _ = carry
        return (before > _TARGET) & (steps < _LIMIT)

    def step(carry):  # type: ignore[no-untyped-def]
        w, state, before, steps, violations = carry
        updates, state = optimizer.update(jax.grad(loss)(w), state, w)
        w = optax.apply_updates(w, updates)
        after = loss(w)
        contracts = after <= (1 - rate * delta * smallest) * before
        return w, state, after, steps + 1, violations + ~contracts

    zero = jnp.zeros((), jnp.int32)
    first = (start, optimizer.init(start), loss(start), zero, zero)
    return jax.lax.while_loop(more, step, first)[3:]


@partial(jax.jit, static_argnums=4)
@partial(jax.vmap, in_axes=(None, None, None, 0, None))
def _losses(
    matrix: jax.Array, target: jax.Array, start: jax.Array, delta: jax.Array, steps: int
) -> jax.Array:
    """The loss after every step."""
    rate = 1 / jnp.linalg.eigvalsh(matrix @ matrix.T)[-1]
    loss = partial(_loss, matrix, target)
    return recorded(
        clipax.regularized_clip_sgd(rate, _THRESHOLD, delta),
        lambda w, count: jax.grad(loss)(w),
        lambda w, state: loss(w),
        start,
        steps,
    )


def _loss(matrix: jax.Array, target: jax.Array, w: jax.Array) -> jax.Array:
    return jnp.sum((matrix @ w - target) ** 2) / 2


PAPER = Paper("regularized clipping, arXiv 2404.08624", (_contraction, wide, vae))
