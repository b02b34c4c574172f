"""The arrays that a tree is measured in: its leaves, or small ones gathered into fewer arrays.

A reduction of a few hundred entries takes longer to launch than to run, and longer still to
compile; thousands of small leaves are therefore concatenated first. That is a copy, so large leaves
stay where they are, and so do leaves that may be sharded: each would need a collective. It was
measured on a CPU (`benchmarks/NOTES.md`).
"""

from __future__ import annotations

import re
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

__all__ = ["Kind", "Layout", "assume_computed", "assume_devices", "gather", "is_whole", "lay_out"]

LARGEST = 4096
"""Entries of a leaf that is still gathered; XLA for CPU reduces larger ones without a temporary."""

FEWEST = 32
"""Concatenate only if at least this many small leaves share a norm; fewer run as fast apart."""

AT_ONCE = 64
"""Leaves in one concatenation; all at once compile and run no faster."""

_devices: ContextVar[int | None] = ContextVar("devices", default=None)
_computed: ContextVar[bool] = ContextVar("computed", default=False)


Kind = tuple[int, tuple[int, ...], str]


class Layout(NamedTuple):
    """The static facts about the measured arrays, one of each for every array; hashable.

    Attributes:
      blocks: Their blocks.
      copies: How many devices hold the same entries.
      whole: Whether no other device can hold a part of them.
      kinds: Rank, shape and name but for numbers: arrays of one kind mostly lie on the devices
        alike, as the same weights of many layers.
      mesh: The mesh axes to sum over.
      computed: Whether the arrays are computed as they are read (`assume_computed`).
    """

    blocks: tuple[Block, ...]
    copies: tuple[int, ...]
    whole: tuple[bool, ...]
    kinds: tuple[Kind, ...]
    mesh: Mesh
    computed: bool = False

    def select(self, places: Sequence[int]) -> Layout:
        """Select the facts about some of the arrays, to sum over this device alone."""
        return Layout(
            tuple(self.blocks[place] for place in places),
            tuple(self.copies[place] for place in places),
            tuple(self.whole[place] for place in places),
            tuple(self.kinds[place] for place in places),
            Mesh((), None),
        )


@contextmanager
def assume_devices(number: int) -> Iterator[None]:
    """Assume this number of devices instead of those that the process sees.

    An array without a mesh in its type may be sharded where there are several devices: small leaves
    are then not gathered. Say 1 where a process with several devices compiles for one of them.
    """
    token = _devices.set(number)
    try:
        yield
    finally:
        _devices.reset(token)


@contextmanager
def assume_computed() -> Iterator[None]:
    """Assume that what is measured is computed as it is read, as a difference of two arrays.

    XLA for GPU takes two sums of it in one read, and writes it out for a third.
    """
    token = _computed.set(True)
    try:
        yield
    finally:
        _computed.reset(token)


def lay_out(
    leaves: Sequence[Leaf], axis_name: AxisName, params: Sequence[Array] | None
) -> tuple[list[Array], Layout]:
    """Check the leaves and return their values and layout.

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
    whole = tuple(is_whole(value) for value in values)
    kinds = tuple(
        (leaf.value.ndim, leaf.value.shape, re.sub(r"\d+", "#", leaf.path)) for leaf in leaves
    )
    return values, Layout(blocks, copies, whole, kinds, mesh, _computed.get())


def gather(values: Sequence[Array], layout: Layout, dtype: Any) -> tuple[list[Array], Layout]:
    """Concatenate the small real arrays of a block, in `dtype`, where there are many."""
    blocks, copies, whole, kinds, mesh, computed = layout
    groups: dict[tuple[Block, int], list[int]] = {}
    for place, value in enumerate(values):
        small = value.size <= LARGEST and not jnp.iscomplexobj(value)
        if small and whole[place] and not blocks[place].keep:
            groups.setdefault((blocks[place], copies[place]), []).append(place)
    many = {key: places for key, places in groups.items() if len(places) >= FEWEST}
    gathered = {place for places in many.values() for place in places}
    rows = [
        (values[place], blocks[place], copies[place], whole[place], kinds[place])
        for place in range(len(values))
        if place not in gathered
    ]
    for (block, shared), places in many.items():
        for start in range(0, len(places), AT_ONCE):
            chunk = [values[place] for place in places[start : start + AT_ONCE]]
            flat = jnp.concatenate([jnp.ravel(value).astype(dtype) for value in chunk])
            # Behind a barrier, or XLA fuses the concatenation into each of its readers (the second
            # read after an overflow is one), and runs it again there.
            rows.append((lax.optimization_barrier(flat), block, shared, True, (1, flat.shape, "")))
    arrays, *facts = zip(*rows, strict=True)
    return list(arrays), Layout(facts[0], facts[1], facts[2], facts[3], mesh, computed)


def is_whole(value: Array) -> bool:
    """Tell whether this device holds all of the array.

    It does where all mesh axes are manual or there is one device. On several devices an array that
    has no mesh in its type may be sharded all the same. A program that one device compiles for
    several must have the mesh in its types; otherwise gathering costs it collectives.
    """
    mesh = jax.typeof(value).sharding.mesh
    if mesh.empty:
        devices = _devices.get()
        return (jax.device_count() if devices is None else devices) == 1
    if all(axis == AxisType.Manual for axis in mesh.axis_types):
        return True
    # JAX concatenates arrays with explicit axes only where their specs agree, even on one device.
    return mesh.size == 1 and AxisType.Explicit not in mesh.axis_types


def _refuse_unequal(leaves: Sequence[Leaf]) -> None:
    """Raise where leaves with one label keep axes of different sizes."""
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
