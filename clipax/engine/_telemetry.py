"""Telemetry: a few numbers for each block and step, never one for each unit.

All blocks share one array a field: thousands of scalars would cost more than the step itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
import optax

from clipax._typing import Array
from clipax.engine._blocks import Group, block_key
from clipax.norms import Decision

__all__ = [
    "Telemetry",
    "decode_names",
    "init_telemetry",
    "known_labels",
    "record",
    "stack_telemetry",
]


class Telemetry(NamedTuple):
    """The records of a transformation, block by block; every number is finite at all times.

    Arrays have one entry for each block, in the order of `names`; no such axis for `"global"`.
    `clipax.metrics` reads them out of any optimizer state.

    Attributes:
      steps: Number of steps, int32.
      latest: On the last axis `grad_norm`, `threshold` and `clip_factor` of the last finite step.
      clipped_count: Number of steps with a norm above the threshold (shares of units add up).
      checks: On the last axis `nonfinite_count` and whether the last step was not finite, int32. A
        last entry, if there is one more, is that of all excluded leaves together.
      labels: The blocks as the keys (`block_key`) of a dictionary without arrays: their names are
        known inside `jit`.
      names: The same as bytes (`clipax.block_names` reads them), for checkpoints that keep arrays
        only; None for `"global"`.
    """

    steps: Array
    latest: Array
    clipped_count: Array
    checks: Array
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
    def nonfinite_count(self) -> Array:
        """Return the number of steps with a norm that was not finite."""
        return self.checks[..., 0]

    @property
    def is_finite(self) -> Array:
        """Tell whether the last step's norms were finite."""
        return self.checks[..., 1] == 0


class _Row(NamedTuple):
    """The records of a group for one step: vectors over its blocks, or scalars for one."""

    latest: Array
    clipped: Array
    is_finite: Array
    any_finite: Array


def init_telemetry(
    shapes: Mapping[str, tuple[int, ...]], *, excluded: bool, collapse: bool, dtype: Any
) -> Telemetry:
    """Make the records before the first step.

    Args:
      shapes: The shape of each label's norms, in the order of the records.
      excluded: Whether there are leaves that are checked but not scaled: they share a last row of
        `checks`.
      collapse: Whether there is one label, whose records have no axis of blocks.
      dtype: Type of the norms.
    """
    rows: tuple[int, ...] = () if collapse else (len(shapes),)
    checked: tuple[int, ...] = () if collapse else (len(shapes) + excluded,)
    whole = all(shape == () for shape in shapes.values())
    start = np.array([0, jnp.finfo(dtype).max, 1], jnp.dtype(dtype))
    return Telemetry(
        steps=jnp.zeros((), jnp.int32),
        latest=jnp.broadcast_to(jnp.asarray(start), (*rows, 3)),
        # Whole steps, or shares of a block's units.
        clipped_count=jnp.zeros(rows, jnp.int32 if whole else dtype),
        checks=jnp.zeros((*checked, 2), jnp.int32),
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
    excluded: Sequence[Array],
) -> Telemetry:
    """Record a step; blocks that were not measured keep their records.

    Args:
      old: The records before it.
      groups: The blocks that were decided on.
      decisions: The decision on each group.
      excluded: Norms of the excluded leaves.
    """
    collapse = old.clipped_count.ndim == 0
    latest, clipped, checks = (
        part[None] if collapse else part for part in (old.latest, old.clipped_count, old.checks)
    )
    if groups:
        pairs = zip(groups, decisions, strict=True)
        rows = [_make_row(group, decision) for group, decision in pairs]
        row = _Row(*(jnp.concatenate(column) for column in zip(*rows, strict=True)))
        order = {label: place for place, label in enumerate(known_labels(old))}
        place = np.array([order[label] for group in groups for label in group.labels])

        def is_whole(values: Array) -> bool:
            # Every row is measured, in order: none needs to be gathered or scattered.
            return np.array_equal(place, np.arange(len(values)))

        def put(values: Array, new: Array) -> Array:
            return new if is_whole(values) else values.at[place].set(new)

        def take(values: Array) -> Array:
            return values if is_whole(values) else values[place]

        kept = jnp.where(row.any_finite[:, None], row.latest.astype(latest.dtype), take(latest))
        latest = put(latest, kept)
        clipped = put(clipped, take(clipped) + row.clipped.astype(clipped.dtype))
        checks = put(checks, _count_nonfinite(take(checks), row.is_finite))
    if excluded:
        finite = jnp.stack([jnp.isfinite(norms).all() for norms in excluded]).all()
        checks = checks.at[-1].set(_count_nonfinite(checks[-1], finite))
    if collapse:
        latest, clipped, checks = latest[0], clipped[0], checks[0]
    return old._replace(
        steps=optax.safe_increment(old.steps),
        latest=latest,
        clipped_count=clipped,
        checks=checks,
    )


def stack_telemetry(parts: Mapping[str, Telemetry]) -> Telemetry:
    """Stack records that have no axis of blocks, given by label, to those of several blocks."""
    first = next(iter(parts.values()))
    latest, clipped, checks = (
        jnp.stack([getattr(part, name) for part in parts.values()])
        for name in ("latest", "clipped_count", "checks")
    )
    names = jnp.asarray(_encode_names(list(parts)))
    return Telemetry(
        first.steps, latest, clipped, checks, dict.fromkeys(map(block_key, parts)), names
    )


def _count_nonfinite(old: Array, finite: Array) -> Array:
    """Make the two numbers of `checks`: add a step that is not finite, and flag it."""
    bad = (~finite).astype(jnp.int32)
    return jnp.stack([old[..., 0] + bad, bad], axis=-1)


def _make_row(group: Group, decision: Decision) -> _Row:
    """Make the records of a group, those of units joined to one."""
    norms = group.norms
    finite = jnp.isfinite(norms)
    clipped = finite & (norms > decision.threshold)
    largest = jnp.finfo(norms.dtype).max
    # Infinity ("nothing clips") is recorded as the largest float: a state is finite at all times.
    threshold = jnp.minimum(decision.threshold, largest)
    if not group.unit:
        latest = jnp.stack([norms, threshold, decision.factor], axis=-1)
        # In the type of a share: it may stand beside the share of a block that has units.
        row = _Row(latest, clipped.astype(norms.dtype), finite, finite)
        return _Row(*(part[None] for part in row)) if group.rows is None else row
    latest = jnp.stack(
        [
            jnp.max(norms, where=finite, initial=0),
            jnp.min(threshold, where=finite, initial=largest),
            jnp.min(decision.factor, where=finite, initial=largest),
        ]
    )
    share = jnp.mean(clipped, dtype=norms.dtype) if norms.size else jnp.zeros((), norms.dtype)
    return _Row(latest[None], share[None], jnp.all(finite)[None], jnp.any(finite)[None])


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
