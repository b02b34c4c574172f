"""Eight devices give the updates of one: sharded arrays under jit, explicit meshes, shard_map."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import clipax
from benchmarks.harness import hlo
from tests.contract.cases import CASES, MEASURING, REPRESENTATIVES
from tests.contract.gradients import Layout, mild, nest
from tests.contract.harness import assert_close, jitted, method, run
from tests.thorough import thorough

LAYOUT: Layout = {"dense/bias": (4,), "dense/kernel": (16, 4), "scale": ()}
SPECS = {"dense": {"bias": P(), "kernel": P("x")}, "scale": P()}


@pytest.fixture
def one_device() -> None:
    """Nothing: here there are several."""


def _problem() -> tuple[Any, list[Any]]:
    trees = [nest(tree) for tree in mild(LAYOUT, 4)]
    # A leaf of an order of magnitude of its own: a shard's norm is not the leaf's.
    trees = [{**tree, "scale": 3.0 * tree["scale"]} for tree in trees]
    return trees[0], trees[1:]


def _mesh(kind: AxisType) -> Any:
    return jax.make_mesh((8,), ("x",), axis_types=(kind,))


def _place(tree: Any, mesh: Any) -> Any:
    return jax.tree.map(
        lambda leaf, spec: jax.device_put(leaf, NamedSharding(mesh, spec)), tree, SPECS
    )


# What has a memory of each leaf, and what has none.
BOTH = ("thresholds.power", "clip_by_leaf_norm", "clip_adam_norm", "delay_updates")
PLACED = [(name, kind) for name in REPRESENTATIVES for kind in ("auto", "explicit")]


@pytest.mark.parametrize(
    ("name", "axes"),
    thorough(PLACED, [pair for pair in PLACED if pair[0] in BOTH or pair[1] == "explicit"]),
)
def test_sharded_arrays(name: str, axes: str) -> None:
    kind = AxisType.Explicit if axes == "explicit" else AxisType.Auto
    params, gradients = _problem()
    expected, states = run(jitted(name), method(name).init(params), gradients, params)
    mesh = _mesh(kind)
    with jax.set_mesh(mesh):
        placed = _place(params, mesh)
        update = jax.jit(method(name).update)
        start = jax.jit(method(name).init)(placed)
        updates, after = run(update, start, [_place(g, mesh) for g in gradients], placed)
        # Shardings are part of an explicit type: a state that changed them would be traced again.
        assert jax.tree.map(jax.typeof, after[-1]) == jax.tree.map(jax.typeof, start)
        for out in updates:
            kernel = out["dense"]["kernel"]
            assert kernel.sharding.is_equivalent_to(NamedSharding(mesh, P("x")), kernel.ndim)
    assert_close(updates, expected)
    assert_close(after[-1], states[-1])


MAPPED = [(name, tracked) for name in REPRESENTATIVES for tracked in (True, False)]


@pytest.mark.parametrize(
    ("name", "tracked"),
    thorough(MAPPED, [pair for pair in MAPPED if pair[0] in BOTH or pair[1]]),
)
def test_shard_map(name: str, tracked: bool) -> None:
    params, gradients = _problem()
    expected, states = run(jitted(name), method(name).init(params), gradients, params)
    # Where JAX does not track which leaves are sharded they are named.
    tx = CASES[name].make(axis_name="x" if tracked else {"dense/kernel": "x", "*": ()})

    def telemetry(state: Any) -> Any:
        return clipax.metrics(state) if name in MEASURING else {}

    def train(params: Any, stacked: Any) -> Any:
        def step(state: Any, gradient: Any) -> Any:
            out, state = tx.update(gradient, state, params)
            return state, out

        state, updates = jax.lax.scan(step, tx.init(params), stacked)
        # Telemetry is of the whole gradient: where tracked, P() says it is the same everywhere.
        return updates, telemetry(state)

    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *gradients)
    lead = jax.tree.map(lambda spec: P(None, *spec), SPECS)
    mapped = jax.shard_map(
        train,
        mesh=_mesh(AxisType.Auto),
        in_specs=(SPECS, lead),
        out_specs=(lead, P()),
        check_vma=tracked,
    )
    updates, measured = jax.jit(mapped)(params, stacked)
    assert_close(updates, jax.tree.map(lambda *leaves: jnp.stack(leaves), *expected))
    assert_close(measured, telemetry(states[-1]))


@pytest.mark.parametrize(
    ("name", "collectives"),
    [
        ("clip_adam_norm", 1),
        ("clip_adam", 1),
        # The gradient, then the momentum that it is part of.
        ("mixed_clip_sgd", 2),
        ("mixed_clip_sgd-weight_decay=0.1-decay=0.9", 2),
        ("momentum_clip_sgd", 2),
        ("normalized_momentum", 2),
        ("clip_normalized_momentum", 2),
        ("spam", 1),
        ("stable_adamw", 1),
        # The largest entries, then the norms of what is left of them.
        ("stable_spam", 2),
    ],
)
def test_norms_are_summed_over_shards_in_one_go(name: str, collectives: int) -> None:
    params, gradients = _problem()
    tx = CASES[name].make(axis_name="x")
    mapped = jax.shard_map(
        lambda p, g: tx.update(g, tx.init(p), p)[0],
        mesh=_mesh(AxisType.Auto),
        in_specs=(SPECS, SPECS),
        out_specs=SPECS,
    )
    program = jax.jit(mapped).lower(params, gradients[0]).compile()
    assert hlo.count(program).collectives == collectives


def test_without_the_axis_name_a_shard_would_be_measured_alone() -> None:
    _, gradients = _problem()
    tx = clipax.clip_by_global_norm(1.0)
    mapped = jax.shard_map(
        lambda g: tx.update(g, tx.init(g))[0],
        mesh=_mesh(AxisType.Auto),
        in_specs=(SPECS,),
        out_specs=SPECS,
    )
    with pytest.raises(ValueError, match="`axis_name` must name"):
        mapped(gradients[0])


def test_a_bad_entry_of_one_shard_is_a_bad_step_on_all() -> None:
    params, gradients = _problem()
    kernel = gradients[0]["dense"]["kernel"].at[13, 2].set(np.nan)
    bad = {**gradients[0], "dense": {**gradients[0]["dense"], "kernel": kernel}}
    tx = CASES["clip_adam_norm"].make(axis_name="x")

    def two_steps(params: Any, first: Any, second: Any) -> Any:
        state = tx.init(params)
        skipped, state = tx.update(first, state, params)
        taken, _ = tx.update(second, state, params)
        return skipped, taken

    mapped = jax.shard_map(
        two_steps, mesh=_mesh(AxisType.Auto), in_specs=(SPECS,) * 3, out_specs=(SPECS, SPECS)
    )
    skipped, taken = jax.jit(mapped)(params, bad, gradients[1])
    alone = jitted("clip_adam_norm")
    expected, _ = alone(gradients[1], method("clip_adam_norm").init(params), params)
    assert_close(skipped, jax.tree.map(jnp.zeros_like, params))
    assert_close(taken, expected)
