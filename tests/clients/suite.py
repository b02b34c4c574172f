"""What every client must show: it trains, walks as with optax's clip, is logged, and resumes.

A client says how its loop begins, goes on and is stored (`Loop`). Its class inherits the tests.
"""

from __future__ import annotations

import functools
import json
import math
import operator
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint
import pytest

import clipax

Optimizer = optax.GradientTransformation

BAD = 2
"""The step whose gradient is made NaN, for a guard."""
BURST = 5
"""The step whose gradient is made fifty times as large, for a threshold that follows the norms."""


class Loop(NamedTuple):
    """A training loop of a framework, with one optimizer.

    Attributes:
      begin: Makes what the framework keeps between steps; the same at every call.
      advance: Makes one step, and returns what is kept and the loss before the step.
      params: Reads the parameters.
      opt_state: Reads the state of the optimizer, in whatever the framework holds it.
      store: Writes all of it to an empty folder, as the framework's users do.
      restore: Reads it back; it is given the folder and the result of `begin`.
    """

    begin: Callable[[], Any]
    advance: Callable[[Any, int], tuple[Any, Any]]
    params: Callable[[Any], Any]
    opt_state: Callable[[Any], Any]
    store: Callable[[Any, Path], None]
    restore: Callable[[Path, Any], Any]


class Run(NamedTuple):
    """The steps of a loop: parameters after each, losses, and what is kept at the end."""

    params: list[Any]
    losses: list[float]
    last: Any


def spoil(step: int, factor: float) -> optax.GradientTransformationExtraArgs:
    """Multiply the gradient of one step, as a bad batch does."""

    def update(
        updates: optax.Updates, count: jax.Array, params: Any = None, **extra: Any
    ) -> tuple[optax.Updates, jax.Array]:
        now = jnp.where(count == step, factor, 1.0)
        return jax.tree.map(lambda leaf: leaf * now.astype(leaf.dtype), updates), count + 1

    return optax.GradientTransformationExtraArgs(lambda _: jnp.zeros((), jnp.int32), update)


def optimizers(learning_rate: float, max_norm: float) -> dict[str, Optimizer]:
    """The clips that each client is given, and optax's own."""

    def then_adam(clip: Optimizer) -> Optimizer:
        return optax.chain(clip, optax.adam(learning_rate))

    clip = clipax.clip_by_global_norm(max_norm)
    return {
        "clip": then_adam(clip),
        "zscore": optax.chain(spoil(BURST, 50.0), then_adam(clipax.clip_by_zscore(2.5, warmup=2))),
        "skip": optax.chain(spoil(BAD, jnp.nan), clipax.skip_nonfinite(then_adam(clip))),
        "optax": then_adam(optax.clip_by_global_norm(max_norm)),
    }


OURS = ("clip", "zscore", "skip")
EACH = pytest.mark.parametrize("name", OURS)


def run(loop: Loop, steps: range, kept: Any) -> Run:
    """Make some steps."""
    params, losses = [], []
    for step in steps:
        kept, loss = loop.advance(kept, step)
        params.append(jax.tree.map(np.asarray, loop.params(kept)))
        losses.append(float(jnp.mean(loss)))
    return Run(params, losses, kept)


