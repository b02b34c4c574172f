"""Counts the collectives of a clip on a sharded transformer.

Run it with `python -m benchmarks.collectives`; README.md explains it.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

import clipax
from benchmarks import hlo, trees
from benchmarks.measure import environment
from clipax import norms

__all__ = ["LAYOUTS", "METHODS", "Count", "inside_shard_map", "main", "mesh", "under_jit"]

AXES = ("data", "model")
# All axes of the transformer are multiples of 8 then. Counts do not depend on sizes.
SCALE = 1 / 256
# Compiled to be counted: fast code is not worth its time.
QUICK = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}

LAYOUTS: dict[str, Callable[[int], P]] = {
    "fsdp": lambda ndim: P(AXES),
    "tensor": lambda ndim: P(None, "model") if ndim > 1 else P(),
    "mixed": lambda ndim: P("data", "model") if ndim > 1 else P("model"),
}
"""How leaves of so many axes are sharded; P() on all devices."""


def _chain(axis_name: Any) -> optax.GradientTransformationExtraArgs:
    decisions = norms.chain(norms.clip(1.0), norms.smooth(0.5), norms.adagrad_norm(0.5))
    return clipax.scale_by_norm(decisions, axis_name=axis_name)


METHODS: dict[str, Callable[[Any], optax.GradientTransformationExtraArgs]] = {
    "one clip": lambda axis_name: clipax.clip_by_global_norm(1.0, axis_name=axis_name),
    "chain of three": _chain,
}


@dataclass(frozen=True)
class Count:
    """What a step sums up over devices, the branch for overflow left out.

    Attributes:
      leaves: Leaves of the tree.
      collectives: Number of collectives.
      scalars: Number of scalars in them.
      norm: The norm that was measured.
    """

    leaves: int
    collectives: int
    scalars: int
    norm: float


def mesh() -> Mesh:
    """Eight devices, four along the data and two along the model."""
    return jax.make_mesh((4, 2), AXES, axis_types=(AxisType.Auto, AxisType.Auto))


def inside_shard_map(tree: str, layout: str, method: str) -> Count:
    """Counts a step inside `shard_map`.

    Args:
      tree: "transformer" (148 leaves) or "shallow" (40).
      layout: "fsdp", "tensor" or "mixed".
      method: "one clip" or "chain of three".
    """
    gradients, where, tx = _gradients(tree), mesh(), METHODS[method](AXES)
    specs = jax.tree.map(lambda leaf: LAYOUTS[layout](leaf.ndim), gradients)

    def step(gradients: Any) -> Any:
        updates, state = tx.update(gradients, tx.init(gradients))
        return updates, state.grad_norm

    mapped = jax.shard_map(step, mesh=where, in_specs=(specs,), out_specs=(specs, P()))
    return _count(jax.jit(mapped), gradients)


def under_jit(tree: str, layout: str, method: str) -> Count:
    """Counts a step under plain `jit`; arguments as for `inside_shard_map`."""
    gradients, where, tx = _gradients(tree), mesh(), METHODS[method](None)
    shardings = jax.tree.map(
        lambda leaf: NamedSharding(where, LAYOUTS[layout](leaf.ndim)), gradients
    )

    def step(gradients: Any) -> Any:
        updates, state = tx.update(gradients, tx.init(gradients))
        return updates, state.grad_norm

    placed = jax.device_put(gradients, shardings)
    return _count(jax.jit(step, out_shardings=(shardings, None)), placed)


def _gradients(tree: str) -> Any:
    return trees.gradients(tree, jnp.float32, scale=SCALE)


def _count(step: Any, gradients: Any) -> Count:
    program = step.lower(gradients).compile(QUICK)
    computations, entry = hlo.parse(program.as_text())
    reduces = [one for one in computations[entry].values() if one.opcode == "all-reduce"]
    _, norm = program(gradients)
    return Count(
        leaves=len(jax.tree.leaves(gradients)),
        collectives=hlo.count(program).collectives,
        scalars=sum(hlo.shape_bytes(one.shape) // 4 for one in reduces),
        norm=float(norm),
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Counts for all layouts, trees and methods, and prints a table.

    Args:
      arguments: Command line; by default the process's own.

    Returns:
      The exit status: 1 if a step has more than one all-reduce inside `shard_map`, or more than one
      for each mesh axis under `jit`.
    """
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.collectives", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--json", type=Path, metavar="PATH", help="write what was counted")
    options = parser.parse_args(arguments)
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_num_cpu_devices", 8)
    print(f"{'':10} {'layout':7} {'method':14} {'leaves':>6} {'collectives':>11} {'scalars':>7}")
    rows, missed = [], False
    for place, count, limit in (
        ("shard_map", inside_shard_map, 1),
        ("jit", under_jit, len(AXES)),
    ):
        for layout in LAYOUTS:
            for tree, method in (
                ("shallow", "one clip"),
                ("transformer", "one clip"),
                ("transformer", "chain of three"),
            ):
                one = count(tree, layout, method)
                missed |= one.collectives > limit
                rows.append({"in": place, "layout": layout, "method": method} | asdict(one))
                print(
                    f"{place:10} {layout:7} {method:14} {one.leaves:6} {one.collectives:11} "
                    f"{one.scalars:7}",
                    flush=True,
                )
    if options.json is not None:
        content = {"settings": environment(), "rows": rows}
        options.json.write_text(json.dumps(content, indent=1) + "\n")
    return int(missed)


if __name__ == "__main__":
    raise SystemExit(main())
