"""The pieces of a tree that are measured: its leaves, or small ones gathered.

A reduction of a few hundred entries takes longer to launch than to run, and longer still to
compile; thousands of small leaves are therefore gathered first. That is a copy, so large leaves
stay where they are, and so does whatever may be sharded: it would be a collective for each leaf.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import AxisType

from clipax._typing import Array, AxisName
from clipax.measure._leaves import Leaf
from clipax.measure._mesh import Mesh
from clipax.scopes import Block

__all__ = ["Layout", "assume_devices", "gather", "lay_out"]

LARGEST = 4096
"""Entries of a leaf that is still gathered; XLA for CPU reduces larger ones without a temporary."""

FEWEST = 32
"""Concatenate only if at least this many small leaves share a norm; fewer run as fast apart."""

AT_ONCE = 64
"""Leaves in one concatenation; all at once compile and run no faster."""

_devices: ContextVar[int | None] = ContextVar("devices", default=None)


class Layout(NamedTuple):
    """What is known of the pieces before there are values; hashable.

    Attributes:
      blocks: Their blocks.
      copies: How many devices hold the same entries of each.
      whole: Whether no other device can have a part of them.
      mesh: The mesh axes to sum over.
    """

    blocks: tuple[Block, ...]
    copies: tuple[int, ...]
    whole: tuple[bool, ...]
    mesh: Mesh


@contextmanager
def assume_devices(number: int) -> Iterator[None]:
    """Measures as where there are so many devices, whatever this process sees.

    A value without a mesh in its type may be sharded where there are several: its small leaves are
    then not gathered. Say 1 where a process with several devices compiles for one of them.
    """
    token = _devices.set(number)
    try:
        yield
    finally:
        _devices.reset(token)


def lay_out(
    leaves: Sequence[Leaf], axis_name: AxisName, params: Sequence[Array] | None
) -> tuple[list[Array], Layout]:
    """The leaves' values and layout.

    Raises:
      ValueError: Leaves with one label have different kept sizes, or (inside `shard_map`) mesh axes
        are not named or gradients not averaged.
    """
    pairs = [(leaf.path, leaf.value) for leaf in leaves]
    mesh = Mesh.of(pairs, axis_name, params, [leaf.block.keep for leaf in leaves])
    _refuse_unequal(leaves)
    values = [leaf.value for leaf in leaves]
    blocks = tuple(leaf.block for leaf in leaves)
    copies = tuple(mesh.copies(leaf.path, leaf.value) for leaf in leaves)
    return values, Layout(blocks, copies, tuple(_is_whole(value) for value in values), mesh)


def gather(values: Sequence[Array], layout: Layout, dtype: Any) -> tuple[list[Array], Layout]:
    """The same entries in fewer pieces, in `dtype` where many small real ones have one norm."""
    blocks, copies, whole, mesh = layout
    groups: dict[tuple[Block, int], list[int]] = {}
    for place, value in enumerate(values):
        small = value.size <= LARGEST and not jnp.iscomplexobj(value)
        if small and whole[place] and not blocks[place].keep:
            groups.setdefault((blocks[place], copies[place]), []).append(place)
    many = {key: places for key, places in groups.items() if len(places) >= FEWEST}
    gone = {place for places in many.values() for place in places}
    rows = [
        (values[place], blocks[place], copies[place], whole[place])
        for place in range(len(values))
        if place not in gone
    ]
    for (block, shared), places in many.items():
        for start in range(0, len(places), AT_ONCE):
            some = [values[place] for place in places[start : start + AT_ONCE]]
            flat = jnp.concatenate([jnp.ravel(value).astype(dtype) for value in some])
            # Behind a barrier a second measurement reads it too, and does not gather again.
            rows.append((lax.optimization_barrier(flat), block, shared, True))
    columns = list(zip(*rows, strict=True))
    return list(columns[0]), Layout(columns[1], columns[2], columns[3], mesh)


def _is_whole(value: Array) -> bool:
    """Whether this device has all of the value: all axes are manual, or there is but one device.

    On several devices a value that has no mesh in its type may be sharded all the same. On one, a
    program that is lowered for others must say so in its types, or pays with collectives.
    """
    mesh = jax.typeof(value).sharding.mesh
    if mesh.empty:
        devices = _devices.get()
        return (jax.device_count() if devices is None else devices) == 1
    if all(axis == AxisType.Manual for axis in mesh.axis_types):
        return True
    # Arrays with explicit axes, be there one device or many, are joined only where specs agree.
    return mesh.size == 1 and AxisType.Explicit not in mesh.axis_types


def _refuse_unequal(leaves: Sequence[Leaf]) -> None:
    first: dict[str, tuple[Leaf, tuple[int, ...]]] = {}
    for leaf in leaves:
        label, keep, _ = leaf.block
        kept = tuple(leaf.value.shape[axis] for axis in keep)
        other, sizes = first.setdefault(label, (leaf, kept))
        if sizes != kept:
            raise ValueError(
                f"Leaves with one label must keep axes of the same sizes: label {label!r} has "
                f"{sizes} for {other.path!r} and {kept} for {leaf.path!r}."
            )
