"""The guard against overflow: there, once, and out of the way."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import optax
import pytest

import clipax
from benchmarks.harness import trees
from clipax import norms
from tests.counts.programs import SCRATCH, counts, lean_clip
from tests.thorough import thorough

SGD = optax.sgd(0.1)


@pytest.mark.parametrize("tree", ["leaf", "shallow"])
@pytest.mark.parametrize("dtype", thorough(["f32", "bf16"], but=["f32"]))
def test_guard_and_telemetry_cost_no_traffic(tree: str, dtype: str) -> None:
    ours = counts(optax.chain(clipax.clip_by_global_norm(1.0), SGD), tree, dtype)
    lean = counts(optax.chain(lean_clip(1.0), SGD), tree, dtype)
    assert (ours.conditionals, lean.conditionals) == (1, 0)
    assert ours.reductions == lean.reductions
    assert ours.traffic == pytest.approx(lean.traffic, abs=1e-3)
    assert ours.temporaries < lean.temporaries + SCRATCH


@pytest.mark.parametrize(
    "transformation",
    [
        clipax.clip_by_leaf_norm(1.0),
        clipax.scale_by_norm(norms.chain(*[norms.clip(2.0 - 0.1 * i) for i in range(8)])),
        clipax.scale_by_norm(norms.clip(1.0), after=norms.adam_norm(1.0, 0.999), b1=0.9),
    ],
)
def test_one_guard_for_all_leaves_and_links(transformation: Any) -> None:
    assert counts(optax.chain(transformation, SGD), "shallow").conditionals == 1


@pytest.fixture
def predicates(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[bool]]:
    """Record the decisions of the conditionals of steps that run uncompiled."""
    seen: list[bool] = []
    original = jax.lax.cond

    def watched(predicate: Any, *arguments: Any, **options: Any) -> Any:
        seen.append(bool(predicate))
        return original(predicate, *arguments, **options)

    monkeypatch.setattr(jax.lax, "cond", watched)
    with jax.disable_jit():
        yield seen


@pytest.mark.parametrize("scope", thorough(["global", "leaf", "unit"], but=["leaf"]))
def test_zero_leaves_do_not_trigger_it(scope: str, predicates: list[bool]) -> None:
    grads = trees.gradients("many", jnp.float32, scale=0.005)
    clip = clipax.scale_by_norm(norms.clip(1.0), scope=scope)
    state = clip.init(grads)
    for gradient in (
        grads,
        trees.with_zero_leaves(grads),
        jax.tree.map(lambda leaf: leaf * 1e-12, grads),
        grads | {"leaf_0003": grads["leaf_0003"] * 1e-30},
    ):
        clip.update(gradient, state)
    assert not any(predicates)
    assert len(predicates) == 4


@pytest.mark.parametrize("scope", ["global", "leaf", "unit"])
def test_squares_that_vanish_trigger_it(scope: str, predicates: list[bool]) -> None:
    grads = trees.gradients("many", jnp.float32, scale=0.005)
    clip = clipax.scale_by_norm(norms.clip(1.0), scope=scope)
    small = jax.tree.map(lambda leaf: leaf * 1e-30, grads)
    # Nothing tells a gradient of zeros from squares that all vanish.
    for gradient in (small, jax.tree.map(jnp.zeros_like, grads)):
        clip.update(gradient, clip.init(grads))
    assert predicates == [True, True]


@pytest.mark.parametrize("scope", ["global", "leaf", "unit"])
def test_overflow_triggers_it(scope: str, predicates: list[bool]) -> None:
    grads = trees.gradients("many", jnp.float32, scale=0.005)
    grads["leaf_0003"] = grads["leaf_0003"] * 1e25
    clip = clipax.scale_by_norm(norms.clip(1.0), scope=scope)
    _, state = clip.update(grads, clip.init(grads))
    assert predicates == [True]
    assert clipax.metrics(state)["grad_norm"] > 1e19
