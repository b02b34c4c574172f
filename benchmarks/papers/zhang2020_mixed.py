"""Mixed clipping: what its corners are, and how it trains a small network.

B. Zhang, J. Jin, C. Fang, L. Wang, "Improved Analysis of Clipping Algorithms for Non-convex
Optimization", NeurIPS 2020, arXiv 2010.02519.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import clipax
from benchmarks.papers.claims import at_most, within
from benchmarks.papers.draw import bands
from benchmarks.papers.paper import Options, Outcome, Panel, Paper
from clipax.lab import load_data

__all__ = ["PAPER"]


class _Settings(NamedTuple):
    """Arguments of `mixed_clip_sgd`, which has the other methods as its corners.

    Numbers, or arrays of one for each case.
    """

    learning_rate: Any
    max_step: Any
    nu: Any
    decay: Any
    weight_decay: Any = 0.0


# Step sizes on a sequence of gradients whose tails make the clip bite now and then.
_LENGTH, _DIMENSIONS = 300, 8
_RATE, _LONGEST = 0.3, 2.0
_CASES = {
    "mixed": _Settings(_RATE, _LONGEST, 0.7, 0.999),
    "with weight decay": _Settings(_RATE, _LONGEST, 0.7, 0.9, 0.01),
    "quasi-hyperbolic, no clip": _Settings(_RATE, math.inf, 0.7, 0.9),
    "clip": _Settings(_RATE, _LONGEST, 0.0, 0.9),
    "momentum clip": _Settings(_RATE, _LONGEST, 1.0, 0.9),
    "momentum, no clip": _Settings(_RATE, math.inf, 1.0, 0.9),
    "mixed, half as long": _Settings(_RATE / 2, _LONGEST / 2, 0.7, 0.999),
}


def _identities(options: Options) -> Outcome:
    """Every case beside a loop in NumPy; the corners beside the methods that they are."""
    gradients = np.random.default_rng(options.seed).standard_t(1.5, (_LENGTH, _DIMENSIONS))
    settings = _Settings(*np.array([*_CASES.values()]).T)
    claims = []
    with jax.enable_x64(True):
        updates = {
            response: dict(zip(_CASES, np.asarray(found), strict=True))
            for response in ("hard", "soft")
            for found in [_updates(settings, gradients, response)]
        }
        clip = _follow(clipax.clip_sgd(_RATE, _LONGEST / _RATE), gradients)
        momentum = optax.chain(optax.ema(0.9, debias=False), optax.scale(-_RATE))
        plain = _follow(momentum, gradients)
    hard, soft = updates["hard"], updates["soft"]
    for response, found in updates.items():
        worst = max(
            np.max(np.abs(found[name] - _loop(case, gradients, response)))
            for name, case in _CASES.items()
        )
        name = f"{response} response: distance of {len(_CASES)} cases from the loop in NumPy"
        claims.append(at_most(name, 1e-12, worst))
    lengths = {name: np.linalg.norm(found, axis=1) for name, found in hard.items()}
    shrunk = np.linalg.norm(soft["momentum clip"], axis=1) / lengths["momentum clip"]
    claims += [
        at_most("nu 0: distance from clip_sgd", 1e-12, np.max(np.abs(hard["clip"] - clip))),
        at_most(
            "nu 1, no clip: distance from optax's averaged gradients",
            1e-12,
            np.max(np.abs(hard["momentum, no clip"] - plain)),
        ),
        at_most(
            "half the rate and the longest step: distance from half the update",
            1e-12,
            np.max(np.abs(2 * hard["mixed, half as long"] - hard["mixed"])),
        ),
        at_most("longest step over G, mixed", 1 + 1e-12, lengths["mixed"].max() / _LONGEST),
        at_most("longest step over G, clip", 1 + 1e-12, lengths["clip"].max() / _LONGEST),
        # Where it does, so that the bound is not one on steps that are short anyway.
        within("share of steps that are clipped", (0.05, 0.95), _share(lengths["clip"])),
        within("soft over hard response: shortest", (0.5, 1.0), shrunk.min()),
        within("soft over hard response: longest", (0.5, 1.0), shrunk.max()),
    ]
    return Outcome(claims)


def _share(lengths: np.ndarray) -> float:
    return float(np.mean(lengths > _LONGEST * (1 - 1e-9)))


@partial(jax.jit, static_argnums=2)
@partial(jax.vmap, in_axes=(0, None, None))
def _updates(settings: _Settings, gradients: jax.Array, response: str) -> jax.Array:
    optimizer = clipax.mixed_clip_sgd(**settings._asdict(), response=response)
    return _scan(optimizer, gradients)


def _follow(optimizer: optax.GradientTransformation, gradients: np.ndarray) -> np.ndarray:
    return np.asarray(jax.jit(partial(_scan, optimizer))(gradients))


def _scan(optimizer: optax.GradientTransformation, gradients: jax.Array) -> jax.Array:
    def step(carry: Any, gradient: jax.Array) -> Any:
        params, state = carry
        updates, state = optimizer.update(gradient, state, params)
        return (optax.apply_updates(params, updates), state), updates

    start = jnp.ones(_DIMENSIONS, jnp.float64)
    return jax.lax.scan(step, (start, optimizer.init(start)), gradients)[1]


def _loop(case: _Settings, gradients: np.ndarray, response: str) -> np.ndarray:
    """Algorithm 1, in double precision and independent of clipax."""
    eta, longest, nu, decay, weight_decay = case

    def cut(vector: np.ndarray) -> np.ndarray:
        norm = np.sqrt(np.sum(vector**2))
        if response == "soft":
            return eta / (1 + eta * norm / longest) * vector
        return min(eta, longest / norm) * vector

    x, momentum, updates = np.ones(_DIMENSIONS), np.zeros(_DIMENSIONS), []
    for raw in gradients:
        gradient = raw + weight_decay * x
        momentum = decay * momentum + (1 - decay) * gradient
        updates.append(-nu * cut(momentum) - (1 - nu) * cut(gradient))
        x = x + updates[-1]
    return np.array(updates)


# The authors' settings for CIFAR-10: rate, longest step, share and decay of the momentum.
_METHODS = {
    "SGD with momentum": _Settings(1.0, math.inf, 1.0, 0.9),
    "clip": _Settings(1.0, 1.0, 0.0, 0.9),
    "momentum clip": _Settings(1.5, 0.25, 1.0, 0.9),
    "mixed clip": _Settings(1.0, 1.0, 0.7, 0.999),
}
_BATCH, _HIDDEN = 64, 64


def _training(options: Options) -> Outcome:
    """A perceptron on the digits of scikit-learn, with the authors' rates, divided by 10 twice."""
    seeds, epochs = (2, 3) if options.quick else (10, 60)
    data = load_data("digits")
    x, y = data.train.x.reshape(len(data.train), -1), data.train.y
    per_epoch = len(data.train) // _BATCH
    starts = _weights(np.random.default_rng(options.seed), seeds, x[0].size)
    settings = _Settings(*map(jnp.asarray, zip(*_METHODS.values(), strict=True)))
    keys = jax.random.split(jax.random.key(options.seed), seeds)
    first, losses = _train(settings, starts, keys, x, y, epochs, per_epoch)
    curves, claims = {}, []
    last = {}
    for method, start, found in zip(_METHODS, np.asarray(first), np.asarray(losses), strict=True):
        curves[method] = (range(1, epochs + 1), np.percentile(found, (10, 50, 90), axis=0))
        last[method] = float(np.median(found[:, -1]))
        claims.append(
            at_most(
                f"digits, {method}: training loss at the end over that at the start",
                0.5 if options.quick else 0.01,
                last[method] / float(np.median(start)),
            )
        )
    ends = ", ".join(f"{method} {loss:.2g}" for method, loss in last.items())
    notes = [
        "The paper's figures are not reproduced: CIFAR-10 with ResNet-32 (training loss near epoch "
        "79, read off: SGD with momentum .40, clip .36, momentum clip .30, mixed .20), PTB with "
        "AWD-LSTM (validation perplexity 68.9, 63.2, 63.0, 62.1) and ImageNet.",
        "In their place the four methods train a perceptron (64 hidden units) on digits of "
        "8 x 8 pixels, with the authors' settings for CIFAR-10, batches of 64, no weight decay, "
        "and rate and longest step divided by 10 after a half and three quarters of the epochs. "
        f"Median training loss at the end: {ends}. The problem is easy; the order of the methods "
        "on it says little about the paper's.",
    ]
    title = f"Digits: median and 10-90 % of {seeds} seeds"
    panel = Panel(title, "epoch", "training loss", bands(curves, scales=("linear", "log")))
    return Outcome(claims, [panel], notes)


