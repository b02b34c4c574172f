"""One training step of every method of the catalogue, as one program, on a mesh of two axes."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np
import optax
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

import clipax
from tests.contract.cases import BASIC
from tests.contract.gradients import Layout, flatten, mild, nest
from tests.oracles import Tree

LAYOUT: Layout = {"dense/bias": (4,), "dense/kernel": (16, 4), "scale": ()}
# Mixed: sharded over both mesh axes, over one of them, and held whole by every device.
SPECS = {"dense": {"bias": P("model"), "kernel": P("data", "model")}, "scale": P()}
NAMED = {"dense/bias": P("model"), "dense/kernel": P("data", "model"), "scale": P()}
STEPS = 3

# Inside `shard_map`: what a shard of a matrix cannot give. Tests by themselves show the refusals.
WHOLE_MATRICES = ("clip_by_singular_values",)
# A sum over the shards would mix units: there these clip by leaves.
BY_LEAF = ("clip_by_param_norm",)

# Compiled for a few steps only: fast code is not worth its time.
QUICK = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}

Methods = dict[str, optax.GradientTransformationExtraArgs]


class Run(NamedTuple):
    """What came out: for each method the updates of each step, and the last state."""

    updates: dict[str, list[Any]]
    states: dict[str, Any]
    programs: int


def mesh(kind: AxisType = AxisType.Auto) -> Mesh:
    """Eight devices: four along the data, two along the model."""
    return jax.make_mesh((4, 2), ("data", "model"), axis_types=(kind, kind))


@functools.cache
def trees() -> tuple[Any, list[Any]]:
    """Parameters and gradients, a leaf of a size of its own among them."""
    first, *rest = [nest(tree) for tree in mild(LAYOUT, 1 + STEPS)]
    return first, [{**tree, "scale": 3.0 * tree["scale"]} for tree in rest]


@functools.cache
def expected(name: str, **options: Any) -> list[Tree]:
    """The updates of the float64 oracle, which knows of no mesh."""
    params, gradients = trees()
    reference = functools.partial(BASIC[name].reference, **options)
    return reference([flatten(tree) for tree in gradients], flatten(params))


def under_jit() -> Methods:
    """Every entry of the catalogue."""
    return {name: case.make() for name, case in BASIC.items()}


def inside_shard_map(axis_name: Any) -> Methods:
    """Every entry of the catalogue that a shard can take part in, told of the mesh axes."""
    methods = {}
    for name, case in BASIC.items():
        more: dict[str, Any] = {"scope": "leaf"} if name in BY_LEAF else {}
        if name == "with_error_feedback":
            # The clip that it wraps is built before it is.
            more = {"transformation": clipax.clip_by_global_norm(1.0, axis_name=axis_name)}
        if name not in WHOLE_MATRICES:
            methods[name] = case.make(axis_name=axis_name, **more)
    return methods


def specs_of(states: Any) -> Any:
    """Partition specs of states: what mirrors a parameter is sharded as it is, the rest whole."""

    def spec(path: Any, leaf: Any) -> P:
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        for parameter, own in NAMED.items():
            shape = LAYOUT[parameter]
            lead = np.ndim(leaf) - len(shape)
            if shape and name.endswith(parameter) and np.shape(leaf)[max(lead, 0) :] == shape:
                return P(*[None] * lead, *own)
        return P()

    return jax.tree_util.tree_map_with_path(spec, states)


def steps(methods: Methods) -> Callable[[Any, Any, Any], Any]:
    """One step of all methods."""

    def step(states: Any, gradient: Any, params: Any) -> Any:
        both = {name: tx.update(gradient, states[name], params) for name, tx in methods.items()}
        return {name: pair[0] for name, pair in both.items()}, {
            name: pair[1] for name, pair in both.items()
        }

    return step


def train(methods: Methods, step: Any, where: Mesh) -> Run:
    """The steps, on arrays placed on a mesh; states begin where `init` puts them."""

    def place(tree: Any) -> Any:
        put = lambda leaf, spec: jax.device_put(leaf, NamedSharding(where, spec))  # noqa: E731
        return jax.tree.map(put, tree, SPECS)

    params, gradients = trees()
    params = place(params)
    states = {name: tx.init(params) for name, tx in methods.items()}
    # What mirrors no parameter (counters, norms) is made on one device.
    whole = NamedSharding(where, P())
    states = jax.tree.map(
        lambda leaf: leaf if leaf.sharding.device_set == where._flat_devices_set else
        jax.device_put(leaf, whole), states)
    compiled = jax.jit(step, compiler_options=QUICK)
    updates: dict[str, list[Any]] = {name: [] for name in methods}
    for gradient in gradients:
        outs, states = compiled(states, place(gradient), params)
        for name, out in outs.items():
            updates[name].append(out)
    return Run(updates, states, compiled._cache_size())
