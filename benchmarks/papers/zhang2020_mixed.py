"""Mixed clipping: what its corners are, and how it trains networks.

B. Zhang, J. Jin, C. Fang, L. Wang, "Improved Analysis of Clipping Algorithms for Non-convex
Optimization", NeurIPS 2020, arXiv 2010.02519.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import clipax
from benchmarks.papers.claims import at_most, within
from benchmarks.papers.paper import Options, Outcome, Paper
from benchmarks.papers.zhang2020_mixed_cifar import cifar
from benchmarks.papers.zhang2020_mixed_methods import Settings
from benchmarks.papers.zhang2020_mixed_text import language

__all__ = ["PAPER"]


# Step sizes on a sequence of gradients whose tails make the clip bite now and then.
_LENGTH, _DIMENSIONS = 300, 8
_RATE, _LONGEST = 0.3, 2.0
_CASES = {
    "mixed": Settings(_RATE, _LONGEST, 0.7, 0.999),
    "with weight decay": Settings(_RATE, _LONGEST, 0.7, 0.9, 0.01),
    "quasi-hyperbolic, no clip": Settings(_RATE, math.inf, 0.7, 0.9),
    "clip": Settings(_RATE, _LONGEST, 0.0, 0.9),
    "momentum clip": Settings(_RATE, _LONGEST, 1.0, 0.9),
    "momentum, no clip": Settings(_RATE, math.inf, 1.0, 0.9),
    "mixed, half as long": Settings(_RATE / 2, _LONGEST / 2, 0.7, 0.999),
}


def _identities(options: Options) -> Outcome:
    """Every case beside a loop in NumPy; the corners beside the methods that they are."""
    gradients = np.random.default_rng(options.seed).standard_t(1.5, (_LENGTH, _DIMENSIONS))
    settings = Settings(*np.array([*_CASES.values()]).T)
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
        within(
            "share of steps that are clipped", (0.05, 0.95), _share(lengths["clip"]), source="ours"
        ),
        within("soft over hard response: shortest", (0.5, 1.0), shrunk.min()),
        within("soft over hard response: longest", (0.5, 1.0), shrunk.max()),
    ]
    return Outcome(claims, notes=["Not reproduced: the paper's ResNet-50 on ImageNet."])


def _share(lengths: np.ndarray) -> float:
    return float(np.mean(lengths > _LONGEST * (1 - 1e-9)))


@partial(jax.jit, static_argnums=2)
@partial(jax.vmap, in_axes=(0, None, None))
def _updates(settings: Settings, gradients: jax.Array, response: str) -> jax.Array:
    optimizer = clipax.mixed_clip_sgd(
        settings.learning_rate,
        settings.max_step,
        nu=settings.nu,
        decay=settings.decay,
        weight_decay=settings.weight_decay,
        response=response,
    )
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


def _loop(case: Settings, gradients: np.ndarray, response: str) -> np.ndarray:
    """Algorithm 1, in double precision and independent of clipax."""
    eta, longest, nu, decay, weight_decay, _ = case

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


PAPER = Paper("mixed clipping, arXiv 2010.02519", (_identities, cifar, language))
