"""Counts the collectives of a clip on a sharded transformer, on eight virtual devices."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

import clipax
from benchmarks.harness import hlo, records, trees
from benchmarks.harness.records import Column, Finding, Row
from benchmarks.harness.suite import Suite
from clipax import norms

AXES = ("data", "model")
# All axes of the transformer are multiples of 8 then. Counts do not depend on sizes.
SCALE = 1 / 256

LAYOUTS: dict[str, Callable[[int], P]] = {
    "fsdp": lambda ndim: P(AXES),
    "tensor": lambda ndim: P(None, "model") if ndim > 1 else P(),
    "mixed": lambda ndim: P("data", "model") if ndim > 1 else P("model"),
}
"""How leaves of so many axes are sharded; P() on all devices."""

METHODS: dict[str, Any] = {
    "one clip": norms.clip(1.0),
    "chain of three": norms.chain(
        norms.clip(1.0), norms.clip(0.5, response="sqrt"), norms.adagrad_norm(0.5)
    ),
}
STEPS = ("one clip", "shallow"), ("one clip", "transformer"), ("chain of three", "transformer")
PLACES = {"shard_map": 1, "jit": len(AXES)}
"""Where a step runs, and the most collectives: under `jit` one for each mesh axis."""


def count_step(place: str, tree: str, layout: str, method: str) -> Row:
    """Counts what a step of a clip sums up over devices, the branch for overflow left out.

    Takes names of `PLACES`, `trees.SHAPES`, `LAYOUTS` and `METHODS`. Returns its collectives, the
    scalars in them, and the norm that was measured.
    """
    mesh = jax.make_mesh((4, 2), AXES, axis_types=(AxisType.Auto, AxisType.Auto))
    gradients = trees.gradients(tree, jnp.float32, scale=SCALE)
    specs = jax.tree.map(lambda leaf: LAYOUTS[layout](leaf.ndim), gradients)
    inside = place == "shard_map"
    clip = clipax.scale_by_norm(METHODS[method], axis_name=AXES if inside else None)

    def step(gradients: Any) -> tuple[Any, Any]:
        updates, state = clip.update(gradients, clip.init(gradients))
        return updates, clipax.metrics(state)["grad_norm"]

    if inside:
        mapped = jax.shard_map(step, mesh=mesh, in_specs=(specs,), out_specs=(specs, P()))
        jitted = jax.jit(mapped)
    else:
        shardings = jax.tree.map(lambda spec: NamedSharding(mesh, spec), specs)
        jitted = jax.jit(step, out_shardings=(shardings, None))
        gradients = jax.device_put(gradients, shardings)
    program: Any = jitted.lower(gradients).compile()
    computations, entry = hlo.parse(program.as_text())
    reduces = [one for one in computations[entry].values() if one.opcode == "all-reduce"]
    return {
        "leaves": len(jax.tree.leaves(gradients)),
        "collectives": hlo.count(program).collectives,
        "scalars": sum(hlo.shape_bytes(one.shape) // 4 for one in reduces),
        "norm": float(program(gradients)[1]),
    }


def prepare(options: argparse.Namespace) -> Mapping[str, str]:
    """Sets up the devices; what is only counted need not be fast code."""
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_num_cpu_devices", 8)
    jax.config.update("jax_disable_most_optimizations", True)
    return {"devices": "8"}


def measure(options: argparse.Namespace) -> Iterator[list[Row]]:
    """Counts in all places and layouts."""
    for place in PLACES:
        for layout in LAYOUTS:
            yield [
                {"in": place, "layout": layout, "step": f"{method}, {tree}"}
                | count_step(place, tree, layout, method)
                for method, tree in STEPS
            ]


def judge(rows: Sequence[Row], device: str) -> Iterator[Finding]:
    """Judges every count."""
    for row in rows:
        where = f"{row['in']}, {row['layout']}, {row['step']}"
        yield records.judge("collectives", where, row["collectives"], PLACES[row["in"]])


SUITE = Suite(
    "what a clip sums up over eight devices",
    ("in", "layout"),
    [Column(name, name) for name in ("step", "leaves", "collectives", "scalars")],
    measure,
    judge,
    prepare=prepare,
)
