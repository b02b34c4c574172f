"""Telemetry: a few numbers for each block and step, never one for each unit.

All blocks share one array a field: thousands of scalars would cost more than the step itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from clipax._export import exportable
from clipax._typing import Array
from clipax.engine._blocks import Group, block_key
from clipax.engine._rows import make_rows
from clipax.norms import Decision

__all__ = [
    "Telemetry",
    "decode_names",
    "init_telemetry",
    "known_labels",
    "record",
    "stack_telemetry",
]


@exportable
class Telemetry(NamedTuple):
    """The records of a transformation, block by block; every number is finite at all times.

    Rows are blocks, in the order of `names`; there is no such axis for `"global"`. Few arrays, as a
    GPU launches a kernel for each. `clipax.metrics` reads them out of any optimizer state.

    Attributes:
      latest: On the last axis `grad_norm`, `threshold`, `clip_factor` and the factor of the update
        of the last finite step, the moving average of whether steps were clipped and that of
        ones; where blocks have units also `clipped_norm`, and the part of the sum of clipped units'
        shares beyond whole steps.
      counts: On the last axis the numbers of steps, of steps with a norm above the threshold, of
        steps with one that was not finite, and of the latter in a row up to now, int32. A last row,
        if there is one more, is that of all excluded leaves together, or of an empty tree.
      labels: The blocks as the keys (`block_key`) of a dictionary without arrays: their names are
        known inside `jit`.
      names: The same as bytes (`clipax.block_names` reads them), for checkpoints that keep arrays
        only; None for `"global"`.
    """

    latest: Array
    counts: Array
    labels: Any
    names: Array | None

    @property
    def grad_norm(self) -> Array:
        """Return the norm of the last finite gradient (the largest of a block's units)."""
        return self.latest[..., 0]

    @property
    def threshold(self) -> Array:
        """Return its threshold (the smallest); the largest float where nothing clips."""
        return self.latest[..., 1]

    @property
    def clip_factor(self) -> Array:
        """Return the factor of the gradient (the smallest)."""
        return self.latest[..., 2]

    @property
    def update_factor(self) -> Array:
        """Return the factor of the update that is made of the gradient (the smallest)."""
        return self.latest[..., 3]

    @property
    def recent_clip_fraction(self) -> Array:
        """Return the share of about the last 100 finite steps that were clipped."""
        weight = self.latest[..., _WEIGHT]
        return self.latest[..., _RECENT] / jnp.where(weight > 0, weight, 1)

    @property
    def clipped_norm(self) -> Array:
        """Return the norm that the factor of the gradient left (the largest of a block's units)."""
        if self.latest.shape[-1] > _CLIPPED_NORM:
            return self.latest[..., _CLIPPED_NORM]
        return self.grad_norm * self.clip_factor

    @property
    def steps(self) -> Array:
        """Return the number of steps, int32."""
        steps = self.counts[..., _STEPS]
        return steps if self.names is None else steps[..., 0]

    @property
    def clipped_count(self) -> Array:
        """Return the number of steps with a norm above the threshold (shares of units add up)."""
        clipped = self.counts[..., _CLIPPED]
        if self.names is not None:
            clipped = clipped[..., : self.latest.shape[-2]]
        if self.latest.shape[-1] > _REST:
            return clipped + self.latest[..., _REST]
        return clipped

    @property
    def nonfinite_count(self) -> Array:
        """Return the number of steps with a norm that was not finite."""
        return self.counts[..., _NONFINITE]

    @property
    def consecutive_nonfinite(self) -> Array:
        """Return the number of steps in a row, up to the last, with a norm that was not finite."""
        return self.counts[..., _IN_A_ROW]

    @property
    def is_finite(self) -> Array:
        """Tell whether the last step's norms were finite."""
        return self.consecutive_nonfinite == 0


_STEPS, _CLIPPED, _NONFINITE, _IN_A_ROW = range(4)
_RECENT, _WEIGHT, _CLIPPED_NORM, _REST = range(4, 8)
_DECAY = 0.99
"""Decay rate of the average over recent steps."""


def init_telemetry(
    shapes: Mapping[str, tuple[int, ...]],
    *,
    excluded: bool,
    collapse: bool,
    dtype: Any,
) -> Telemetry:
    """Make the records before the first step.

    Args:
      shapes: The shape of each label's norms, in the order of the records.
      excluded: Whether there are leaves that are checked but not scaled: they share a last row of
        `counts`.
      collapse: Whether there is one label, whose records have no axis of blocks.
      dtype: Type of the norms.
    """
    rows: tuple[int, ...] = () if collapse else (len(shapes),)
    counted: tuple[int, ...] = () if collapse else (max(1, len(shapes) + excluded),)
    units = any(shape != () for shape in shapes.values())
    numbers = [0, jnp.finfo(dtype).max, 1, 1, 0, 0, 0, 0]
    start = np.array(numbers if units else numbers[:_CLIPPED_NORM], jnp.dtype(dtype))
    return Telemetry(
        latest=jnp.broadcast_to(jnp.asarray(start), (*rows, len(start))),
        counts=jnp.zeros((*counted, 4), jnp.int32),
        # `optax.tree.map_params` initialises a state from a tree without leaves, as a prefix of the
        # real one: there one array stands for the dictionary, whatever its labels.
        labels=dict.fromkeys(map(block_key, shapes)) if shapes else jnp.zeros(0, jnp.int32),
        names=None if collapse else jnp.asarray(_encode_names(list(shapes))),
    )


def known_labels(telemetry: Telemetry) -> list[str]:
    """Read the labels of all rows, in order; none where a checkpoint kept arrays only."""
    keys = sorted(telemetry.labels) if isinstance(telemetry.labels, Mapping) else []
    return [key.removeprefix(block_key("")) for key in keys]


def record(
    old: Telemetry,
    groups: Sequence[Group],
    decisions: Sequence[Decision],
    update_factors: Sequence[Array | None],
    excluded: Sequence[Array],
) -> Telemetry:
    """Record a step; blocks that were not measured keep their records.

    Args:
      old: The records before it.
      groups: The blocks that were decided on.
      decisions: The decision on each group.
      update_factors: The factors of the update of each group; None for a factor of 1.
      excluded: Norms of the excluded leaves.
    """
    collapse = old.names is None
    latest, counts = (part[None] if collapse else part for part in (old.latest, old.counts))
    has_units = latest.shape[-1] > _REST
    # By row of `counts`: whether this step's norm was above the threshold, and not finite.
    clipped, bad = (jnp.zeros(len(counts), jnp.int32) for _ in range(2))
    measured = np.zeros(len(counts), bool)
    if groups:
        row = make_rows(groups, decisions, update_factors)
        order = {label: place for place, label in enumerate(known_labels(old))}
        place = np.array([order[label] for group in groups for label in group.labels])
        measured[place] = True

        def replace(old: Array) -> Array:
            # Entry by entry: XLA can write it in place, and makes no copy on a GPU.
            numbers = [*row.numbers, row.share, jnp.ones_like(row.share)]
            if has_units:
                numbers += [row.clipped_norm, row.share]
            fresh = jnp.stack(numbers, axis=-1).astype(old.dtype)
            column = np.arange(old.shape[-1])
            averaged = (column == _RECENT) | (column == _WEIGHT)
            fresh = jnp.where(averaged, old + (1 - _DECAY) * (fresh - old), fresh)
            if has_units:
                fresh = jnp.where(column == _REST, (old + fresh) % 1, fresh)
            return jnp.where(row.any_finite[:, None], fresh, old)

        whole = row.share
        if has_units:
            # Float sums of shares would stop growing after some hundred thousand steps.
            whole = jnp.floor(_select(latest[:, _REST], place) + row.share.astype(latest.dtype))
        whole = jnp.where(row.any_finite, whole, 0)
        latest = _put(latest, place, replace)
        clipped = _put(clipped, place, lambda _: whole.astype(jnp.int32))
        bad = _put(bad, place, lambda _: (~row.is_finite).astype(jnp.int32))
    if excluded:
        finite = jnp.stack([jnp.isfinite(norms).all() for norms in excluded]).all()
        bad = jnp.append(bad[:-1], (~finite).astype(jnp.int32))
        measured[-1] = True
    steps = jnp.ones_like(bad)
    largest = np.iinfo(np.int32).max
    added = jnp.stack([steps, clipped, bad, bad], axis=-1)
    counted = jnp.where(counts > largest - added, largest, counts + added)
    # A finite step ends a row of others; one in which the block had no gradient does not.
    ends = (np.arange(4) == _IN_A_ROW) & measured[:, None] & (bad == 0)[:, None]
    counts = jnp.where(ends, 0, counted)
    if collapse:
        latest, counts = latest[0], counts[0]
    return old._replace(latest=latest, counts=counts)


def _select(values: Array, place: np.ndarray) -> Array:
    """Select rows; all rows in order are not gathered."""
    return values if np.array_equal(place, np.arange(len(values))) else values[place]


def _put(values: Array, place: np.ndarray, new: Callable[[Array], Array]) -> Array:
    """Replace rows by what `new` makes of them; all rows in order are not gathered or scattered."""
    if np.array_equal(place, np.arange(len(values))):
        return new(values)
    return values.at[place].set(new(values[place]))


def stack_telemetry(parts: Mapping[str, Telemetry]) -> Telemetry:
    """Stack records that have no axis of blocks, given by label, to those of several blocks."""
    latest, counts = (
        jnp.stack([getattr(part, name) for part in parts.values()], axis=-2)
        for name in ("latest", "counts")
    )
    names = jnp.asarray(_encode_names(list(parts)))
    return Telemetry(latest, counts, dict.fromkeys(map(block_key, parts)), names)


def _encode_names(labels: Sequence[str]) -> np.ndarray:
    """Write labels as an array, one row of UTF-8 bytes each.

    So they survive a checkpoint that keeps arrays only, as the keys of an empty dictionary do not.
    """
    texts = [label.encode() for label in labels]
    width = max((len(text) for text in texts), default=0)
    return np.array([list(text.ljust(width, b"\0")) for text in texts], np.uint8).reshape(
        len(texts), width
    )


def decode_names(names: Any) -> tuple[str, ...]:
    """Read the labels that are stored as `names`."""
    return tuple(bytes(row).rstrip(b"\0").decode() for row in np.asarray(names, np.uint8))
