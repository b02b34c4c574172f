"""Reads telemetry out of any optimizer state."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import lax

from clipax import _validate
from clipax._states import fields_of, find, unwrap
from clipax._typing import Array
from clipax.engine import Telemetry, decode_names, known_labels, stack_telemetry

__all__ = ["Clip", "block_names", "clip_columns", "clips_at_all", "find_clips", "metrics"]


class Clip(NamedTuple):
    """A transformation that measures, in a state.

    Attributes:
      telemetry: Its records.
      rows: Which rows are norms of the gradient; the others are of a momentum beside it.
      node: The fields of its state.
    """

    telemetry: Telemetry
    rows: slice
    node: Mapping[str, Any]


class _Guard(NamedTuple):
    """A transformation that skips steps, in a state."""

    skipped_count: Array


def metrics(opt_state: Any, top: int | None = 8) -> dict[str, Array]:
    """Find the norms that clipax measured in an optimizer state, and return them for logging.

    The logged norm is the one that was clipped: nothing is measured again. The host does not wait
    for the device: the values are arrays (or tracers, inside `jit`).

    Args:
      opt_state: State of an optimizer with a clipax transformation anywhere inside: behind
        `optax.chain`, `partition`, `MultiSteps`, `inject_hyperparams`, in an `nnx.Optimizer` or its
        state, a `TrainState`, or dictionaries restored from a checkpoint.
      top: For scopes other than `"global"`, how many blocks of largest norm to list; None lists
        every block under its name.

    Returns:
      A flat dictionary of arrays, scalars except for `top_*`.

      - `grad_norm` and `threshold` of the last finite step (the threshold is infinite where nothing
        clips), and its `clip_factor`.
      - `clip_fraction`: clipped steps over finite steps, those in which a block had no gradient
        included.
      - `nonfinite_count`, and `is_finite` of the last step.
      - For several blocks these are the largest norm, the smallest threshold and factor, the mean
        fraction, the sum of counts and whether all were finite. `top_grad_norm`, `top_clip_factor`
        and `top_block`, an index of `block_names(opt_state)`, are arrays over the `top` blocks.
        With `top=None` there are keys such as `grad_norm/encoder/kernel` instead.
      - Several clips in one state are prefixed by their position: `0/grad_norm`, `1/grad_norm`.
      - `skip_nonfinite` and `skip_spikes` add `skipped_count`.

    Raises:
      ValueError: There is no telemetry in the state, or `top` is less than 1. An optimizer without
        clipax keeps no norms: `optax.chain(clipax.monitor_norms(), optimizer)` measures them and
        changes nothing.

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
    matches = list(find(opt_state, _match))
    if not matches:
        raise ValueError(
            "`opt_state` must hold the state of a clipax transformation that measures norms, "
            f"found none in a {type(opt_state).__name__}. Make the optimizer of "
            "`optax.chain(clipax.monitor_norms(), optimizer)` to have norms without a clip, and "
            "give the state that its `init` and `update` return."
        )
    clips = [match for match in matches if isinstance(match, Clip)]
    result: dict[str, Array] = {}
    for position, clip in enumerate(clips):
        prefix = f"{position}/" if len(clips) > 1 else ""
        result |= {prefix + name: value for name, value in _summarize(clip, top).items()}
    counts = [match.skipped_count for match in matches if isinstance(match, _Guard)]
    for position, skipped in enumerate(counts):
        result[f"{position}/skipped_count" if len(counts) > 1 else "skipped_count"] = skipped
    return result


