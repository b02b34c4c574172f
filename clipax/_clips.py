"""Finds the clips, monitors and guards of any optimizer state, and names them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import jax.numpy as jnp

from clipax._states import Path, fields_of, find, unwrap
from clipax._typing import Array
from clipax.engine import Counts, Telemetry, stack_telemetry

__all__ = ["Guard", "Measuring", "find_all", "find_measuring", "name_paths"]


class Measuring(NamedTuple):
    """A transformation that measures norms, in a state.

    Attributes:
      kind: What it does with them; a guard is one as well, if it judges by norms (`skip_spikes`).
      telemetry: Its records.
      rows: Which rows are norms of the gradient; the others are of a momentum beside it.
      node: The fields of its state.
      path: Where it is in the state.
    """

    kind: Literal["clip", "monitor", "guard"]
    telemetry: Telemetry
    rows: slice
    node: Mapping[str, Any]
    path: Path = ()


class Losses(NamedTuple):
    """The losses that a guard judged, in a state.

    Attributes:
      threshold: That of the last finite loss.
      spikes: Numbers of steps with a spike of the loss, and with one of the gradient.
    """

    threshold: Array
    spikes: Array


class _Guard(NamedTuple):
    counts: Array
    watch: Measuring | None
    losses: Losses | None = None
    path: Path = ()


class Guard(Counts, _Guard):
    """A transformation that skips steps, in a state.

    Attributes:
      counts: Its counts of steps, read by the properties of this class.
      watch: The norms that it judged by, for `skip_spikes`.
      losses: The losses likewise, where it judges them.
      path: Where it is in the state.
    """

    __slots__ = ()

    def surrounds(self, other: Measuring) -> bool:
        """Tell whether steps that are skipped here do not reach the other."""
        longer = len(other.path) > len(self.path)
        return longer and other.path[: len(self.path)] == self.path


def find_all(opt_state: Any) -> list[Measuring | Guard]:
    """Find all of them in a state, in order."""
    found = find(opt_state, _match)
    return [
        item._replace(path=path, watch=item.watch and item.watch._replace(path=path))
        if isinstance(item, Guard)
        else item._replace(path=path)
        for path, item in found
    ]


def find_measuring(opt_state: Any) -> list[Measuring]:
    """Find what measures norms, guards that do so included, in order."""
    items = [item.watch if isinstance(item, Guard) else item for item in find_all(opt_state)]
    return [item for item in items if item is not None]


def name_paths(paths: Sequence[Path]) -> list[str]:
    """Name places in a state by the keys in which their paths differ.

    `optax.named_chain` and `optax.partition` have keys of the user's choosing; places that have
    none, as in `optax.chain`, are counted. A single place has the empty name.
    """
    if len(paths) < 2:
        return [""] * len(paths)
    shared = 0
    while all(len(path) > shared for path in paths) and len({path[shared] for path in paths}) == 1:
        shared += 1
    # One that stands around the others ends here, and has no key.
    heads = [path[shared] if len(path) > shared else "" for path in paths]
    names = {}
    for position, key in enumerate(dict.fromkeys(heads)):
        inside = [
            path[shared + 1 :] for path, head in zip(paths, heads, strict=True) if head == key
        ]
        here = str(position) if key.isdigit() else key
        below = name_paths(inside) if key else [""] * len(inside)
        names[key] = iter([f"{here}/{name}" if name else here for name in below])
    return [next(names[head]) for head in heads]


def _match(fields: Mapping[str, Any]) -> tuple[Measuring | Guard, Iterable[str]] | None:
    """Match states of `scale_by_norm`, of measured momentum, of monitors and of guards."""
    if "of_gradient" in fields and "of_momentum" in fields:
        averaged, gradient = (
            _read((fields_of(fields[name]) or {}).get("telemetry"))
            for name in ("of_momentum", "of_gradient")
        )
        if averaged is not None and gradient is not None:
            both = stack_telemetry({"averaged": averaged, "gradient": gradient})
            # Both rows count for thresholds and factors; `grad_norm` is the gradient's alone.
            return Measuring("clip", both, slice(1, None), fields), ()
    if (telemetry := _read(fields.get("telemetry"))) is not None:
        return Measuring("clip", telemetry, slice(None), fields), ()
    watch = fields_of(fields["watch"]) if "watch" in fields else None
    telemetry = None if watch is None else _read(watch.get("telemetry"))
    if "counts" in fields and "inner" in fields:
        return _read_guard(fields, telemetry, watch), ("inner",)
    if telemetry is not None and watch is not None:
        return Measuring("monitor", telemetry, slice(None), watch), ()
    return None


def _read_guard(
    fields: Mapping[str, Any], telemetry: Telemetry | None, watch: Mapping[str, Any] | None
) -> Guard:
    """Read a guard from its counts, and from what it measured."""
    judged = losses = None
    if telemetry is not None and watch is not None:
        judged = Measuring("guard", telemetry, slice(None), watch)
    found = fields_of(fields.get("loss")) or {}
    if all(name in found for name in Losses._fields):
        losses = Losses(*(jnp.asarray(unwrap(found[name])) for name in Losses._fields))
    return Guard(jnp.asarray(unwrap(fields["counts"])), judged, losses)


def _read(node: Any) -> Telemetry | None:
    """Read the telemetry of a state, also from the containers that a checkpoint restores."""
    fields = fields_of(unwrap(node))
    if fields is None or not all(name in fields for name in ("latest", "counts")):
        return None
    latest, counts = (jnp.asarray(unwrap(fields[name])) for name in ("latest", "counts"))
    names = fields.get("names")
    encoded = None if names is None else unwrap(names)
    return Telemetry(latest, counts, fields.get("labels"), encoded)
