"""Clipping each example's gradient against clipping the batch's mean, on real data.

A. Koloskova, H. Hendrikx, S. U. Stich, "Revisiting Gradient Clipping: Stochastic bias and tight
convergence guarantees", arXiv 2305.01588. What is clipped has noise of deviation sigma, and the
bias is of order `min(sigma, sigma^2/c)`: a batch of B makes sigma smaller by the root of B where
its mean is clipped, and leaves it where every example is. Their data is w1a; the default here is
breast cancer, and digits for the network.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.flatten_util import ravel_pytree
from scipy.optimize import minimize
from scipy.special import expit

from benchmarks.papers.claims import Claim, at_most, close, factor
from benchmarks.papers.datasets import binary, fashion_mnist, shrink
from benchmarks.papers.draw import bands
from benchmarks.papers.intervals import bootstrap
from benchmarks.papers.koloskova2023_training import (
    BATCH,
    EXAMPLE,
    MEAN,
    ONE,
    Found,
    Problem,
    deviation,
    train,
)
from benchmarks.papers.paper import Options, Outcome, Panel

__all__ = ["batches"]

_HIDDEN = 16


def batches(options: Options) -> Outcome:
    """The gradient of the whole loss in the long run, by threshold and by what is clipped.

    It is that of the mean of the iterates over the last half of the steps: their noise averages
    out, their bias does not. The learning rate is chosen for each threshold on a seed apart, by
    the whole loss.
    """
    outcomes = [_logistic(options), _network(options)]
    return Outcome(
        [claim for outcome in outcomes for claim in outcome.claims],
        [panel for outcome in outcomes for panel in outcome.panels],
        [note for outcome in outcomes for note in outcome.notes],
    )


def _logistic(options: Options) -> Outcome:
    name, data = binary(options.data_dir)
    ridge = 1 / len(data)

    def loss(w: jax.Array, x: jax.Array, y: jax.Array) -> jax.Array:
        return jax.nn.softplus(-y * (x @ w)) + ridge * jnp.sum(w**2) / 2

    x, y = jnp.asarray(data.x, jnp.float32), jnp.asarray(data.y, jnp.float32)
    smoothness = float(jnp.linalg.eigvalsh(x.T @ x)[-1]) / len(x) / 4 + ridge
    problem = Problem(
        f"{name}, logistic",
        loss,
        jnp.zeros((_seeds(options) + 1, x.shape[1])),
        x,
        y,
        (0.1, 1.0, np.inf) if options.quick else (0.05, 0.2, 0.6, 2.0, np.inf),
        (0.1 / smoothness, 0.5 / smoothness),
        1_000 if options.quick else 8_000,
        options.seed,
    )
    return _study(
        problem,
        (*(() if options.quick else (ONE,)), EXAMPLE, MEAN),
        _fixed_point(np.asarray(data.x), np.asarray(data.y), ridge, problem.thresholds[0]),
    )


def _network(options: Options) -> Outcome:
    data = fashion_mnist(options.data_dir)
    images = shrink(data.train.x, 7)  # digits keep their 8
    x = images.reshape(len(images), -1)[:5_000]
    x = (x - x.mean(axis=0)) / (x.std() + 1e-6)
    rng = np.random.default_rng(options.seed)
    starts = [
        {
            "in": jnp.asarray(rng.normal(size=(x.shape[1], _HIDDEN)) / x.shape[1] ** 0.5),
            "in_bias": jnp.zeros(_HIDDEN),
            "out": jnp.asarray(rng.normal(size=(_HIDDEN, 10)) / _HIDDEN**0.5),
            "out_bias": jnp.zeros(10),
        }
        for _ in range(_seeds(options) + 1)
    ]
    _, unravel = ravel_pytree(starts[0])

    def loss(params: jax.Array, x: jax.Array, y: jax.Array) -> jax.Array:
        p = unravel(params)
        hidden = jnp.tanh(x @ p["in"] + p["in_bias"])
        logits = hidden @ p["out"] + p["out_bias"]
        return optax.losses.softmax_cross_entropy_with_integer_labels(logits, y)

    problem = Problem(
        f"{data.name}, network",
        loss,
        jnp.stack([ravel_pytree(start)[0] for start in starts]).astype(jnp.float32),
        jnp.asarray(x),
        jnp.asarray(data.train.y[: len(x)]),
        (0.1, np.inf) if options.quick else (0.1, 0.4, 1.6, 6.4, np.inf),
        (0.1, 0.3),
        500 if options.quick else 4_000,
        options.seed,
    )
    return _study(problem, (EXAMPLE, MEAN))


def _seeds(options: Options) -> int:
    return 3 if options.quick else 5


def _fixed_point(x: np.ndarray, y: np.ndarray, ridge: float, threshold: float) -> float:
    """Norm of the gradient of logistic regression where that of the clipped examples is zero.

    A clipped example has the gradient of a loss that is linear from some margin downwards. The
    ridge's share of an example's gradient is left out of its norm.
    """
    x = np.asarray(x, np.float64)
    most = np.minimum(threshold / np.maximum(np.linalg.norm(x, axis=1), 1e-9), 1 - 1e-12)
    margin = np.log((1 - most) / most)

    def clipped(w: np.ndarray) -> tuple[float, np.ndarray]:
        m = y * (x @ w)
        linear = np.logaddexp(0, -margin) + most * (margin - m)
        losses = np.where(m >= margin, np.logaddexp(0, -m), linear)
        slopes = y * np.minimum(expit(-m), most)
        return losses.mean() + ridge * (w @ w) / 2, ridge * w - slopes @ x / len(x)

    w = minimize(clipped, np.zeros(x.shape[1]), jac=True, options={"maxiter": 3000}).x
    return float(np.linalg.norm(ridge * w - (y * expit(-y * (x @ w))) @ x / len(x)))


def _study(problem: Problem, kinds: tuple[str, ...], exact: float | None = None) -> Outcome:
    """`exact` is the gradient at the first threshold in the limit of small rates, if known."""
    found = {kind: train(problem, kind) for kind in kinds}
    biases = {kind: runs.norms for kind, runs in found.items()}
    losses = {kind: runs.losses for kind, runs in found.items()}
    sigma = deviation(problem, found[MEAN].means[-1, 0])
    sigmas = {kind: sigma / (np.sqrt(BATCH) if kind == MEAN else 1.0) for kind in kinds}
    c = np.array(problem.thresholds[:-1])
    claims = [_bounded(problem, kind, biases[kind], sigmas[kind], c) for kind in kinds]
    first = problem.thresholds[0]

    def ratio(over: np.ndarray, under: np.ndarray) -> np.ndarray:
        return over.mean(axis=-1) / under.mean(axis=-1)

    pair = biases[MEAN][0], biases[EXAMPLE][0]
    claims.append(
        at_most(
            f"{problem.name}, c = {first:g}: gradient in the long run with the clipped mean over "
            "that with clipped examples",
            1.0,
            ratio(*pair),
            source="ours",
            interval=bootstrap(ratio, *pair),
        )
    )
    if len(c) > 1:
        pair = biases[EXAMPLE][-2], biases[EXAMPLE][0]
        claims.append(
            at_most(
                f"{problem.name}: gradient in the long run with examples clipped at {c[-1]:g} over "
                f"that with them clipped at {first:g}",
                1.0,
                ratio(*pair),
                source="ours",
                interval=bootstrap(ratio, *pair),
            )
        )
    pair = losses[MEAN][0], losses[EXAMPLE][0]
    claims.append(
        at_most(
            f"{problem.name}, c = {first:g}: last loss with the clipped mean over that with "
            "clipped examples",
            1.0,
            ratio(*pair),
            source="ours",
            interval=bootstrap(ratio, *pair),
        )
    )
    pair = biases[EXAMPLE][-1], biases[EXAMPLE][0]
    claims.append(
        at_most(
            f"{problem.name}: gradient in the long run without a clip, over that with examples "
            f"clipped at {first:g}",
            1 / 3,
            ratio(*pair),
            source="paper",
            interval=bootstrap(ratio, *pair),
        )
    )
    if exact is not None:
        norms = biases[EXAMPLE][0]
        claims.append(
            close(
                f"{problem.name}, c = {first:g}: gradient in the long run with clipped examples, "
                "against the exact fixed point",
                exact,
                norms.mean(),
                0.05,
                interval=bootstrap(lambda drawn: drawn.mean(axis=-1), norms),
            )
        )
    if ONE in kinds:
        pair = biases[EXAMPLE][0], biases[ONE][0]
        claims.append(
            factor(
                f"{problem.name}, c = {first:g}: gradient in the long run with clipped examples, "
                f"batch {BATCH} over batch 1",
                1.0,
                ratio(*pair),
                1.25,
                interval=bootstrap(ratio, *pair),
            )
        )
    return Outcome(claims, [_panel(problem, found, sigmas)], [_note(problem, found, sigma)])


def _bounded(problem: Problem, kind: str, biases: np.ndarray, sigma: float, c: np.ndarray) -> Claim:
    bounds = np.minimum(sigma, sigma**2 / c)

    def largest(picks: np.ndarray) -> np.ndarray:
        drawn = biases[: len(c)][:, picks.astype(int)]
        return np.asarray((drawn.mean(axis=-1).T / bounds).max(axis=-1))

    return at_most(
        f"{problem.name}, {kind}: largest gradient in the long run over min(sigma, sigma^2/c)",
        1.0,
        largest(np.arange(biases.shape[1])),
        source="paper",
        interval=bootstrap(largest, np.arange(biases.shape[1])),
    )


def _note(problem: Problem, found: dict[str, Found], sigma: float) -> str:
    words = [
        f"{kind} "
        + ", ".join(
            f"{c:g}: {norms.mean():.2g} and {losses.mean():.3g}"
            for c, norms, losses in zip(problem.thresholds, runs.norms, runs.losses, strict=True)
        )
        for kind, runs in found.items()
    ]
    return (
        f"{problem.name}, sigma of an example {sigma:.3g}: gradient in the long run and loss "
        f"there, by threshold: {'; '.join(words)}."
    )


def _panel(problem: Problem, found: dict[str, Found], sigmas: dict[str, float]) -> Panel:
    c = np.array(problem.thresholds[:-1])
    curves = {
        kind: (c, np.stack([part.min(axis=1), part.mean(axis=1), part.max(axis=1)]))
        for kind, part in ((kind, runs.norms[: len(c)]) for kind, runs in found.items())
    }
    theory = {
        f"min($\\sigma$, $\\sigma^2/c$), {words}": (c, np.minimum(sigma, sigma**2 / c))
        for words, sigma in (("of an example", sigmas[EXAMPLE]), ("of the mean", sigmas[MEAN]))
    }
    return Panel(
        f"{problem.name}: what is clipped",
        "threshold c",
        "norm of the whole gradient",
        # Room for the legend above.
        bands(curves, theory=theory, ylim=(None, 100 * sigmas[EXAMPLE])),
    )
