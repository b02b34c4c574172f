"""Runs of Adam and its clipped versions that tune an encoder on sentences, and gradients' noise."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, cached_property, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from sklearn.metrics import matthews_corrcoef

import clipax
from benchmarks.papers.encoder import Classifier
from benchmarks.papers.packing import Packed, pack, spread
from benchmarks.papers.threads import map_threads

__all__ = [
    "BATCH",
    "METHODS",
    "SCHEDULE",
    "Method",
    "Problem",
    "Run",
    "Setting",
    "measure_noise",
    "train",
]

BATCH = 16
_WARM_UP = 0.1
SCHEDULE = f"batch {BATCH} warm-up {_WARM_UP:g}"  # part of the names of runs that are kept
_AT_ONCE = 32  # sentences in a batch of the validation set, at most
Params = Any


@dataclass(frozen=True)
class Method:
    """Adam with or without a clip.

    Attributes:
      clip: What is clipped: "leaf" or "coordinate".
      threshold: The authors' best for ALBERT on CoLA, a norm of a leaf or an entry.
      delay: Steps that the divisor lags behind, or None.
      b_init: The first divisor, as in the authors' code: without a delay it starts at zero and has
        1e-6 added.
    """

    clip: str
    threshold: float
    delay: int | None = None
    b_init: float = 1e-6


# Adam is the same code with an infinite threshold.
METHODS = {
    "Adam": Method("leaf", math.inf),
    "Clip-Adam, leaves": Method("leaf", 1.0),
    "Clip-Adam, entries": Method("coordinate", 0.02),
    "Clip-AdamD, leaves": Method("leaf", 1.0, delay=1, b_init=1e-5**0.5),
}


class Setting(NamedTuple):
    """What is chosen for a method.

    Attributes:
      rate: The largest learning rate.
      threshold: Largest norm, or largest entry.
    """

    rate: float
    threshold: float


@dataclass(frozen=True)
class Run:
    """What a run leaves.

    Attributes:
      losses: Validation losses, at as many evenly spaced steps as asked for.
      correlation: Matthews's, between guesses and classes of the validation set, at the end.
      clipped: Share of leaves (or entries) that were clipped, over all steps.
    """

    losses: np.ndarray
    correlation: float
    clipped: float


@dataclass(frozen=True)
class Problem:
    """A model to be tuned on sentences.

    Attributes:
      name: Of the data.
      model: With the weights to start from, but for its last layer's.
      train: Sentences as numbers of word pieces.
      train_classes: One whole number for each.
      validation: Likewise.
      validation_classes: Likewise.
      least: Length of the shortest rows; a program is compiled for each length above it.
    """

    name: str
    model: Classifier
    train: Sequence[np.ndarray]
    train_classes: np.ndarray
    validation: Sequence[np.ndarray]
    validation_classes: np.ndarray
    least: int = 40

    def start(self, seed: int) -> Params:
        """The weights, with a last layer drawn anew."""
        params = jax.tree.map(jnp.copy, nnx.state(self.model, nnx.Param))
        kernel = params["out"]["kernel"]
        drawn = np.random.default_rng((seed, 1)).normal(0, 0.02, kernel.shape)
        kernel.set_value(jnp.asarray(drawn, kernel.dtype))
        return params

    def batches(self, seed: int, count: int) -> list[Packed]:
        """Batches in a random order, anew for every epoch."""
        rng = np.random.default_rng((seed, 2))
        epochs = -(-count * BATCH // len(self.train))
        order = np.concatenate([rng.permutation(len(self.train)) for _ in range(epochs)])
        picks = order[: count * BATCH].reshape(count, BATCH)
        return [self.batch(some) for some in picks]

    def batch(self, picks: np.ndarray) -> Packed:
        """Sentences of the training set."""
        return pack([self.train[i] for i in picks], self.train_classes[picks], self.least)

    @cached_property
    def validation_batches(self) -> list[Packed]:
        """The validation set."""
        count = -(-len(self.validation) // _AT_ONCE)
        return spread(self.validation, self.validation_classes, count)

    @cached_property
    def logits(self) -> Callable[[Params, Packed], jax.Array]:
        """From weights and a batch to logits."""
        graph = nnx.graphdef(self.model)
        return jax.jit(lambda params, batch: nnx.merge(graph, params)(*batch[:-1]))

    @cached_property
    def gradient(self) -> Callable[[Params, Packed], Params]:
        """Of the mean cross-entropy of a batch; its classes are all real."""

        def loss(params: Params, batch: Packed) -> jax.Array:
            logits = self.logits(params, batch)
            losses = optax.softmax_cross_entropy_with_integer_labels(logits, batch.classes)
            return losses.mean()

        return jax.jit(jax.grad(loss))

    def evaluate(self, params: Params) -> tuple[float, float]:
        """Loss and Matthews's correlation on the validation set."""
        logits = np.concatenate(
            [np.asarray(self.logits(params, batch)) for batch in self.validation_batches]
        )
        classes = np.concatenate([batch.classes for batch in self.validation_batches])
        logits, classes = logits[classes >= 0].astype(float), classes[classes >= 0]
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, classes)
        return float(losses.mean()), float(matthews_corrcoef(classes, logits.argmax(axis=-1)))