class Suite:
    """The tests of one client."""

    steps: ClassVar[int] = 8
    learning_rate: ClassVar[float] = 0.05
    max_norm: ClassVar[float] = 0.5
    tolerance: ClassVar[float] = 2e-5
    make: ClassVar[Callable[[Optimizer], Loop]]

    @classmethod
    @functools.cache
    def loop(cls, name: str) -> Loop:
        """The loop with one of the optimizers, compiled once."""
        return cls.make(optimizers(cls.learning_rate, cls.max_norm)[name])

    @classmethod
    @functools.cache
    def whole(cls, name: str) -> Run:
        """All steps, without a stop."""
        return run(cls.loop(name), range(cls.steps), cls.loop(name).begin())

    @classmethod
    def metrics(cls, opt_state: Any) -> Mapping[str, Any]:
        """What users log; a vectorised loop overrides it."""
        return clipax.metrics(opt_state, top=0)

    @EACH
    def test_loss_falls(self, name: str) -> None:
        losses = self.whole(name).losses
        half = len(losses) // 2
        assert all(map(math.isfinite, losses))
        assert np.mean(losses[half:]) < np.mean(losses[:half])

    def test_walks_as_with_the_clip_of_optax(self) -> None:
        ours, theirs = self.whole("clip").params, self.whole("optax").params
        for step, (one, other) in enumerate(zip(ours, theirs, strict=True)):
            assert_near(one, other, self.tolerance, f"step {step}")

    @EACH
    def test_metrics(self, name: str) -> None:
        found = self.metrics(self.loop(name).opt_state(self.whole(name).last))
        logged = json.loads(json.dumps({key: np.asarray(found[key]).tolist() for key in found}))
        assert all(np.all(np.isfinite(value)) for value in logged.values())
        # Each optimizer clipped; of a single spoilt step both the guard and the clip inside tell.
        assert np.all(np.asarray(logged["clip_fraction"]) > 0)
        bad = 1 if name == "skip" else 0
        assert np.all(np.asarray(logged["nonfinite_count"]) == bad)
        assert np.all(np.asarray(logged.get("skipped_count", 0)) == bad)
        if name != "zscore":  # which may cut to below its threshold
            bound = np.asarray(logged["threshold"]) * (1 + self.tolerance)
            assert np.all(np.asarray(logged["clipped_norm"]) <= bound)

    def test_a_bad_step_changes_nothing(self) -> None:
        params = self.whole("skip").params
        assert_same(params[BAD], params[BAD - 1])
        assert not same(params[BAD + 1], params[BAD])

    @EACH
    def test_resumes(self, name: str, tmp_path: Path) -> None:
        loop, half = self.loop(name), self.steps // 2
        loop.store(run(loop, range(half), loop.begin()).last, tmp_path)
        restored = loop.restore(tmp_path, loop.begin())
        after = run(loop, range(half, self.steps), restored)
        whole = self.whole(name)
        assert_same(after.params, whole.params[half:])
        assert_same(
            self.metrics(loop.opt_state(after.last)), self.metrics(loop.opt_state(whole.last))
        )

    def test_metrics_of_a_checkpoint_without_a_target(self, tmp_path: Path) -> None:
        state = self.loop("zscore").opt_state(self.whole("zscore").last)
        with orbax.checkpoint.StandardCheckpointer() as checkpointer:
            checkpointer.save(tmp_path / "state", state)
            checkpointer.wait_until_finished()
            restored = checkpointer.restore(tmp_path / "state")
        assert_same(dict(self.metrics(restored)), dict(self.metrics(state)))


def assert_near(one: Any, other: Any, tolerance: float, where: str = "") -> None:
    """Equal up to rounding, leaf by leaf."""
    assert operator.eq(jax.tree.structure(one), jax.tree.structure(other))
    for (path, a), b in zip(jax.tree.leaves_with_path(one), jax.tree.leaves(other), strict=True):
        np.testing.assert_allclose(
            a,
            b,
            rtol=tolerance,
            atol=tolerance * float(np.max(np.abs(b), initial=0.0)),
            err_msg=f"{where} {jax.tree_util.keystr(path)}",
        )


def same(one: Any, other: Any) -> bool:
    """Tell whether two trees are equal to the last bit."""
    pairs = zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True)
    return all(np.array_equal(np.asarray(a), np.asarray(b)) for a, b in pairs)


def assert_same(one: Any, other: Any) -> None:
    """Equal to the last bit."""
    assert jax.tree.leaves(one), "nothing to compare"
    for (path, a), b in zip(jax.tree.leaves_with_path(one), jax.tree.leaves(other), strict=True):
        np.testing.assert_array_equal(a, b, err_msg=jax.tree_util.keystr(path))
