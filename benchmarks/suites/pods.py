"""Counts what clips take on whole TPU pods, for decoders of 7 and 70 billion parameters."""

from __future__ import annotations

import argparse
import itertools
import math
import re
import sys
from collections.abc import Iterator, Sequence
from functools import cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

import clipax
from benchmarks.harness import hlo, records, targets, trees
from benchmarks.harness.records import Column, Finding, Row
from benchmarks.harness.suite import Suite
from benchmarks.suites import per_example_forms
from clipax import norms, scopes

RATE = 1e-3
SLACK = 0.02


class Pod(NamedTuple):
    """A slice of a TPU pod: its topology, and the sizes of the mesh's axes."""

    topology: str
    sizes: dict[str, int]


PODS = {
    "256": Pod("v5e:16x16", {"replica": 1, "data": 4, "model": 64}),
    # A whole v5p pod, the largest topology that this compiler knows of: 35 groups of 256 chips that
    # hold the same.
    "8960": Pod("v5p:16x20x28", {"replica": 35, "data": 4, "model": 64}),
}

DECODERS = {
    "7B": partial(trees.decoder, 32, 4096, 11_008, 4096),
    "70B": partial(trees.decoder, 80, 8192, 28_672, 1024),
}
MODELS = {
    **DECODERS,
    **{f"{name} stacked": partial(make, stacked=True) for name, make in DECODERS.items()},
}

LAYOUTS: dict[str, tuple[tuple[Any, Any], Any]] = {
    "fsdp": ((("data", "model"), None), ("data", "model")),
    "tensor": ((None, "model"), None),
    "mixed": (("data", "model"), "model"),
}
"""Mesh axes of a matrix's rows and columns, and of a vector."""


def choose_spec(layout: str, shape: Sequence[int]) -> P:
    """How a leaf lies on the chips; the axis of stacked layers, in front, is whole."""
    matrix, vector = LAYOUTS[layout]
    if len(shape) > 1 and shape[-2] >= 1024:
        return P(*[None] * (len(shape) - 2), *matrix)
    return P(*[None] * (len(shape) - 1), vector)


class Step(NamedTuple):
    """A clip that measures once, and optax's equivalent; both before SGD."""

    ours: Any
    peer: Any


def _chain() -> Any:
    links = norms.clip(1.0), norms.clip(0.5, response="sqrt"), norms.adagrad_norm(0.5)
    return clipax.scale_by_norm(norms.chain(*links))


STEPS = {
    "clip": Step(clipax.clip_by_global_norm(1.0), optax.clip_by_global_norm(1.0)),
    "chain of three": Step(_chain(), optax.clip_by_global_norm(1.0)),
    "leaf": Step(clipax.clip_by_leaf_norm(1.0), optax.clip_by_block_rms(1.0)),
    "AGC": Step(clipax.clip_by_param_norm(0.5), optax.adaptive_grad_clip(0.5)),
}
STACKED = {
    "clip": STEPS["clip"],
    "each layer": Step(
        clipax.scale_by_norm(norms.clip(1.0), scope=scopes.stacked(0, where="layers/*")),
        optax.clip_by_block_rms(1.0),
    ),
    "AGC": STEPS["AGC"],
}


def measure(options: argparse.Namespace) -> Iterator[list[Row]]:
    """Compiles model after model, layout after layout."""
    for chips, model in itertools.product(options.chips, options.models):
        for layout in options.layouts:
            rows = []
            for name, step in (STACKED if "stacked" in model else STEPS).items():
                if re.search(options.only, name):
                    print(f"{chips} {model} {layout} {name} ...", file=sys.stderr, flush=True)
                    rows.append(compare(chips, model, layout, name, step))
            yield rows
    if re.search(options.only, PER_EXAMPLE):
        for chips in options.chips:
            yield list(compare_per_example(chips))


def compare(chips: str, model: str, layout: str, name: str, step: Step) -> Row:
    """Counts a step beside optax's."""
    row: Row = {"chips": chips, "model": model, "layout": layout, "step": name}
    # XLA sums over one set of axes at a time, those over which a leaf is sharded.
    shapes = jax.tree.leaves(MODELS[model](), is_leaf=lambda node: isinstance(node, tuple))
    specs = {frozenset(jax.tree.leaves(tuple(choose_spec(layout, one)))) for one in shapes}
    row |= {"sets": len(specs - {frozenset()}), **count(chips, model, layout, step.ours)}
    theirs = count(chips, model, layout, step.peer)
    return row | {f"peer {key}": value for key, value in theirs.items()}


def count(chips: str, model: str, layout: str, transformation: Any) -> dict[str, float]:
    """Compiles a step of it before SGD; memory in units of a shard's parameters."""
    mesh = _make_mesh(chips)
    optimizer = optax.chain(transformation, optax.sgd(RATE))
    shapes = jax.tree.map(
        lambda shape: jax.ShapeDtypeStruct(shape, jnp.float32),
        MODELS[model](),
        is_leaf=lambda node: isinstance(node, tuple),
    )
    params = targets.place(shapes, mesh, lambda leaf: choose_spec(layout, leaf.shape))
    state = targets.place(jax.eval_shape(optimizer.init, shapes), mesh)

    sizes = [math.prod(one.sharding.shard_shape(one.shape)) for one in jax.tree.leaves(params)]
    step, arguments = targets.make_step(optimizer), (params, state, params)
    compiled, held = targets.compile_with_held(step, *arguments, donate_argnums=(0, 1))
    return {"leaves": len(sizes), **_describe(compiled, held, 4 * sum(sizes))}


