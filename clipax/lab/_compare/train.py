"""Trains one method many times at once: runs that differ in seed, learning rate and threshold.

A block of runs is vectorised by `vmap` inside a jitted `scan`. Batches and noise are functions of
the seed and the step alone, so all methods and all settings meet the same ones.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import clipax
from clipax.lab._compare.feed import Feed
from clipax.lab._compare.functional import Functional
from clipax.lab._compare.methods import Build, Method
from clipax.lab._compare.plan import SELECTION_SEEDS, WIDTH, Plan, Run
from clipax.lab._compare.size import estimate_bytes
from clipax.lab._compare.tasks.task import Task
from clipax.lab._errors import InputError

__all__ = ["Outcome", "Trainer"]

# A run has exploded when its loss passes this times the one before training (at least 1), or the
# norm of its parameters this times the first one (at least that of entries of 1, as they may begin
# at zero). Nothing that still learns comes near.
_LOSS_LIMIT = 1e4
_GROWTH_LIMIT = 1e3
# What the runs of a block may take together, and the batches that are made ahead.
_MEMORY = 2**31
_AHEAD = 2**26


class Outcome(NamedTuple):
    """Results of a list of runs, one row for each.

    Attributes:
      scores: the loss, and what else is evaluated, at each point of the curve; a loss is infinite
        once a run has diverged, another score NaN.
      diverged: whether the run turned non-finite or exploded.
      clip_fraction: share of steps whose gradient was clipped or skipped, or None without
        telemetry.
      norms: norms of the gradients, noise included, one for each step; NaN once a run has diverged.
    """

    scores: dict[str, np.ndarray]
    diverged: np.ndarray
    clip_fraction: np.ndarray | None
    norms: np.ndarray

    @property
    def loss(self) -> np.ndarray:
        """The loss at each point of the curve."""
        return self.scores["loss"]


class _Runs(NamedTuple):
    """The state of a block of runs; every array has the block as its first axis."""

    params: Any
    rest: Any
    opt_state: Any
    diverged: jax.Array
    limit: jax.Array


class Trainer:
    """Trains methods on one task under one plan; compiled code is shared where it can be.

    Args:
      task: what is trained.
      plan: steps and noise.
      width: the number of runs that are vectorised; None for as many as fit, at most `WIDTH`.

    Attributes:
      untrained: the mean loss of each part before training.

    Raises:
      InputError: if the functions of the task do not fit together.
    """

    def __init__(self, task: Task, plan: Plan, width: int | None = None):
        self.task = task
        self.plan = plan
        self.functional = Functional(task)
        batch = jax.tree.map(lambda x: x[0, 0], Feed(task, [0], 0.0).take(1, 1))
        self.width = width or min(WIDTH, max(1, _MEMORY // self._estimate(batch)))
        bytes_of_batch = sum(leaf.nbytes for leaf in jax.tree.leaves(batch))
        pieces = math.ceil(plan.stride * self.width * bytes_of_batch / _AHEAD)
        self._chunk = math.ceil(plan.stride / min(max(pieces, 1), plan.stride))
        self._held_out = {
            part: jax.tree.map(jnp.asarray, batch) for part, batch in task.held_out.items()
        }

        def begin(seed: jax.Array) -> tuple[Any, Any, jax.Array]:
            params, rest = self.functional.init(_split_key(seed)[0])
            norm = jnp.maximum(clipax.global_norm(params), math.sqrt(sum(self.functional.sizes)))
            return params, rest, _GROWTH_LIMIT * norm

        # `lax.map`, not `vmap`: vectorised initialisers take seconds longer to compile.
        self._init = jax.jit(lambda seeds: jax.lax.map(begin, seeds))
        self._evaluate = jax.jit(jax.vmap(self.functional.evaluate, in_axes=(0, 0, None)))
        self._prepared: dict[str, Callable[..., Outcome]] = {}
        self.untrained = self._evaluate_untrained()
        self._loss_limit = _LOSS_LIMIT * max(1.0, abs(self.untrained["validation"]))

    def _evaluate_untrained(self) -> dict[str, float]:
        """Compute the mean loss of each part before the first step, whatever the width."""
        found: dict[str, list[np.ndarray]] = {part: [] for part in self._held_out}
        for seeds in _cut(SELECTION_SEEDS, self.width):
            params, rest, _ = self._init(np.array(seeds, np.uint32))
            for part, batch in self._held_out.items():
                found[part].append(np.asarray(self._evaluate(params, rest, batch)["loss"]))
        count = len(SELECTION_SEEDS)
        losses = {part: float(np.concatenate(some)[:count].mean()) for part, some in found.items()}
        for part, loss in losses.items():
            if not math.isfinite(loss):
                raise InputError(
                    f"task {self.task.name}: the {part} loss before training is {loss}."
                )
        return losses

    def prepare(self, method: Method) -> Callable[..., Outcome]:
        """Make the function that trains a method.

        Args:
          method: the method.

        Returns:
          `train(runs, part, curve, advance)`: scores are those on `part`, `"validation"` or
          `"test"`, at every point of the plan if `curve`, else at the last; `advance()` is called
          after each stretch of steps. The code is compiled once, whatever the list.
        """
        if method.name not in self._prepared:
            self._prepared[method.name] = self._prepare(method)
        return self._prepared[method.name]

    def _prepare(self, method: Method) -> Callable[..., Outcome]:
        init = jax.jit(jax.vmap(lambda setting, params: method.build(*setting).init(params)))
        advance_runs = jax.jit(lambda *args: self._advance(method.build, *args))
        fraction = jax.jit(jax.vmap(_clip_fraction, in_axes=(0, None), axis_size=self.width))

        def block(part: Sequence[Run], held_out: str, curve: bool, advance: Callable) -> Any:
            seeds = np.array([run.seed for run in part], np.uint32)
            rates = np.array([run.setting.rate for run in part], np.float32)
            limits = [run.setting.threshold for run in part]
            thresholds = None if limits[0] is None else np.array(limits, np.float32)
            settings = (rates, thresholds)
            params, rest, limit = self._init(seeds)
            runs = _Runs(params, rest, init(settings, params), jnp.zeros(len(part), bool), limit)
            feed = Feed(self.task, [run.seed for run in part], self.plan.corrupt)

            def score() -> tuple[Any, Any]:
                scores = self._evaluate(runs.params, runs.rest, self._held_out[held_out])
                return scores, runs.diverged

            scores, norms = [score()] if curve else [], []
            for first, last in zip(self.plan.points[:-1], self.plan.points[1:], strict=True):
                for start in range(first, last, self._chunk):
                    steps = min(self._chunk, last - start)
                    batches = feed.take(steps, self._chunk)
                    runs, seen = advance_runs(runs, seeds, settings, start, last, batches)
                    norms.append(np.asarray(seen)[:steps])
                if curve or last == self.plan.steps:
                    scores.append(score())
                # Wait for the device, so that the progress is real and Ctrl-C takes effect.
                jax.block_until_ready(runs.diverged)
                advance()
            clipped = fraction(runs.opt_state, self.plan.steps)
            return scores, clipped, np.concatenate(norms).T

        def train(
            runs: Sequence[Run],
            part: str,
            curve: bool,
            advance: Callable[[], None] = lambda: None,
        ) -> Outcome:
            results = [block(some, part, curve, advance) for some in _cut(runs, self.width)]
            return _join(results, len(runs), self._loss_limit)

        return train

    def _estimate(self, batch: Any) -> int:
        """Estimate the memory of one run."""
        params, rest = jax.eval_shape(self.functional.init, jax.random.key(0))
        step = jax.value_and_grad(self.functional.loss, has_aux=True)
        # An error of the user's own functions shows their traceback.
        training = estimate_bytes(step, params, rest, batch)
        held_out = self.task.held_out["validation"]
        evaluation = estimate_bytes(self.functional.evaluate, params, rest, held_out)
        # Parameters, two moments of Adam, and what a clip remembers.
        return max(training, evaluation) + 4 * 4 * sum(self.functional.sizes)

    def _advance(
        self,
        build: Build,
        runs: _Runs,
        seeds: jax.Array,
        settings: tuple[Any, Any],
        start: jax.Array,
        end: jax.Array,
        batches: Any,
    ) -> tuple[_Runs, jax.Array]:
        """Run the steps of a block for which there are batches, at most to `end`."""

        def body(runs: _Runs, now: tuple[jax.Array, Any]) -> tuple[_Runs, jax.Array]:
            step, batch = now

            def one(run: _Runs, seed: jax.Array, setting: Any, batch: Any) -> Any:
                return self._step(build(*setting), run, seed, step, batch)

            # The scan has a fixed length so that it is compiled once; steps past the end are idle.
            return jax.lax.cond(
                step < end,
                lambda: jax.vmap(one)(runs, seeds, settings, batch),
                lambda: (runs, jnp.zeros(self.width, jnp.float32)),
            )

        return jax.lax.scan(body, runs, (start + jnp.arange(self._chunk), batches))

    def _step(
        self,
        optimizer: optax.GradientTransformation,
        run: _Runs,
        seed: jax.Array,
        step: jax.Array,
        batch: Any,
    ) -> tuple[_Runs, jax.Array]:
        """Take one step of one run; a diverged run keeps its parameters."""
        value_and_grad = jax.value_and_grad(self.functional.loss, has_aux=True)
        (loss, rest), gradient = value_and_grad(run.params, run.rest, batch)
        gradient = self.plan.noise.add(gradient, jax.random.fold_in(_split_key(seed)[1], step))
        norm = clipax.global_norm(gradient)
        # The loss goes along for transformations that ask for it.
        update = optax.with_extra_args_support(optimizer).update
        updates, opt_state = update(gradient, run.opt_state, run.params, value=loss)
        params = optax.apply_updates(run.params, updates)
        # Comparisons with NaN are false, so that a NaN diverges too.
        sound = (jnp.abs(loss) < self._loss_limit) & (clipax.global_norm(params) < run.limit)
        alive = sound & ~run.diverged
        kept = jax.tree.map(
            lambda new, old: jnp.where(alive, new, old),
            (params, rest, opt_state),
            (run.params, run.rest, run.opt_state),
        )
        norm = jnp.where(run.diverged, jnp.nan, norm)
        params, rest, opt_state = kept
        return _Runs(params, rest, opt_state, run.diverged | ~sound, run.limit), norm


def _cut(values: Sequence[Any], width: int) -> list[list[Any]]:
    """Cut into blocks of a width; the last value fills up the last block."""
    blocks = [list(values[start : start + width]) for start in range(0, len(values), width)]
    return [block + block[-1:] * (width - len(block)) for block in blocks]


def _split_key(seed: jax.Array) -> jax.Array:
    """Make the two random streams of a run: initial weights, noise."""
    return jax.random.split(jax.random.key(seed), 2)


def _clip_fraction(opt_state: Any, steps: jax.Array) -> jax.Array | None:
    """Read from a state's telemetry (the first of several) what share was clipped or skipped.

    NaN where the method has no threshold, to tell it from one that clipped no step; None without
    telemetry.
    """
    try:
        telemetry = clipax.metrics(opt_state)
    except ValueError:
        return None
    skipped = telemetry.get("skipped_count")
    names = [name for name in telemetry if name.endswith("clip_fraction")]
    if not names:
        return None if skipped is None else skipped / steps
    threshold = telemetry[names[0].replace("clip_fraction", "threshold")]
    clipped = jnp.where(jnp.isinf(threshold), jnp.nan, telemetry[names[0]])
    if skipped is None:
        return clipped
    # A clip inside of a guard sees the steps that are left.
    return jnp.nan_to_num(clipped) * (1 - skipped / steps) + skipped / steps


def _join(results: list[Any], runs: int, limit: float) -> Outcome:
    """Join the results of blocks, without the runs that pad the last block."""
    blocks, fractions, norms = zip(*results, strict=True)
    columns = [list(zip(*scores, strict=True)) for scores in blocks]
    diverged = np.concatenate([np.stack(flags, 1) for _, flags in columns])[:runs]
    scores = {
        name: np.concatenate(
            [np.stack([point[name] for point in found], 1) for found, _ in columns]
        )
        for name in columns[0][0][0]
    }
    scores = {name: values[:runs] for name, values in scores.items()}
    # The last update may spoil a run before any training loss shows it.
    diverged = diverged | ~(np.abs(scores["loss"]) < limit)
    diverged = np.logical_or.accumulate(diverged, axis=1)
    for name, values in scores.items():
        scores[name] = np.where(diverged, np.inf if name == "loss" else np.nan, values)
    fraction = None if fractions[0] is None else np.concatenate(fractions)[:runs]
    return Outcome(scores, diverged[:, -1], fraction, np.concatenate(norms)[:runs])
