"""One training step of every method of the catalogue, as one program, on a mesh of two axes."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple, get_args

import jax
import numpy as np
import optax
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

import clipax
from benchmarks.harness import hlo
from clipax._platforms import Platform, assume_platform
from tests.contract.cases import BASIC
from tests.contract.gradients import Layout, flatten, mild, nest
from tests.oracles import Tree

LAYOUT: Layout = {"bias": (4,), "kernel": (16, 4)}
# Mixed: over both mesh axes, and over one of them with copies along the other. The order is the one
# in which mesh axes are named.
SPECS = {"kernel": P("data", "model"), "bias": P("model")}
STEPS = 3

# A shard of a matrix has not the matrix's singular values, nor its units' norms (`test_units.py`).
NOT_IN_SHARDS = ("clip_by_singular_values", "clip_by_param_norm")

# Compiled for a few steps only: fast code is not worth its time.
QUICK = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}

Methods = dict[str, optax.GradientTransformationExtraArgs]


class Run(NamedTuple):
    """What came out: for each method the updates of each step, and the first and last state."""

    updates: dict[str, list[Any]]
    start: dict[str, Any]
    states: dict[str, Any]


def mesh(data: AxisType = AxisType.Auto, model: AxisType = AxisType.Auto) -> Mesh:
    """Eight devices: four along the data, two along the model."""
    return jax.make_mesh((4, 2), ("data", "model"), axis_types=(data, model))


@functools.cache
def trees() -> tuple[Any, list[Any]]:
    """Parameters and gradients, a leaf of a size of its own among them."""
    first, *rest = [nest(tree) for tree in mild(LAYOUT, 1 + STEPS)]
    return first, [{**tree, "bias": 3.0 * tree["bias"]} for tree in rest]


@functools.cache
def expected(name: str) -> list[Tree]:
    """The updates of the float64 oracle, which knows of no mesh."""
    params, gradients = trees()
    return BASIC[name].reference([flatten(tree) for tree in gradients], flatten(params))


def asked_for(function: Callable[..., Any], *arguments: Any) -> set[int]:
    """How many collectives a function asks for on each platform, those of branches left out."""

    def count(jaxpr: Any) -> int:
        found = 0
        for equation in jaxpr.eqns:
            name = equation.primitive.name
            found += name.startswith(("psum", "pmax", "all_gather", "all_to_all", "ppermute"))
            inner = [getattr(value, "jaxpr", value) for value in equation.params.values()]
            found += sum(count(one) for one in inner if hasattr(one, "eqns") and name != "cond")
        return found

    found = set()
    for platform in get_args(Platform):
        with assume_platform(platform):
            found.add(count(jax.make_jaxpr(function)(*arguments).jaxpr))
    return found


def under_jit() -> Methods:
    """Every entry of the catalogue."""
    return {name: case.make() for name, case in BASIC.items()}


def inside_shard_map(axis_name: Any) -> Methods:
    """Every entry of the catalogue that a shard can take part in, told of the mesh axes."""
    methods = {}
    for name, case in BASIC.items():
        options: dict[str, Any] = {}
        if name == "with_error_feedback":
            # The clip that it wraps is built before it is.
            options = {"inner": clipax.clip_by_global_norm(1.0, axis_name=axis_name)}
        if name not in NOT_IN_SHARDS:
            methods[name] = case.make(axis_name=axis_name, **options)
    return methods


def specs_of(states: Any) -> Any:
    """Partition specs of states: what mirrors a parameter is sharded as it is, the rest whole."""

    def spec(path: Any, leaf: Any) -> P:
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        for parameter, own in SPECS.items():
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
        updates = {name: update for name, (update, _) in both.items()}
        return updates, {name: state for name, (_, state) in both.items()}

    return step


def collectives_behind(compiled: Any) -> list[frozenset[str]]:
    """The collectives that each result of a compiled program depends on, branches apart.

    XLA makes one collective of several that do not depend on each other, of several methods too
    where they are compiled together: a method takes part in those behind its results. Returns for
    each of at least two results, in the order of `jax.tree.leaves`, the names of collectives.
    """
    computations, entry = hlo.parse(compiled.as_text())
    here = computations[entry]
    (root,) = (one for one in here.values() if one.is_root)
    # In the order of the text operands come first.
    behind: dict[str, list[frozenset[str]]] = {}
    for one in here.values():
        before = [behind[name] for name in one.operands if name in behind]
        merged = [frozenset[str]().union(*parts) for parts in before]
        if one.opcode.removesuffix("-start") in hlo.COLLECTIVES:
            behind[one.name] = [frozenset({one.name}) | part for part in merged]
        elif one.opcode in ("tuple", "opt-barrier") and one.operands:
            behind[one.name] = merged if one.opcode == "tuple" else before[0]
        elif one.opcode == "get-tuple-element" and len(before[0]) > 1:
            behind[one.name] = [before[0][one.index or 0]]
        else:
            behind[one.name] = [frozenset[str]().union(*merged)]
    return behind[root.name]


def collectives(compiled: Any) -> dict[str, int]:
    """How many collectives of the step of all methods each of them takes part in."""
    behind = jax.tree.unflatten(compiled.out_tree, collectives_behind(compiled))
    updates, states = behind
    found = {name: jax.tree.leaves((updates[name], states[name])) for name in updates}
    return {name: len(frozenset().union(*sets)) for name, sets in found.items()}


def place(tree: Any, where: Mesh) -> Any:
    """A tree of parameters or gradients on the mesh."""
    return {key: jax.device_put(tree[key], NamedSharding(where, SPECS[key])) for key in tree}


def begin(methods: Methods, where: Mesh) -> Any:
    """The states as `init` makes them; what mirrors no parameter begins on one device."""
    params = place(trees()[0], where)
    whole = NamedSharding(where, P())

    def spread(leaf: Any) -> Any:
        return leaf if len(leaf.sharding.device_set) > 1 else jax.device_put(leaf, whole)

    return jax.tree.map(spread, {name: tx.init(params) for name, tx in methods.items()})


def train(step: Any, start: Any, where: Mesh) -> Run:
    """The steps on sharded arrays, from the states given."""
    params, gradients = trees()
    placed, states = place(params, where), start
    updates: dict[str, list[Any]] = {name: [] for name in start}
    for gradient in gradients:
        made, states = step(states, place(gradient, where), placed)
        for name, update in made.items():
            updates[name].append(update)
    return Run(updates, start, states)