def _describe(compiled: targets.Compiled, held: int, size: int) -> dict[str, float]:
    found = hlo.count(compiled.program)
    return {
        "collectives": found.collectives,
        "scalars": found.scalars,
        "conditionals": found.conditionals,
        "traffic": found.bytes_accessed / size,
        "temporaries": found.temporaries / size,
        "held": held / size,
        "seconds": compiled.seconds,
    }


@cache
def _make_mesh(chips: str) -> Mesh:
    pod = PODS[chips]
    return targets.make_mesh(targets.find_devices("tpu", pod.topology), pod.sizes)


PER_EXAMPLE = "per example"


def compare_per_example(chips: str) -> Iterator[Row]:
    """Counts steps that clip every example, beside the gradient of the mean."""
    mesh = _make_mesh(chips)
    everywhere = tuple(mesh.axis_names)
    problem = per_example_forms.make_transformer(8 * mesh.size)
    params = targets.place(problem.params, mesh)
    batch = targets.place(problem.batch, mesh, lambda leaf: P(everywhere))
    whole, split = P(), [P(everywhere)] * len(batch)

    def plain(params: Any, *batch: Any) -> Any:
        losses = jax.vmap(problem.loss, in_axes=(None, *[0] * len(batch)))
        return jax.grad(lambda params: losses(params, *batch).mean())(params)

    def clip_per_shard(params: Any, *batch: Any) -> Any:
        clipped = clipax.clipped_grad(problem.loss, 1.0, axis_name=everywhere)
        inside = jax.shard_map(
            lambda *given: clipped(*given)[0],
            mesh=mesh,
            in_specs=(whole, *split),
            out_specs=whole,
        )
        return inside(params, *batch)

    def clip_in_one(params: Any, *batch: Any) -> Any:
        clipped = clipax.clipped_grad(problem.loss, 1.0, microbatch_size=mesh.size)
        return clipped(params, *batch)[0]

    size = hlo.tree_bytes(params)
    theirs = _describe(*targets.compile_with_held(plain, params, *batch), size)
    for place, step in {"shard_map": clip_per_shard, "jit": clip_in_one}.items():
        row: Row = {"chips": chips, "model": "0.5M", "layout": "data parallel"}
        row |= {"step": f"{PER_EXAMPLE}, {place}", "leaves": len(jax.tree.leaves(params))}
        row |= _describe(*targets.compile_with_held(step, params, *batch), size)
        yield row | {f"peer {key}": value for key, value in theirs.items()}


def judge(rows: Sequence[Row], device: str) -> Iterator[Finding]:
    """Judges collectives and temporaries."""
    for row in rows:
        where = ", ".join(str(row[name]) for name in ("chips", "model", "layout", "step"))
        if "sets" in row:
            # XLA joins no more than 256 sums in one.
            most = max(row["sets"], row["peer collectives"])
            yield records.judge("collectives", where, row["collectives"], most)
            limit = row["peer temporaries"] + SLACK
            yield records.judge("temporaries, P of a shard", where, row["temporaries"], limit)


def add_options(add: Any) -> None:
    """Adds the command's options."""
    add("--chips", nargs="+", choices=PODS, default=[*PODS])
    add("--models", nargs="+", choices=MODELS, default=[*MODELS])
    add("--layouts", nargs="+", choices=LAYOUTS, default=[*LAYOUTS])
    add("--only", default="", help="steps whose name matches, a regex")


SUITE = Suite(
    "what a clip takes on a whole TPU pod, beside optax's; per example: beside no clip",
    ("chips", "model", "layout"),
    (
        Column("step", "step"),
        Column("leaves", "leaves"),
        Column("sets of axes", "sets"),
        Column("collectives", "collectives"),
        Column("scalars", "scalars"),
        Column("conditionals", "conditionals"),
        Column("traffic P", "traffic", "{:.2f}"),
        Column("temp. P", "temporaries", "{:.3f}"),
        Column("held P", "held", "{:.3f}"),
        Column("compile s", "seconds", "{:.0f}"),
        Column("peer: collectives", "peer collectives"),
        Column("scalars", "peer scalars"),
        Column("traffic P", "peer traffic", "{:.2f}"),
        Column("temp. P", "peer temporaries", "{:.3f}"),
        Column("held P", "peer held", "{:.3f}"),
        Column("compile s", "peer seconds", "{:.0f}"),
    ),
    measure,
    judge,
    add_options,
    prepare=lambda options: (
        targets.prepare("tpu", "pods")
        | {f"{chips} chips": PODS[chips].topology for chips in options.chips}
    ),
    apart="step",
)
