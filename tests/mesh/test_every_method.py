"""Every method of the catalogue gives on eight devices what its oracle gives on none."""

from __future__ import annotations

import functools
import hashlib
import re
from typing import Any

import jax
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding

from tests.contract.cases import BASIC
from tests.contract.gradients import flatten
from tests.mesh import every_method as every

TOLERANCE = 1e-5  # that of float32 against the oracle, without a mesh

# Entry by entry, or not at all: nothing is summed up.
LOCAL = {"clip_by_value", "delay_updates"}
# The largest entries, then the norms of what they leave: the one cannot be without the other.
# A second norm follows the first: of the momentum after the gradient, of what is left of spikes.
TWO_NORMS = {
    "clip_normalized_momentum",
    "ggnc",
    "mixed_clip_sgd",
    "momentum_clip_sgd",
    "normalized_momentum",
    "stable_spam",
}
# The record of units that are themselves sharded: largest, smallest, sum, all and any of them. A
# matrix is gathered, as only a whole one has singular values.
MORE = {"clip_by_param_norm": 5, "clip_by_singular_values": 1}


def _assert_follow(run: every.Run) -> None:
    """The updates are those of the oracles, and each is sharded as its parameter."""
    for name, updates in run.updates.items():
        reference = every.expected(name)
        for step, (update, wanted) in enumerate(zip(updates, reference, strict=True)):
            size = max(np.abs(leaf).max() for leaf in wanted.values())
            for path, leaf in flatten(update).items():
                error = np.abs(leaf - wanted[path]).max()
                assert error <= TOLERANCE * size, f"{name}, step {step}, {path}: {error:.3g}"
        _assert_sharded(name, updates[-1], every.SPECS)


def _assert_sharded(name: str, tree: Any, specs: Any) -> None:
    for (path, leaf), spec in zip(
        jax.tree_util.tree_leaves_with_path(tree), jax.tree.leaves(specs), strict=True
    ):
        like = NamedSharding(leaf.sharding.mesh, spec)
        place = f"{name}{jax.tree_util.keystr(path)}"
        assert leaf.sharding.is_equivalent_to(like, leaf.ndim), f"{place}: {leaf.sharding}"


@pytest.mark.thorough
def test_under_jit_with_an_explicit_and_an_automatic_axis() -> None:
    """One program for both; test_sharding.py has meshes of one sort, for representatives."""
    mesh = every.mesh(AxisType.Explicit, AxisType.Auto)
    methods = every.under_jit()
    assert methods.keys() == BASIC.keys()
    params, gradients = every.trees()
    with jax.set_mesh(mesh):
        start = every.begin(methods, mesh)
        placed = every.place(gradients[0], mesh), every.place(params, mesh)
        compiled = jax.jit(every.steps(methods)).lower(start, *placed).compile(every.QUICK)
        # It takes no other shardings than those that it was compiled for: they never change.
        run = every.train(compiled, start, mesh)
    _assert_follow(run)
    axes = len(mesh.axis_names)
    for name, count in every.collectives(compiled).items():
        least = 0 if name in LOCAL else 1
        most = least * axes * (1 + (name in TWO_NORMS)) + MORE.get(name, 0)
        assert least <= count <= most, f"{name}: {count} collectives"
    for name, state in run.states.items():
        # Moments and memories lie as their parameters do, before the first step and after it.
        specs = every.specs_of(state)
        _assert_sharded(name, run.start[name], specs)
        _assert_sharded(name, state, specs)


def test_types_where_all_axes_are_explicit() -> None:
    mesh = every.mesh(AxisType.Explicit, AxisType.Explicit)
    methods = every.under_jit()
    params, gradients = every.trees()
    with jax.set_mesh(mesh):
        placed = every.place(params, mesh), every.place(gradients[0], mesh)
        start = every.begin(methods, mesh)
        updates, states = jax.eval_shape(every.steps(methods), start, placed[1], placed[0])
        # Compared as JAX compares types: a state that changed them would be traced again.
        kinds = [jax.tree.map(jax.typeof, states)]
        _, again = jax.eval_shape(every.steps(methods), states, placed[1], placed[0])
        kinds.append(jax.tree.map(jax.typeof, again))
    assert kinds[0] == kinds[1]
    for name in methods:
        _assert_sharded(name, updates[name], every.SPECS)
        _assert_sharded(name, states[name], every.specs_of(states[name]))


@functools.cache
def _shard_map(tracked: bool) -> tuple[Any, Any, Any]:
    """The lowered step of all methods in `shard_map`, where to begin, and the mesh."""
    mesh = every.mesh()
    methods = every.inside_shard_map(("data", "model") if tracked else every.SPECS)
    start = {name: tx.init(every.trees()[0]) for name, tx in methods.items()}
    specs = every.specs_of(start)
    step = jax.shard_map(
        every.steps(methods),
        mesh=mesh,
        in_specs=(specs, every.SPECS, every.SPECS),
        # Telemetry, thresholds and memory are the same everywhere: P() says so.
        out_specs=(dict.fromkeys(methods, every.SPECS), specs),
        check_vma=tracked,
    )
    shardings = jax.tree.map(lambda spec: NamedSharding(mesh, spec), specs)
    start = jax.device_put(start, shardings)
    params, gradients = every.trees()
    lowered = jax.jit(step).lower(start, every.place(gradients[0], mesh), every.place(params, mesh))
    return lowered, start, mesh


def _assert_follows_in_shards(tracked: bool) -> None:
    lowered, start, mesh = _shard_map(tracked)
    assert start.keys() == BASIC.keys() - set(every.NOT_IN_SHARDS)
    compiled = lowered.compile(every.QUICK)
    _assert_follow(every.train(compiled, start, mesh))
    expected = dict.fromkeys(start, 1) | dict.fromkeys(LOCAL, 0) | dict.fromkeys(TWO_NORMS, 2)
    assert every.collectives(compiled) == expected


@pytest.mark.thorough
def test_inside_shard_map() -> None:
    _assert_follows_in_shards(tracked=True)


def _main(text: str) -> str:
    """A lowered program whose calls say, instead of a function's name, what that function does."""
    functions = dict(re.findall(r"^  func\.func \w+ @([\w.]+)(\(.*?\n  \})$", text, re.M | re.S))

    @functools.cache
    def body(name: str) -> str:
        return re.sub(r"@([\w.]+)", called, functions[name])

    def called(match: re.Match[str]) -> str:
        name = match[1]  # of a function, or of the mesh
        return _digest(body(name)) if name in functions else name

    return body("main")


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


@pytest.mark.thorough
def test_inside_shard_map_where_jax_does_not_track_what_varies() -> None:
    one, other = (_main(_shard_map(tracked)[0].as_text()) for tracked in (True, False))
    # The very program of the test above, most probably; to compile it again takes seconds.
    if one != other:
        _assert_follows_in_shards(tracked=False)