def block_names(opt_state: Any, position: int = 0) -> tuple[str, ...]:
    """Return the names of the blocks, in the order in which `top_block` of `metrics` counts them.

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
    clips = find_clips(opt_state)
    if not 0 <= position < len(clips):
        raise ValueError(
            f"`position` must count one of the {len(clips)} clips in `opt_state`, got {position}."
        )
    telemetry = clips[position].telemetry
    return ("global",) if telemetry.names is None else _read_names(telemetry)


def find_clips(opt_state: Any) -> list[Clip]:
    """Find the transformations in a state that measure, in order."""
    return [match for match in find(opt_state, _match) if isinstance(match, Clip)]


def clip_columns(telemetry: Telemetry) -> dict[str, Array]:
    """Compute the reported numbers of each block; the row of excluded leaves is left out."""
    threshold = telemetry.threshold
    nonfinite, is_finite = telemetry.nonfinite_count, telemetry.is_finite
    steps = telemetry.steps
    if telemetry.names is not None:
        blocks = telemetry.latest.shape[-2]
        steps = steps[..., None]
        nonfinite, is_finite = nonfinite[..., :blocks], is_finite[..., :blocks]
    never = threshold >= jnp.finfo(threshold.dtype).max
    finite_steps = jnp.maximum(steps - nonfinite, 1).astype(threshold.dtype)
    return {
        "grad_norm": telemetry.grad_norm,
        "threshold": jnp.where(never, jnp.inf, threshold),
        "clip_factor": telemetry.clip_factor,
        "clip_fraction": telemetry.clipped_count.astype(threshold.dtype) / finite_steps,
        "nonfinite_count": nonfinite,
        "is_finite": is_finite,
    }


def clips_at_all(columns: Mapping[str, Array]) -> Array:
    """Tell which blocks ever had a threshold; the others say nothing about clipping."""
    return jnp.isfinite(columns["threshold"]) | (columns["clip_fraction"] > 0)


def _match(fields: Mapping[str, Any]) -> tuple[Clip | _Guard, Iterable[Any]] | None:
    """Match the states of `scale_by_norm`, of measured momentum, and of wrappers that skip."""
    if "of_gradient" in fields and "of_momentum" in fields:
        averaged, gradient = (
            _read((fields_of(fields[name]) or {}).get("telemetry"))
            for name in ("of_momentum", "of_gradient")
        )
        if averaged is not None and gradient is not None:
            both = stack_telemetry({"averaged": averaged, "gradient": gradient})
            # Both rows count for thresholds and factors; `grad_norm` is the gradient's alone.
            return Clip(both, slice(1, None), fields), ()
    if (telemetry := _read(fields.get("telemetry"))) is not None:
        return Clip(telemetry, slice(None), fields), ()
    if "skipped_count" in fields and "inner" in fields:
        return _Guard(unwrap(fields["skipped_count"])), (fields["inner"],)
    return None


def _read(node: Any) -> Telemetry | None:
    """Read the telemetry of a state, also from the containers that a checkpoint restores."""
    fields = fields_of(unwrap(node))
    if fields is None or not all(name in fields for name in ("latest", "counts")):
        return None
    latest, counts = (jnp.asarray(unwrap(fields[name])) for name in ("latest", "counts"))
    names = fields.get("names")
    encoded = None if names is None else unwrap(names)
    return Telemetry(latest, counts, fields.get("labels"), encoded)


def _summarize(clip: Clip, top: int | None) -> dict[str, Array]:
    """Summarise the blocks of one clip, as `metrics` returns them."""
    telemetry = clip.telemetry
    columns = clip_columns(telemetry)
    if telemetry.names is None:
        return columns
    if telemetry.latest.ndim != 2:
        raise ValueError(
            "`opt_state` must be the state of one run, this one is vectorised: call "
            "`jax.vmap(clipax.metrics)(opt_state)`."
        )
    blocks = len(telemetry.latest)
    guard = {
        "nonfinite_count": jnp.sum(telemetry.nonfinite_count),
        "is_finite": jnp.all(telemetry.is_finite),
    }
    if not blocks:
        # Every leaf is excluded, or there is none: only the guard has something to report.
        return guard
    clips = clips_at_all(columns)
    clips |= ~jnp.any(clips)  # all of them, where none ever had a threshold
    summary = {
        "grad_norm": jnp.max(columns["grad_norm"][clip.rows]),
        "threshold": jnp.min(columns["threshold"]),
        "clip_factor": jnp.min(columns["clip_factor"], where=clips, initial=jnp.inf),
        "clip_fraction": jnp.mean(columns["clip_fraction"], where=clips),
        **guard,
    }
    if top is None:
        return summary | {
            f"{key}/{name}": column[row]
            for row, name in enumerate(_read_names(telemetry))
            for key, column in columns.items()
        }
    largest, place = lax.top_k(columns["grad_norm"], min(top, blocks))
    return summary | {
        "top_grad_norm": largest,
        "top_clip_factor": columns["clip_factor"][place],
        "top_block": place,
    }


def _read_names(telemetry: Telemetry) -> tuple[str, ...]:
    """Read the names of the blocks: from the keys, inside `jit` too, or from the encoded array."""
    labels = known_labels(telemetry)
    return tuple(labels) if labels else decode_names(telemetry.names)