def _weights(rng: np.random.Generator, seeds: int, features: int) -> dict[str, np.ndarray]:
    """He's initial weights of a perceptron with one hidden layer, a set a seed."""
    sizes = {"hidden": (features, _HIDDEN), "out": (_HIDDEN, 10)}
    return {
        name: (math.sqrt(2 / size[0]) * rng.normal(size=(seeds, *size))).astype(np.float32)
        for name, size in sizes.items()
    } | {"bias": np.zeros((seeds, _HIDDEN), np.float32)}


@partial(jax.jit, static_argnums=(5, 6))
def _train(
    settings: _Settings,
    starts: Any,
    keys: jax.Array,
    x: jax.Array,
    y: jax.Array,
    epochs: int,
    per_epoch: int,
) -> tuple[jax.Array, jax.Array]:
    """The loss of all training examples before the first and after each epoch.

    By method and seed; start and batches are the same for all methods.
    """

    def loss(params: Any, x: jax.Array, y: jax.Array) -> jax.Array:
        logits = jax.nn.relu(x @ params["hidden"] + params["bias"]) @ params["out"]
        return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean()

    def schedule(value: jax.Array) -> optax.Schedule:
        steps = epochs * per_epoch
        drops = {steps // 2: 0.1, 3 * steps // 4: 0.1}
        return lambda count: value * optax.piecewise_constant_schedule(1.0, drops)(count)

    def run(settings: _Settings, params: Any, key: jax.Array) -> tuple[jax.Array, jax.Array]:
        optimizer = clipax.mixed_clip_sgd(
            schedule(settings.learning_rate),
            schedule(settings.max_step),
            nu=settings.nu,
            decay=settings.decay,
        )

        def step(carry: Any, key: jax.Array) -> Any:
            params, state = carry
            batch = jax.random.randint(key, (_BATCH,), 0, len(y))
            gradients = jax.grad(loss)(params, x[batch], y[batch])
            updates, state = optimizer.update(gradients, state, params)
            return (optax.apply_updates(params, updates), state), None

        def epoch(carry: Any, key: jax.Array) -> Any:
            carry, _ = jax.lax.scan(step, carry, jax.random.split(key, per_epoch))
            return carry, loss(carry[0], x, y)

        carry = (params, optimizer.init(params))
        return loss(params, x, y), jax.lax.scan(epoch, carry, jax.random.split(key, epochs))[1]

    over_seeds = jax.vmap(run, in_axes=(None, 0, 0))
    return jax.vmap(over_seeds, in_axes=(0, None, None))(settings, starts, keys)


PAPER = Paper("mixed clipping, arXiv 2010.02519", (_identities, _training))