def train(
    problem: Problem,
    method: Method,
    setting: Setting,
    seed: int,
    steps: int,
    records: int,
) -> tuple[Run, Params]:
    """Tunes a model.

    The learning rate rises over a tenth of the steps and then falls to zero, both linearly.

    Args:
      problem: Model and data.
      method: The optimizer.
      setting: Its learning rate and threshold.
      seed: Of the last layer and the order of the data.
      steps: How many, a multiple of `records`.
      records: How often the validation loss is computed.

    Returns:
      What was recorded, and the weights.
    """
    init, update = _optimizer(method.clip, method.delay, method.b_init)
    params = problem.start(seed)
    state = init(params)
    rises = max(1, round(_WARM_UP * steps))
    losses, over, correlation = [], [], math.nan
    for count, batch in enumerate(problem.batches(seed, steps)):
        now = setting.rate * min((count + 1) / rises, (steps - count) / (steps - rises + 1))
        gradient = problem.gradient(params, batch)
        if method.clip == "coordinate":
            over.append(_share_above(gradient, setting.threshold))
        params, state = update(params, state, gradient, setting.threshold, now)
        if (count + 1) % (steps // records) == 0:
            loss, correlation = problem.evaluate(params)
            losses.append(loss)
    share = np.mean(jax.device_get(over)) if over else clipax.metrics(state)["clip_fraction"]
    return Run(np.array(losses), correlation, float(share)), params


@cache
def _optimizer(
    clip: str, delay: int | None, b_init: float
) -> tuple[Callable[[Params], Any], Callable[..., tuple[Params, Any]]]:
    """Compiled functions: the first state, and a step; one program for all thresholds and rates."""

    def make(threshold: Any, rate: Any) -> optax.GradientTransformation:
        return clipax.clip_adam(rate, threshold, b_init=b_init, delay=delay, clip=clip)

    def update(
        params: Params, state: Any, gradient: Params, threshold: jax.Array, rate: jax.Array
    ) -> tuple[Params, Any]:
        updates, state = make(threshold, rate).update(gradient, state, params)
        return optax.apply_updates(params, updates), state

    return jax.jit(make(1.0, 1.0).init), jax.jit(update, donate_argnums=(0, 1))


@jax.jit
def _share_above(gradient: Params, threshold: float) -> jax.Array:
    """The share of entries above the threshold."""
    leaves = jax.tree.leaves(gradient)
    over = sum(jnp.sum(jnp.abs(leaf) > threshold) for leaf in leaves)
    return over / sum(leaf.size for leaf in leaves)


def measure_noise(problem: Problem, params: Params, seed: int, count: int) -> np.ndarray:
    """Distances of minibatch gradients from the gradient of the training set.

    Args:
      problem: Model and data.
      params: Where.
      seed: Of the batches.
      count: How many batches, each drawn without replacement from all sentences.

    Returns:
      The distances.
    """
    epoch = problem.batches(seed, len(problem.train) // BATCH)  # up to 15 sentences are left out
    mean = jax.tree.map(jnp.zeros_like, params)
    for batch in epoch:
        mean = _add(mean, problem.gradient(params, batch), 1 / len(epoch))
    rng = np.random.default_rng((seed, 3))
    picks = [rng.choice(len(problem.train), BATCH, replace=False) for _ in range(count)]
    return np.array(
        map_threads(
            lambda some: float(_distance(problem.gradient(params, problem.batch(some)), mean)),
            picks,
        )
    )


@partial(jax.jit, donate_argnums=0)
def _add(mean: Params, gradient: Params, share: float) -> Params:
    return jax.tree.map(lambda x, y: x + share * y, mean, gradient)


@jax.jit
def _distance(gradient: Params, mean: Params) -> jax.Array:
    return optax.tree.norm(jax.tree.map(jnp.subtract, gradient, mean))
