"""optax's own wrappers, with clipax's clip inside of them in the place of optax's."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint
import pytest

import clipax
from tests.clients import test_haiku
from tests.clients.data import regression
from tests.clients.suite import (
    BAD,
    Loop,
    Optimizer,
    Run,
    assert_near,
    assert_same,
    run,
    spoil,
)

INPUTS, TARGETS = regression()
LABELS = {"first": "clipped", "second": "frozen"}
Wrapper = Callable[[Callable[..., Optimizer], float], Optimizer]


def then_adam(clip: Callable[..., Optimizer], max_norm: float) -> Optimizer:
    """The chain of every example."""
    return optax.chain(clip(max_norm), optax.adam(0.05))


WRAPPERS: dict[str, Wrapper] = {
    "chain": then_adam,
    "named_chain": lambda clip, c: optax.named_chain(("clip", clip(c)), ("adam", optax.adam(0.05))),
    "partition": lambda clip, c: optax.partition(
        {"clipped": then_adam(clip, c), "frozen": optax.sgd(0.01)}, LABELS
    ),
    "masked": lambda clip, c: optax.chain(
        optax.masked(clip(c), {"first": True, "second": False}), optax.sgd(0.01)
    ),
    "MultiSteps": lambda clip, c: optax.MultiSteps(
        then_adam(clip, c), every_k_schedule=2
    ).gradient_transformation(),
    "inject_hyperparams": lambda clip, c: optax.inject_hyperparams(
        lambda learning_rate, max_norm: optax.chain(clip(max_norm), optax.adam(learning_rate))
    )(learning_rate=optax.linear_schedule(0.05, 0.01, 5), max_norm=c),
    "inject_hyperparams of a clip": lambda clip, c: optax.chain(
        optax.inject_hyperparams(clip)(max_norm=c), optax.adam(0.05)
    ),
    "lookahead": lambda clip, c: optax.lookahead(then_adam(clip, c), 3, 0.5),
    "apply_if_finite": lambda clip, c: optax.apply_if_finite(then_adam(clip, c), 3),
    "schedule_free": lambda clip, c: optax.contrib.schedule_free(
        optax.chain(clip(c), optax.sgd(0.05)), 0.05
    ),
    "reduce_on_plateau": lambda clip, c: optax.chain(
        then_adam(clip, c), optax.contrib.reduce_on_plateau(patience=1)
    ),
    "contrib.muon": lambda clip, c: optax.chain(clip(c), optax.contrib.muon(0.02)),
    "contrib.mechanize": lambda clip, c: optax.contrib.mechanize(
        optax.chain(clip(c), optax.sgd(1.0))
    ),
    "contrib.prodigy": lambda clip, c: optax.chain(clip(c), optax.contrib.prodigy(0.1)),
    "contrib.momo": lambda clip, c: optax.chain(clip(c), optax.contrib.momo(0.05)),
    "conditionally_mask": lambda clip, c: optax.chain(
        optax.conditionally_mask(clip(c), lambda step: step < 5), optax.sgd(0.02)
    ),
    "conditionally_transform": lambda clip, c: optax.chain(
        optax.conditionally_transform(clip(c), lambda step: step < 5), optax.sgd(0.02)
    ),
    "freeze": lambda clip, c: optax.chain(
        optax.transforms.freeze({"first": False, "second": True}), then_adam(clip, c)
    ),
    "selective_transform": lambda clip, c: optax.selective_transform(
        then_adam(clip, c), freeze_mask={"first": False, "second": True}
    ),
    "flatten": lambda clip, c: optax.flatten(then_adam(clip, c)),
    "apply_every": lambda clip, c: optax.chain(clip(c), optax.apply_every(2), optax.sgd(0.02)),
    "add_decayed_weights": lambda clip, c: optax.chain(clip(c), optax.adamw(0.05)),
    "polyak_sgd": lambda clip, c: optax.chain(clip(c), optax.polyak_sgd(0.1)),
    "split_real_and_imaginary": lambda clip, c: optax.contrib.split_real_and_imaginary(
        then_adam(clip, c)
    ),
}
EACH = pytest.mark.parametrize("name", WRAPPERS)
STEPS, MAX_NORM = 8, 0.5


def with_memory(max_norm: float) -> Optimizer:
    """A clip that follows the norms, under a cap."""
    return clipax.clip_by_zscore(2.5, warmup=2, max_norm=max_norm)


def begin() -> Any:
    """Two layers."""
    random = np.random.default_rng(1)
    return {
        "first": jnp.asarray(0.5 * random.standard_normal((4, 8)), jnp.float32),
        "second": jnp.asarray(0.5 * random.standard_normal((8, 1)), jnp.float32),
    }


def loss(params: Any) -> jax.Array:
    """Mean squared error."""
    hidden = jnp.tanh(INPUTS @ params["first"])
    return jnp.mean((hidden @ params["second"] - TARGETS[:, None]) ** 2)


def fast(params: Any) -> Any:
    """The parameters that are differentiated; `lookahead` has two sets."""
    return params.fast if isinstance(params, optax.LookaheadParams) else params


def make(name: str, optimizer: Optimizer) -> Loop:
    """A loop by hand, with the loss as an extra argument."""
    optimizer = optax.with_extra_args_support(optimizer)

    @jax.jit
    def step(kept: Any) -> Any:
        params, state = kept
        value, gradient = jax.value_and_grad(loss)(fast(params))
        updates, state = optimizer.update(gradient, state, params, value=value)
        return (optax.apply_updates(params, updates), state), value

    def start() -> Any:
        params = begin()
        if name == "lookahead":
            params = optax.LookaheadParams.init_synced(params)
        return params, optimizer.init(params)

    return Loop(
        start,
        lambda kept, _: step(kept),
        lambda kept: fast(kept[0]),
        lambda kept: kept[1],
        test_haiku.store,
        test_haiku.restore,
    )


@functools.cache
def loop(name: str, clip: Callable[..., Optimizer]) -> Loop:
    """The loop of a wrapper around a clip."""
    return make(name, WRAPPERS[name](clip, MAX_NORM))


@functools.cache
def whole(name: str, clip: Callable[..., Optimizer]) -> Run:
    """All steps, without a stop."""
    return run(loop(name, clip), range(STEPS), loop(name, clip).begin())


@EACH
def test_walks_as_with_the_clip_of_optax(name: str) -> None:
    ours = whole(name, clipax.clip_by_global_norm)
    theirs = whole(name, optax.clip_by_global_norm)
    assert_near(ours.params, theirs.params, tolerance=2e-5)


@EACH
@pytest.mark.parametrize("clip", [clipax.clip_by_global_norm, with_memory])
def test_trains_and_is_logged(name: str, clip: Callable[..., Optimizer]) -> None:
    found = whole(name, clip)
    assert found.losses[-1] < found.losses[0]
    metrics = {key: float(value) for key, value in clipax.metrics(found.last[1]).items()}
    assert all(map(math.isfinite, metrics.values()))
    assert metrics["clip_fraction"] > 0
    assert metrics["clipped_norm"] <= MAX_NORM * (1 + 1e-5)
    assert metrics["clipped_norm"] <= metrics["grad_norm"]


@EACH
def test_resumes(name: str, tmp_path: Path) -> None:
    one, half = loop(name, with_memory), STEPS // 2
    one.store(run(one, range(half), one.begin()).last, tmp_path)
    after = run(one, range(half, STEPS), one.restore(tmp_path, one.begin()))
    assert_same(after.params, whole(name, with_memory).params[half:])
    assert_same(clipax.metrics(after.last[1]), clipax.metrics(whole(name, with_memory).last[1]))


@EACH
def test_a_bad_step_changes_nothing_inside_a_guard(name: str) -> None:
    guarded = clipax.skip_nonfinite(WRAPPERS[name](clipax.clip_by_global_norm, MAX_NORM))
    one = make(name, optax.chain(spoil(BAD, jnp.nan), guarded))
    found = run(one, range(BAD + 3), one.begin())
    assert_same(found.params[BAD], found.params[BAD - 1])
    # The step that was skipped is as if it had not been.
    expected = whole(name, clipax.clip_by_global_norm).params[BAD : BAD + 2]
    assert_near(found.params[BAD + 1 :], expected, tolerance=2e-5)
    assert int(clipax.metrics(found.last[1])["skipped_count"]) == 1


def test_metrics_of_checkpoints_without_a_target(tmp_path: Path) -> None:
    """All wrappers in one checkpoint, as writing files costs most."""
    states = {name: whole(name, with_memory).last[1] for name in WRAPPERS}
    with orbax.checkpoint.StandardCheckpointer() as checkpointer:
        checkpointer.save(tmp_path / "states", states)
        checkpointer.wait_until_finished()
        restored = checkpointer.restore(tmp_path / "states")
    for name, state in states.items():
        assert_same(clipax.metrics(restored[name]), clipax.metrics(state))
