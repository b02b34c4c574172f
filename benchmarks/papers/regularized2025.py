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
from benchmarks.papers.claims import Claim, at_most, within
from benchmarks.papers.paper import Options, Outcome, Paper

__all__ = ["PAPER"]

_TARGET, _LIMIT = 1e-6, 20_000
# Iterations until the loss is at the target, over draws of the problem.
_RANGES = {
    0.0: (7_900, 9_300),
    1e-3: (5_300, 6_800),
    1e-2: (1_500, 1_850),
    0.1: (320, 355),
    1.0: (67, 75),
}


def _figures(options: Options) -> Outcome:
    return Outcome(_claims(options.quick, options.seed))


def _claims(quick: bool, seed: int) -> list[Claim]:
    """Iterations to the target, and that every step contracts as the theorem says.

    The loss is `||Aw - y||^2/2` with 50 rows of N(0, 1/200) in A, from `w = 50 N(0, I)`; the rate
    is 1 over the largest eigenvalue of A A', the threshold .1.
    """
    draws = 9 if quick else 100
    claims = []
    with jax.enable_x64(True):
        problems = [_problem(seed, draw) for draw in range(draws)]
        matrices, targets, starts = (
            jnp.asarray(np.stack(parts)) for parts in zip(*problems, strict=True)
        )
        for delta, iterations in _RANGES.items():
            steps, violations = _descend(matrices, targets, starts, delta)
            # The range is that of a few draws. More of them reach further, but lie about it.
            claims += [
                within(f"delta {delta:g}: median of iterations", iterations, jnp.median(steps)),
                at_most(f"delta {delta:g}: steps that contract less", 0, violations.sum()),
            ]
    return claims


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
    optimizer = clipax.regularized_clip_sgd(rate, threshold=0.1, delta=delta)

    def loss(w: jax.Array) -> jax.Array:
        return jnp.sum((matrix @ w - target) ** 2) / 2

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


PAPER = Paper("regularized clipping, arXiv 2404.08624", (_figures,))
