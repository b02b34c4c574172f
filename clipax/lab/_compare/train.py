"""Trains one method many times at once: runs that differ in seed and learning rate.

A block of runs is vectorised by `vmap` inside a jitted `scan`. Batches and noise are functions of
the seed and the step alone, so all methods and all learning rates meet the same ones.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

import clipax
from clipax.lab._compare.data import Dataset, Split
from clipax.lab._compare.models import make_model
from clipax.lab._compare.plan import WIDTH, Build, Method, Plan

__all__ = ["Outcome", "Trainer"]

# Examples in one piece of an evaluation, which bounds its memory.
_PIECE = 512
# A run has exploded when its loss or the growth of its parameters' norm passes these. Nothing that
# still learns comes near: losses of guessing are a few units, weights grow tenfold at most.
_LOSS_LIMIT = 1e4
_GROWTH_LIMIT = 1e3


class Outcome(NamedTuple):
    """Results of a list of runs, one row for each.

    Attributes:
      loss: mean loss at each point of the curve; infinite once a run has diverged.
      accuracy: share of examples classified correctly; 0 once a run has diverged.
      diverged: whether the run turned non-finite or exploded.
      clip_fraction: share of steps whose gradient was clipped, or None without telemetry.
    """

    loss: np.ndarray
    accuracy: np.ndarray
    diverged: np.ndarray
    clip_fraction: np.ndarray | None


class _Runs(NamedTuple):
    """The state of a block of runs; every array has the block as its first axis."""

    params: Any
    opt_state: Any
    diverged: jax.Array
    limit: jax.Array


class Trainer:
    """Trains methods on one problem under one plan; compiled code is shared where it can be.

    Args:
      data: the data set; gradients see its training part only.
      model: a name of `clipax.lab._compare.models.MODELS`.
      plan: steps, batches and noise.
    """

    def __init__(self, data: Dataset, model: str, plan: Plan):
        self.data = data
        self.plan = plan
        self._graph = nnx.graphdef(
            nnx.eval_shape(lambda: make_model(model, data, jax.random.key(0)))
        )
        self._train = (jnp.asarray(data.train.x), jnp.asarray(data.train.y))

        def begin(seed: jax.Array) -> tuple[Any, jax.Array]:
            params = nnx.state(make_model(model, data, _keys(seed).init))
            return params, _GROWTH_LIMIT * clipax.global_norm(params)

        # `lax.map`, not `vmap`: vectorised initialisers take seconds longer to compile.
        self._init = jax.jit(lambda seeds: jax.lax.map(begin, seeds))
        self._evaluate = jax.jit(jax.vmap(self._score, in_axes=(0, None, None, None)))

    def prepare(self, method: Method) -> Callable[..., Outcome]:
        """Make the function that trains a method.

        Args:
          method: the method.

        Returns:
          `train(runs, split, curve, advance)`: `runs` is a list of pairs of seed and learning
          rate; losses are those on `split`, at every point of the plan if `curve`, else at the
          last; `advance()` is called after each stretch of steps. The code is compiled once,
          whatever the list.
        """
        init = jax.jit(jax.vmap(lambda rate, params: method.build(rate).init(params)))
        advance_runs = jax.jit(lambda *args: self._stretch(method.build, *args))
        fraction = jax.jit(jax.vmap(_clip_fraction, axis_size=WIDTH))

        def block(
            seeds: np.ndarray, rates: np.ndarray, pieces: Any, curve: bool, advance: Callable
        ) -> Any:
            params, limit = self._init(seeds)
            runs = _Runs(params, init(rates, params), jnp.zeros(len(seeds), bool), limit)
            scores = [(*self._evaluate(params, *pieces), runs.diverged)] if curve else []
            for step in self.plan.points[:-1]:
                runs = advance_runs(runs, seeds, rates, step, *self._train)
                if curve or step == self.plan.points[-2]:
                    scores.append((*self._evaluate(runs.params, *pieces), runs.diverged))
                # Wait for the device, so that the progress is real and Ctrl-C takes effect.
                jax.block_until_ready(runs.diverged)
                advance()
            loss, accuracy, diverged = (np.stack(column, 1) for column in zip(*scores, strict=True))
            return loss, accuracy, diverged, fraction(runs.opt_state)

        def train(
            runs: Sequence[tuple[int, float]],
            split: Split,
            curve: bool,
            advance: Callable[[], None] = lambda: None,
        ) -> Outcome:
            pieces = _pieces(split)
            results = []
            for start in range(0, len(runs), WIDTH):
                part = list(runs[start : start + WIDTH])
                padded = part + part[-1:] * (WIDTH - len(part))
                seeds = np.array([seed for seed, _ in padded], np.uint32)
                rates = np.array([rate for _, rate in padded], np.float32)
                results.append(block(seeds, rates, pieces, curve, advance))
            return _join(results, len(runs))

        return train

    def _loss(self, params: Any, x: jax.Array, y: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Compute the loss of each example, and whether its class is right."""
        logits = nnx.merge(self._graph, params)(x)
        losses = optax.losses.softmax_cross_entropy_with_integer_labels(logits, y)
        return losses, jnp.argmax(logits, -1) == y

    def _score(
        self, params: Any, x: jax.Array, y: jax.Array, weight: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        """Compute mean loss and accuracy over pieces of examples; weight 0 leaves one out."""

        def piece(total: tuple[jax.Array, jax.Array], part: Any) -> tuple[Any, None]:
            x, y, weight = part
            losses, right = self._loss(params, x, y)
            return (total[0] + jnp.sum(losses * weight), total[1] + jnp.sum(right * weight)), None

        zero = jnp.zeros((), jnp.float32)
        (loss, right), _ = jax.lax.scan(piece, (zero, zero), (x, y, weight))
        return loss / jnp.sum(weight), right / jnp.sum(weight)

    def _stretch(
        self,
        build: Build,
        runs: _Runs,
        seeds: jax.Array,
        rates: jax.Array,
        start: jax.Array,
        x: jax.Array,
        y: jax.Array,
    ) -> _Runs:
        """Run the next `stride` steps of a block, at most to the end of the plan."""

        def body(runs: _Runs, step: jax.Array) -> tuple[_Runs, None]:
            def one(run: _Runs, seed: jax.Array, rate: jax.Array) -> _Runs:
                return self._step(build(rate), run, seed, step, x, y)

            # The scan has a fixed length so that it is compiled once; steps past the end are idle.
            return jax.lax.cond(
                step < self.plan.steps,
                lambda: jax.vmap(one)(runs, seeds, rates),
                lambda: runs,
            ), None

        return jax.lax.scan(body, runs, start + jnp.arange(self.plan.stride))[0]

    def _step(
        self,
        optimizer: optax.GradientTransformation,
        run: _Runs,
        seed: jax.Array,
        step: jax.Array,
        x: jax.Array,
        y: jax.Array,
    ) -> _Runs:
        """Take one step of one run; a diverged run keeps its parameters."""
        keys = _keys(seed)
        rows = jax.random.randint(
            jax.random.fold_in(keys.batch, step), (self.plan.batch_size,), 0, len(y)
        )
        loss, gradient = jax.value_and_grad(
            lambda params: jnp.mean(self._loss(params, x[rows], y[rows])[0])
        )(run.params)
        gradient = self._perturb(gradient, jax.random.fold_in(keys.noise, step))
        updates, opt_state = optimizer.update(gradient, run.opt_state, run.params)
        params = optax.apply_updates(run.params, updates)
        # Comparisons with NaN are false, so that a NaN diverges too.
        sound = (loss < _LOSS_LIMIT) & (clipax.global_norm(params) < run.limit)
        alive = sound & ~run.diverged
        params, opt_state = jax.tree.map(
            lambda new, old: jnp.where(alive, new, old),
            (params, opt_state),
            (run.params, run.opt_state),
        )
        return _Runs(params, opt_state, run.diverged | ~sound, run.limit)

    def _perturb(self, gradient: Any, key: jax.Array) -> Any:
        """Add `s * ||g|| / sqrt(d) * xi` to the gradient `g`, with independent entries of `xi`."""
        if self.plan.noise.is_none:
            return gradient
        leaves, tree = jax.tree.flatten(gradient)
        sizes = [leaf.size for leaf in leaves]
        noise = self.plan.noise.sample(key, (sum(sizes),))
        scale = self.plan.noise_scale * clipax.global_norm(gradient) / math.sqrt(sum(sizes))
        parts = jnp.split(noise, np.cumsum(sizes)[:-1])
        noisy = [
            leaf + scale * part.reshape(leaf.shape)
            for leaf, part in zip(leaves, parts, strict=True)
        ]
        return jax.tree.unflatten(tree, noisy)


class _Keys(NamedTuple):
    init: jax.Array
    batch: jax.Array
    noise: jax.Array


def _keys(seed: jax.Array) -> _Keys:
    """Make the three random streams of a run: initial weights, batches, noise."""
    return _Keys(*jax.random.split(jax.random.key(seed), 3))


def _clip_fraction(opt_state: Any) -> jax.Array | None:
    """Read the clip fraction from a state's telemetry (the first of several), or None.

    NaN where the method has no threshold, to tell it from one that clipped no step.
    """
    try:
        telemetry = clipax.metrics(opt_state)
    except ValueError:
        return None
    names = [name for name in telemetry if name.endswith("clip_fraction")]
    if not names:
        return None
    threshold = telemetry[names[0].replace("clip_fraction", "threshold")]
    return jnp.where(jnp.isinf(threshold), jnp.nan, telemetry[names[0]])


def _pieces(split: Split) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Cut a split into pieces of equal size; examples of weight 0 pad the last."""
    size = min(_PIECE, len(split))
    count = math.ceil(len(split) / size)
    fill = count * size - len(split)
    x = np.pad(split.x, [(0, fill)] + [(0, 0)] * (split.x.ndim - 1))
    weight = np.pad(np.ones(len(split), np.float32), (0, fill))
    return (
        x.reshape(count, size, *x.shape[1:]),
        np.pad(split.y, (0, fill)).reshape(count, size),
        weight.reshape(count, size),
    )


def _join(results: list[Any], runs: int) -> Outcome:
    """Join the results of blocks, without the runs that pad the last block."""
    columns = list(zip(*results, strict=True))
    loss, accuracy, diverged = (np.concatenate(column)[:runs] for column in columns[:3])
    fraction = None if columns[3][0] is None else np.concatenate(columns[3])[:runs]
    # The last update may spoil a run before any training loss shows it.
    diverged |= ~(loss < _LOSS_LIMIT)
    diverged = np.logical_or.accumulate(diverged, axis=1)
    return Outcome(
        np.where(diverged, np.inf, loss),
        np.where(diverged, 0.0, accuracy),
        diverged[:, -1],
        fraction,
    )
