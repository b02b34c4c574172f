"""Sums over the shards of a tree inside `shard_map`.

Under `jit` with sharded arrays nothing of this is needed: the compiler adds the reductions.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import PartitionSpec

from clipax import scopes
from clipax._compat import vary, varying_axes
from clipax._typing import Array, AxisName

__all__ = ["Mesh"]

T = TypeVar("T")

_JOINED = 4096
"""Arrays of up to this many entries are joined to one vector before they are summed."""


class Mesh(NamedTuple):
    """The named mesh axes of one measurement.

    Attributes:
      axes: The axes over which to sum.
      sharded: For leaves whose variation JAX does not track, pairs of a path and the axes over
        which that leaf is sharded; None where it is tracked.
    """

    axes: tuple[str, ...]
    sharded: tuple[tuple[str, tuple[str, ...]], ...] | None

    @staticmethod
    def of(
        leaves: Sequence[tuple[str, Array]],
        axis_name: AxisName,
        params: Sequence[Array] | None,
        kept: Sequence[tuple[int, ...]] = (),
    ) -> Mesh:
        """Check that the named axes fit the leaves.

        Args:
          leaves: Pairs of path and value.
          axis_name: Mesh axes, or a mapping from patterns of paths to those of a leaf.
          params: The leaves' parameters, if a gradient must be averaged where these are whole.
          kept: For each leaf the axes that keep a norm of their own, if there are any.

        Raises:
          ValueError: An axis is not bound, not named, a gradient is not averaged over it, or it may
            shard an axis that keeps norms of its own.
        """
        if axis_name is None:
            _refuse_unnamed(leaves, ())
            return Mesh((), None)
        if isinstance(axis_name, Mapping):
            by_path = {path: _as_tuple(_lookup(axis_name, path)) for path, _ in leaves}
            named = [axis for entry in axis_name.values() for axis in _as_tuple(entry)]
            axes = tuple(dict.fromkeys(named))
        else:
            by_path, axes = None, _as_tuple(axis_name)
        if not axes:
            return Mesh((), None)
        if _tracks_variation(axes):
            _refuse_unaveraged(leaves, params)
            _refuse_unnamed(leaves, axes)
            mesh = Mesh(axes, None)
            _refuse_sharded_units(leaves, axis_name, mesh, kept)
            return mesh
        if by_path is None:
            raise ValueError(
                f"`axis_name` must be a mapping from paths to mesh axes where JAX does not track "
                f"over which axes an array varies (`check_vma=False`), for example "
                f"{{'*/kernel': {axes[0]!r}, '*': ()}}, got {axis_name!r}."
            )
        mesh = Mesh(axes, tuple(by_path.items()))
        _refuse_sharded_units(leaves, axis_name, mesh, kept)
        return mesh

    @staticmethod
    def of_batch(batch: Any, params: Any, axis_name: str | tuple[str, ...] | None) -> Mesh:
        """Check the axes over which a batch is sharded while its parameters are copies.

        Raises:
          ValueError: An axis is not bound, the batch varies over one that is not named, or the
            parameters over any.
        """
        axes = () if axis_name is None else _as_tuple(axis_name)
        varying = frozenset().union(*(varying_axes(leaf) for leaf in jax.tree.leaves(batch)))
        if unnamed := varying - frozenset(axes):
            raise ValueError(
                f"`axis_name` must name the mesh axes {sorted(unnamed)} over which the batch "
                f"varies."
            )
        varying = frozenset().union(*(varying_axes(leaf) for leaf in jax.tree.leaves(params)))
        if varying:
            raise ValueError(
                f"`params` must be the same on every device, they vary over the mesh axes "
                f"{sorted(varying)}."
            )
        return Mesh(axes, None if not axes or _tracks_variation(axes) else ())

    def vary(self, values: T) -> T:
        """Mark values as varying over the axes, so that JAX sums no derivative over devices."""
        return values if self.sharded is not None else jax.tree.map(self._vary, values)

    def copies(self, path: str, value: Array) -> int:
        """Count the devices along the named axes that hold the same shard of a leaf."""
        if not self.axes:
            return 1
        sharded = self.shards(path, value)
        return math.prod(lax.axis_size(axis) for axis in self.axes if axis not in sharded)

    def shards(self, path: str, value: Array) -> Collection[str]:
        """Return the mesh axes over which a leaf is sharded."""
        return varying_axes(value) if self.sharded is None else dict(self.sharded)[path]

    def devices(self) -> int:
        """Count the devices along the named axes."""
        return math.prod(lax.axis_size(axis) for axis in self.axes)

    def place(self) -> Array | int:
        """Return the place of this device among those along the named axes."""
        return lax.axis_index(self.axes) if self.axes else 0

    def psum(self, values: T) -> T:
        """Sum over all named axes, in one collective."""
        return self._reduce(lax.psum, values)

    def pmax(self, values: T) -> T:
        """Take the largest over all named axes, in one collective."""
        return self._reduce(lax.pmax, values)

    def gather(self, values: Array) -> Array:
        """Join the vectors of all devices along the named axes."""
        if not self.axes:
            return values
        # A sum, not `all_gather`: JAX knows that a sum is the same on every device.
        rows = jnp.zeros((self.devices(), *values.shape), values.dtype)
        return self.psum(rows.at[self.place()].set(values)).reshape(-1)

    def _reduce(self, collective: Any, values: T) -> T:
        if not self.axes:
            return values
        leaves, structure = jax.tree.flatten(self.vary(values))
        # Concatenate small leaves of one dtype: XLA merges no more than 256 collectives into one.
        # Large ones (gradients) stay apart: to join them is to copy them.
        groups: dict[Any, list[int]] = {}
        for place, leaf in enumerate(leaves):
            apart = place if leaf.size > _JOINED else None
            groups.setdefault((leaf.dtype, apart), []).append(place)
        vectors = [
            jnp.concatenate([jnp.ravel(leaves[place]) for place in places])
            for places in groups.values()
        ]
        for places, vector in zip(groups.values(), collective(vectors, self.axes), strict=True):
            ends = np.cumsum([leaves[place].size for place in places])
            for place, part in zip(places, jnp.split(vector, ends[:-1]), strict=True):
                leaves[place] = part.reshape(leaves[place].shape)
        return jax.tree.unflatten(structure, leaves)

    def _vary(self, value: Array) -> Array:
        """Mark a value as varying over all named axes, as collectives over them demand."""
        missing = tuple(axis for axis in self.axes if axis not in varying_axes(value))
        return vary(value, missing) if missing else value


def _as_tuple(axes: Any) -> tuple[str, ...]:
    if isinstance(axes, PartitionSpec):
        return tuple(name for entry in axes if entry is not None for name in _as_tuple(entry))
    return (axes,) if isinstance(axes, str) else tuple(axes)


def _lookup(axis_name: Mapping[str, Any], path: str) -> Any:
    for pattern, axes in axis_name.items():
        if scopes.matches(pattern, path):
            return axes
    raise ValueError(
        f"`axis_name` must match every leaf, none of its patterns {list(axis_name)} fits {path!r}."
    )


def _tracks_variation(axes: tuple[str, ...]) -> bool:
    """Tell whether JAX tracks over which of the axes an array varies."""
    try:
        # `axis_index` always varies over its axis; if its type does not say so, JAX does not track
        # variation (`check_vma=False`).
        return all(axis in varying_axes(lax.axis_index(axis)) for axis in axes)
    except NameError as error:
        raise ValueError(
            f"`axis_name` must name mesh axes of the `shard_map` around the update, got {axes!r}; "
            f"under plain `jit` leave it out."
        ) from error


def _refuse_unnamed(leaves: Sequence[tuple[str, Array]], named: tuple[str, ...]) -> None:
    for path, value in leaves:
        if varying := varying_axes(value) - frozenset(named):
            raise ValueError(
                f"`axis_name` must name the mesh axes {sorted(varying)} over which the leaf "
                f"{path!r} varies, for the norm of the whole tree (or be () for the norm of each "
                f"shard by itself)."
            )


def _refuse_unaveraged(leaves: Sequence[tuple[str, Array]], params: Sequence[Array] | None) -> None:
    if params is None:
        return
    for (path, value), param in zip(leaves, params, strict=True):
        if missing := varying_axes(value) - varying_axes(param):
            raise ValueError(
                f"The gradient of {path!r} is not averaged: it varies over the mesh axes "
                f"{sorted(missing)}, its parameter does not. Average it (`jax.lax.pmean`) first."
            )


def _refuse_sharded_units(
    leaves: Sequence[tuple[str, Array]],
    axis_name: AxisName,
    mesh: Mesh,
    kept: Sequence[tuple[int, ...]],
) -> None:
    """Raise where a mesh axis shards a kept axis: a sum over it would mix different units."""
    for (path, value), keep in zip(leaves, kept, strict=bool(kept)):
        if not keep or not set(mesh.shards(path, value)) & set(mesh.axes):
            continue
        spec = _lookup(axis_name, path) if isinstance(axis_name, Mapping) else None
        if not isinstance(spec, PartitionSpec):
            raise ValueError(
                f"`axis_name` must tell which axes of the leaf {path!r} are sharded, as each entry "
                f"of its axes {list(keep)} has a norm of its own: a mapping from paths to "
                f"`PartitionSpec`, for example {{{path!r}: PartitionSpec({mesh.axes[0]!r}), "
                f"'*': ()}}, got {axis_name!r}."
            )
        if any(spec[axis] for axis in keep if axis < len(spec)):
            raise ValueError(
                f"`axis_name` must leave the axes {list(keep)} of the leaf {path!r} whole, as each "
                f"of their entries has a norm of its own, got {spec}. Call the update under plain "
                f"`jit`, or give the leaf another scope."
            )
