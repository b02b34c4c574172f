"""Reads telemetry out of any optimizer state."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import jax.numpy as jnp
from jax import lax

from clipax import _validate
from clipax._typing import Array
from clipax.engine._names import FIELDS, decode_names

__all__ = ["block_names", "metrics"]

_GUARD = ("skipped_count", "inner_state")


def metrics(opt_state: Any, top: int | None = 8) -> dict[str, Array]:
    """Finds what clipax measured in an optimizer state and returns it for logging.

    What is logged is what clipped: nothing is measured again. Nothing waits for the device either,
    the values are arrays (or tracers, inside `jit`).

    Args:
      opt_state: State of an optimizer with a clipax transformation anywhere inside: behind
        `optax.chain`, `partition`, `MultiSteps`, `inject_hyperparams`, in an `nnx.Optimizer` or its
        state, a `TrainState`, or dictionaries restored from a checkpoint.
      top: For scopes other than `"global"`, how many blocks of largest norm to single out; None
        lists every block under its name.

    Returns:
      A flat dictionary of arrays, scalars except for `top_*`: `grad_norm` and `threshold` of the
      last finite step (the threshold is infinite where nothing clips), its `clip_factor`,
      `clip_fraction` (clipped steps over finite steps, those in which a block had no gradient
      included), `nonfinite_count`, `is_finite` (the last step). For scopes with several
      blocks these are the largest norm, the smallest threshold and factor, the mean fraction, the
      sum of counts and whether all were finite; and `top_grad_norm`, `top_clip_factor` and
      `top_block` are arrays over the `top` blocks of largest norm, where `top_block` indexes
      `block_names(opt_state)`. With `top=None`, keys such as `grad_norm/encoder/kernel` instead.
      Several clips in one state are prefixed by their position: `0/grad_norm`, `1/grad_norm`.
      `skip_nonfinite` and `skip_spikes` add `skipped_count`.

    Raises:
      ValueError: There is no telemetry in the state, or `top` is less than 1. An optimizer without
        clipax keeps no norms that could be read: `optax.chain(clipax.monitor_norms(), optimizer)`
        measures them and changes nothing.

    Example:
      >>> import jax.numpy as jnp, optax, clipax
      >>> optimizer = optax.chain(clipax.clip_by_global_norm(1.0), optax.adam(1e-3))
      >>> grads = {"w": jnp.array([3.0, 4.0])}
      >>> _, state = optimizer.update(grads, optimizer.init(grads), grads)
      >>> for name, value in clipax.metrics(state).items():
      ...     print(name, value)
      grad_norm 5.0
      threshold 1.0
      clip_factor 0.2
      clip_fraction 1.0
      nonfinite_count 0
      is_finite True
    """
    if top is not None:
        top = _validate.index("top", top, minimum=1)
    found = list(_search(opt_state))
    if not found:
        raise ValueError(
            "`opt_state` must hold the state of a clipax transformation that measures norms, "
            f"found none in a {type(opt_state).__name__}. Make the optimizer of "
            "`optax.chain(clipax.monitor_norms(), optimizer)` to have norms without a clip, and "
            "give the state that its `init` and `update` return."
        )
    clips = [fields for fields in found if "grad_norm" in fields]
    result: dict[str, Array] = {}
    for position, fields in enumerate(clips):
        prefix = f"{position}/" if len(clips) > 1 else ""
        result |= {prefix + name: value for name, value in _summary(fields, top).items()}
    guards = [_unwrap(fields["skipped_count"]) for fields in found if "skipped_count" in fields]
    for position, skipped in enumerate(guards):
        result[f"{position}/skipped_count" if len(guards) > 1 else "skipped_count"] = skipped
    return result


def block_names(opt_state: Any, position: int = 0) -> tuple[str, ...]:
    """Names of the blocks that `top_block` of `metrics` counts.

    Args:
      opt_state: As for `metrics`.
      position: Which clip, where the state holds several.

    Returns:
      The labels of the scope: paths such as `"encoder/kernel"`, or `("global",)`.

    Raises:
      ValueError: There is no such clip in the state.

    Example:
      >>> import jax.numpy as jnp, clipax
      >>> clip = clipax.clip_by_leaf_norm(1.0)
      >>> grads = {"a": {"kernel": jnp.ones(2)}, "b": {"kernel": jnp.ones(9)}}
      >>> _, state = clip.update(grads, clip.init(grads))
      >>> largest = clipax.metrics(state, top=1)["top_block"][0]
      >>> clipax.block_names(state)[largest]
      'b/kernel'
    """
    clips = [fields for fields in _search(opt_state) if "grad_norm" in fields]
    if not 0 <= position < len(clips):
        raise ValueError(
            f"`position` must count one of the {len(clips)} clips in `opt_state`, got {position}."
        )
    fields = clips[position]
    return ("global",) if fields.get("names") is None else _names(fields)


def _summary(fields: Mapping[str, Any], top: int | None) -> dict[str, Array]:
    values = {field: jnp.asarray(_unwrap(fields[field])) for field in ("count", *FIELDS)}
    if fields.get("names") is None:
        return _columns(values)
    if values["grad_norm"].ndim != 1:
        raise ValueError(
            "`opt_state` must be the state of one run, this one is vectorised: call "
            "`jax.vmap(clipax.metrics)(opt_state)`."
        )
    blocks = values["grad_norm"].size
    guards = {
        "nonfinite_count": jnp.sum(values["nonfinite_count"]),
        "is_finite": jnp.all(values["is_finite"]),
    }
    if not blocks:
        # Every leaf is excluded, or there is none: what is left to report is the guard.
        return guards
    # The row of excluded leaves, behind the blocks, has counts only.
    columns = _columns(
        values | {name: values[name][:blocks] for name in ("nonfinite_count", "is_finite")}
    )
    # Of momentum that is measured beside the gradient, only the gradient's norm goes by that name.
    labels = fields.get("labels")
    beside = isinstance(labels, Mapping) and sorted(labels) == ["averaged", "gradient"]
    gradient = slice(1, None) if beside else slice(None)
    # A block that never had a threshold says nothing about clipping, unless there is no other.
    clips = jnp.isfinite(columns["threshold"]) | (columns["clip_fraction"] > 0)
    clips |= ~jnp.any(clips)
    summary = {
        "grad_norm": jnp.max(columns["grad_norm"][gradient]),
        "threshold": jnp.min(columns["threshold"]),
        "clip_factor": jnp.min(columns["clip_factor"], where=clips, initial=jnp.inf),
        "clip_fraction": jnp.mean(columns["clip_fraction"], where=clips),
        **guards,
    }
    if top is None:
        return summary | {
            f"{key}/{name}": column[row]
            for row, name in enumerate(_names(fields))
            for key, column in columns.items()
        }
    largest, place = lax.top_k(columns["grad_norm"], min(top, blocks))
    return summary | {
        "top_grad_norm": largest,
        "top_clip_factor": columns["clip_factor"][place],
        "top_block": place,
    }


def _columns(values: Mapping[str, Array]) -> dict[str, Array]:
    """What is reported of each block."""
    threshold = values["threshold"]
    never = threshold >= jnp.finfo(threshold.dtype).max
    finite_steps = jnp.maximum(values["count"] - values["nonfinite_count"], 1)
    share = values["clipped_count"].astype(threshold.dtype) / finite_steps.astype(threshold.dtype)
    return {
        "grad_norm": values["grad_norm"],
        "threshold": jnp.where(never, jnp.inf, threshold),
        "clip_factor": values["clip_factor"],
        "clip_fraction": share,
        "nonfinite_count": values["nonfinite_count"],
        "is_finite": values["is_finite"],
    }


def _names(fields: Mapping[str, Any]) -> tuple[str, ...]:
    labels = fields.get("labels")
    if isinstance(labels, Mapping) and len(labels) == _unwrap(fields["grad_norm"]).size:
        return tuple(sorted(labels))  # the keys are known inside `jit` too
    return decode_names(_unwrap(fields["names"]))


def _search(node: Any) -> Iterator[Mapping[str, Any]]:
    """The states of `scale_by_norm` and `skip_nonfinite` inside a nesting, in order."""
    node = _unwrap(node)
    fields = _fields(node)
    if fields is not None:
        if all(name in fields for name in FIELDS):
            yield fields
            return
        if all(name in fields for name in _GUARD):
            yield fields
        children = list(fields.values())
    elif isinstance(node, list | tuple):
        children = list(node)
    else:
        # `nnx.Optimizer` is neither a mapping nor a dataclass.
        children = [node.opt_state] if hasattr(node, "opt_state") else []
    for child in children:
        yield from _search(child)


def _fields(node: Any) -> Mapping[str, Any] | None:
    if isinstance(node, Mapping):
        return node
    if isinstance(node, tuple) and hasattr(node, "_asdict"):
        return node._asdict()
    if dataclasses.is_dataclass(node) and not isinstance(node, type):
        return {field.name: getattr(node, field.name) for field in dataclasses.fields(node)}
    return None


def _unwrap(node: Any) -> Any:
    """The array inside a variable of Flax NNX; anything else as it is."""
    read = getattr(node, "get_value", None)
    return read() if callable(read) else node
