"""The variational autoencoder of the paper's authors, and programs that train many at once.

M. Tucat, A. Mukherjee et al., "Regularized Gradient Clipping Provably Trains Wide and Deep Neural
Networks", arXiv 2404.08624. Network, loss, batch and drops of the rate are those of the authors'
notebook (`resnet_vae/VAE_Fashion_MNIST.ipynb` in github.com/mingfeisun/delta-gclip).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import optax

import clipax

__all__ = ["Curves", "Method", "train"]

_HIDDEN, _LATENT, _BATCH = 50, 50, 100

# A matrix and a bias for each layer.
Params = dict[str, tuple[jax.Array, jax.Array]]


@dataclass(frozen=True)
class Method:
    """How to train.

    Attributes:
      rate: The learning rate.
      threshold: Of the clip.
      delta: Its floor: 0 is the clip alone, 1 is SGD.
      adam: Adam instead, which has neither threshold nor floor.
      drops: Whether the rate is a tenth from half of the steps on, and a hundredth from three
        quarters on: the authors' is for the clipped methods.
    """

    rate: float
    threshold: float = 1.0
    delta: float = 1.0
    adam: bool = False
    drops: bool = False


@dataclass(frozen=True)
class Curves:
    """What is recorded, of shape (methods, seeds, records or steps).

    Attributes:
      steps: Where losses were measured.
      train: The loss of an image that gradients see.
      test: Of one that they do not.
      norms: Of the gradient, at every step.
    """

    steps: np.ndarray
    train: np.ndarray
    test: np.ndarray
    norms: np.ndarray


def train(
    images: tuple[np.ndarray, np.ndarray],
    methods: Sequence[Method],
    seeds: Sequence[int],
    steps: int,
    records: int = 20,
) -> Curves:
    """Trains by every method from every seed, in one program.

    Args:
      images: Those that gradients see, a row each, and those that they do not.
      methods: All of them Adam, or none.
      seeds: Of the parameters, the order of the images and the codes: the same for every method.
      steps: How many.
      records: How often losses are measured, a multiple of four; divides `steps`.

    Returns:
      What was recorded.
    """
    seen, held = (jnp.asarray(part, jnp.float32) for part in images)
    block, adam = steps // records, methods[0].adam
    generators = [np.random.default_rng(seed) for seed in seeds]
    starts = [_init(seen.shape[1], rng) for rng in generators]
    epochs = math.ceil(steps * _BATCH / len(seen))
    orders = np.stack(
        [np.concatenate([rng.permutation(len(seen)) for _ in range(epochs)]) for rng in generators]
    )
    orders = orders[:, : steps * _BATCH].reshape(len(seeds), records, block, _BATCH)
    test_draws = jnp.asarray(np.random.default_rng(0).normal(size=(len(held), _LATENT)), seen.dtype)

    def optimizer(settings: dict[str, jax.Array]) -> optax.GradientTransformation:
        if adam:  # an infinite threshold: only to measure norms
            return optax.chain(clipax.clip_by_global_norm(jnp.inf), optax.adam(settings["rate"]))
        return clipax.regularized_clip_sgd(
            settings["rate"], settings["threshold"], settings["delta"]
        )

    # Over methods, then over seeds, whose images and codes all methods share.
    @jax.jit
    def advance(carry, settings, picks, draws):  # type: ignore[no-untyped-def]
        def run(carry, settings, picks, draws):  # type: ignore[no-untyped-def]
            def step(carry, drawn):  # type: ignore[no-untyped-def]
                params, state = carry
                rows, noise = drawn
                grads = jax.grad(_loss)(params, seen[rows], noise)
                updates, state = optimizer(settings).update(grads, state, params)
                norm = clipax.metrics(state)["grad_norm"]
                return (optax.apply_updates(params, updates), state), norm

            carry, norms = jax.lax.scan(step, carry, (picks, draws))
            # The authors count a sum over the batch; reported is the loss of an image.
            losses = [
                _loss(carry[0], part, test_draws) / len(held) for part in (seen[: len(held)], held)
            ]
            return carry, jnp.stack(losses), norms

        over_seeds = jax.vmap(run, in_axes=(0, None, 0, 0))
        return jax.vmap(over_seeds, in_axes=(0, 0, None, None))(carry, settings, picks, draws)

    @jax.jit
    def begin(starts, settings):  # type: ignore[no-untyped-def]
        def one(settings):  # type: ignore[no-untyped-def]
            return jax.vmap(lambda start: (start, optimizer(settings).init(start)))(starts)

        return jax.vmap(one)(settings)

    names = ("rate", "threshold", "delta")
    settings = {
        name: jnp.asarray([getattr(m, name) for m in methods], jnp.float32) for name in names
    }
    carry = begin(jax.tree.map(lambda *leaves: jnp.stack(leaves), *starts), settings)
    losses, norms = [], []
    for record in range(records):
        past = int(record >= records / 2) + int(record >= 3 * records / 4)
        factors = np.array([0.1**past if method.drops else 1.0 for method in methods], np.float32)
        now = settings | {"rate": settings["rate"] * factors}
        shape = (block, _BATCH, _LATENT)
        draws = np.stack([rng.standard_normal(shape, np.float32) for rng in generators])
        carry, loss, norm = advance(carry, now, jnp.asarray(orders[:, record]), draws)
        losses.append(loss)
        norms.append(norm)
    found = np.stack(losses, axis=-1)
    times = block * np.arange(1, records + 1)
    return Curves(times, found[:, :, 0], found[:, :, 1], np.concatenate(norms, axis=-1))


def _init(pixels: int, rng: np.random.Generator) -> Params:
    """As PyTorch does it: uniform, up to one over the root of the inputs."""
    sizes = {
        "in": (pixels, _HIDDEN),
        "inner": (_HIDDEN, _HIDDEN),
        "mean": (_HIDDEN, _LATENT),
        "log_variance": (_HIDDEN, _LATENT),
        "back": (_LATENT, _HIDDEN),
        "outer": (_HIDDEN, _HIDDEN),
        "out": (_HIDDEN, pixels),
    }

    def draw(inputs: int, shape: tuple[int, ...]) -> jax.Array:
        return jnp.asarray(rng.uniform(-1, 1, shape) / np.sqrt(inputs), jnp.float32)

    return {name: (draw(size[0], size), draw(size[0], size[1:])) for name, size in sizes.items()}


def _loss(params: Params, x: jax.Array, draws: jax.Array) -> jax.Array:
    """Squared error and divergence of the codes, summed over pixels and images."""

    def dense(name: str, x: jax.Array) -> jax.Array:
        matrix, bias = params[name]
        return x @ matrix + bias

    def hidden(name: str, x: jax.Array) -> jax.Array:
        return jax.nn.leaky_relu(dense(name, x), 0.2)

    code = hidden("inner", hidden("in", x))
    mean, log_variance = dense("mean", code), dense("log_variance", code)
    z = mean + jnp.exp(log_variance / 2) * draws
    pixels = jax.nn.sigmoid(dense("out", hidden("outer", hidden("back", z))))
    divergence = jnp.sum(jnp.exp(log_variance) + mean**2 - 1 - log_variance) / 2
    return jnp.sum((pixels - x) ** 2) + divergence
