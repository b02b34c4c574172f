"""Evaluates a function on arrays of a mesh with explicit axes, where JAX's compiler may choose."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

__all__ = ["with_auto_axes"]


def with_auto_axes(
    evaluate: Callable[..., Any], params: Any, batch: Any, size: int, *others: Any
) -> Any:
    """Call `evaluate(params, batch, *others)`, which returns a pair of statistics and gradients.

    A sum over examples that an explicit axis shards is an error of JAX's: it asks for the sharding
    of every result. Inside, the axes are automatic; gradients come out sharded as the parameters
    are, arrays with an entry for each of the `size` examples as the batch is.
    """
    mesh = _explicit_mesh((params, batch, others))
    if mesh is None:
        return evaluate(params, batch, *others)
    operands = params, batch, *others
    shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), operands)
    statistics, _ = jax.eval_shape(evaluate, *shapes)
    rows = next((spec[0] for spec in map(_spec, jax.tree.leaves(batch)) if len(spec)), None)
    shardings = (
        jax.tree.map(
            lambda leaf: NamedSharding(mesh, P(rows) if leaf.shape[:1] == (size,) else P()),
            statistics,
        ),
        jax.tree.map(lambda leaf: NamedSharding(mesh, _spec(leaf)), params),
    )
    axes = tuple(
        name
        for name, kind in zip(mesh.axis_names, mesh.axis_types, strict=True)
        if kind == AxisType.Explicit
    )
    return jax.sharding.auto_axes(evaluate, axes=axes, out_sharding=shardings)(*operands)


def _explicit_mesh(tree: Any) -> Any:
    """Find the mesh with explicit axes on which a leaf lies; None if there is none."""
    for leaf in jax.tree.leaves(tree):
        mesh = getattr(getattr(jax.typeof(leaf), "sharding", None), "mesh", None)
        if mesh is not None and AxisType.Explicit in mesh.axis_types:
            return mesh
    return None


def _spec(leaf: Any) -> P:
    """Return how explicit axes shard an array."""
    sharding = getattr(jax.typeof(leaf), "sharding", None)
    return P() if sharding is None else sharding.spec
