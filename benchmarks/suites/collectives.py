"""Counts the collectives of a clip on a sharded transformer, on eight virtual devices."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import AxisType, Mesh, NamedSharding
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


class Count(NamedTuple):
    """What a step of a clip sums up over devices, the branch for overflow left out.

    Its collectives, the scalars in them, and the norm that was measured.
    """

    leaves: int
    collectives: int
    scalars: int
    norm: float


def mesh() -> Mesh:
    """Makes a mesh of eight devices, four along the data and two along the model."""
    return jax.make_mesh((4, 2), AXES, axis_types=(AxisType.Auto, AxisType.Auto))


def count_in_shard_map(tree: str, layout: str, method: str) -> Count:
    """Counts a step inside `shard_map`; names of `trees.SHAPES`, `LAYOUTS` and `METHODS`."""
    gradients = trees.gradients(tree, jnp.float32, scale=SCALE)
    specs = jax.tree.map(lambda leaf: LAYOUTS[layout](leaf.ndim), gradients)
    step = _make_step(METHODS[method], AXES)
    mapped = jax.shard_map(step, mesh=mesh(), in_specs=(specs,), out_specs=(specs, P()))
    return _count(jax.jit(mapped), gradients)


def count_under_jit(tree: str, layout: str, method: str) -> Count:
    """Counts a step under plain `jit`; arguments as for `count_in_shard_map`."""
    gradients = trees.gradients(tree, jnp.float32, scale=SCALE)
    where = mesh()
    shardings = jax.tree.map(
        lambda leaf: NamedSharding(where, LAYOUTS[layout](leaf.ndim)), gradients
    )
    step = jax.jit(_make_step(METHODS[method], None), out_shardings=(shardings, None))
    return _count(step, jax.device_put(gradients, shardings))


def _make_step(decision: Any, axis_name: Any) -> Callable[[Any], tuple[Any, Any]]:
    clip = clipax.scale_by_norm(decision, axis_name=axis_name)

    def step(gradients: Any) -> tuple[Any, Any]:
        updates, state = clip.update(gradients, clip.init(gradients))
        return updates, clipax.metrics(state)["grad_norm"]

    return step


def _count(step: Any, gradients: Any) -> Count:
    program = step.lower(gradients).compile()
    computations, entry = hlo.parse(program.as_text())
    reduces = [one for one in computations[entry].values() if one.opcode == "all-reduce"]
    return Count(
        leaves=len(jax.tree.leaves(gradients)),
        collectives=hlo.count(program).collectives,
        scalars=sum(hlo.shape_bytes(one.shape) // 4 for one in reduces),
        norm=float(program(gradients)[1]),
    )


PLACES = {"shard_map": (count_in_shard_map, 1), "jit": (count_under_jit, len(AXES))}
"""How to count there, and the most collectives: under `jit` one for each mesh axis."""


def prepare(options: argparse.Namespace) -> Mapping[str, str]:
    """Sets up the devices; what is only counted need not be fast code."""
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_num_cpu_devices", 8)
    jax.config.update("jax_disable_most_optimizations", True)
    return {"devices": "8"}


def measure(options: argparse.Namespace) -> Iterator[list[Row]]:
    """Counts for all layouts, two trees and both methods."""
    for place, (count, _) in PLACES.items():
        for layout in LAYOUTS:
            rows = []
            for tree, method in (
                ("shallow", "one clip"),
                ("transformer", "one clip"),
                ("transformer", "chain of three"),
            ):
                found = count(tree, layout, method)._asdict()
                rows.append({"in": place, "layout": layout, "step": f"{method}, {tree}", **found})
            yield rows


def judge(rows: Sequence[Row], device: str) -> Iterator[Finding]:
    """Judges every count."""
    for row in rows:
        where = f"{row['in']}, {row['layout']}, {row['step']}"
        yield records.judge("collectives", where, row["collectives"], PLACES[row["in"]][1])


SUITE = Suite(
    "what a clip sums up over eight devices",
    ("in", "layout"),
    [Column(name, name) for name in ("step", "leaves", "collectives", "scalars")],
    measure,
    judge,
    prepare=prepare,
)
