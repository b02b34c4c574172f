"""Reads telemetry out of any optimizer state."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import jax.numpy as jnp
from jax import lax

from clipax import _validate
from clipax._clips import Guard, Measuring, find_all, name_paths
from clipax._typing import Array
from clipax.engine import Telemetry, decode_names, known_labels

__all__ = ["block_names", "clip_columns", "clips_at_all", "metrics"]

_OF_GUARDS = "nonfinite_count", "consecutive_nonfinite", "is_finite"
_OF_CLIPS = "threshold", "clip_factor", "clipped_norm", "clip_fraction", "recent_clip_fraction"


def metrics(opt_state: Any, top: int | None = 8) -> dict[str, Array]:
    """Find the norms that clipax measured in an optimizer state, and return them for logging.

    The logged norm is the one that was clipped: nothing is measured again. The host does not wait
    for the device: the values are arrays (or tracers, inside `jit`).

    Args:
      opt_state: State of an optimizer with a clipax transformation anywhere inside: behind
        `optax.chain`, `partition`, `MultiSteps`, `inject_hyperparams`, in an `nnx.Optimizer` or its
        state, a `TrainState`, or dictionaries restored from a checkpoint.
      top: For scopes other than `"global"`, how many blocks of largest norm to list; 0 lists none,
        so that all values are scalars; None lists every block under its name.

    Returns:
      A flat dictionary of finite arrays, scalars except for `top_*`.

      - `grad_norm` of the last finite step, before the clip, its `threshold` (the largest float
        where nothing clips) and `clip_factor`, and `clipped_norm`, their product.
      - `clip_fraction`: clipped steps over finite steps, those in which a block had no gradient
        included; `recent_clip_fraction`: the same of about the last 100 steps.
      - `is_finite` of the last step, `nonfinite_count`, and `consecutive_nonfinite`, those in a row
        up to now. If that only rises, the NaN is in a state, such as the sum of
        `optax.MultiSteps`: put `skip_nonfinite` around it.
      - For several blocks these are the largest norms, the smallest threshold and factor, the mean
        fractions, the sum of counts and whether all were finite. `top_grad_norm`, `top_clip_factor`
        and `top_block`, an index of `block_names(opt_state)`, are arrays over the `top` blocks.
        With `top=None` there are keys such as `grad_norm/encoder/kernel` instead.
      - Several clips in one state have prefixes: their names in `optax.named_chain` or `partition`,
        else their position, `0/grad_norm`. `monitor_norms` beside a clip has `monitor/`.
      - Guards add `skipped_count` and `consecutive_skips`. Their non-finite steps count in the
        clips inside, which do not see them. `skip_spikes` beside a clip gives what it judged by
        under `skip_spikes/`. Where it judges the loss, too, `loss_threshold`, and of `spike_count`
        what the loss is the reason for and what the gradient is: `loss_spike_count` and
        `norm_spike_count`.

    Raises:
      ValueError: There is no telemetry in the state, or `top` is negative. An optimizer without
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
      clipped_norm 1.0
      clip_fraction 1.0
      recent_clip_fraction 1.0
      nonfinite_count 0
      consecutive_nonfinite 0
      is_finite True
    """
    if top is not None:
        top = _validate.index("top", top)
    found = find_all(opt_state)
    if not found:
        raise ValueError(
            "`opt_state` must hold the state of a clipax transformation that measures norms, "
            f"found none in a {type(opt_state).__name__}. Make the optimizer of "
            "`optax.chain(clipax.monitor_norms(), optimizer)` to have norms without a clip, and "
            "give the state that its `init` and `update` return."
        )
    guards = [item for item in found if isinstance(item, Guard)]
    result: dict[str, Array] = {}
    for prefix, item in _name(found):
        around = [guard for guard in guards if guard.surrounds(item) or guard.watch is item]
        result |= {prefix + key: value for key, value in _summarize(item, top, around).items()}
    for name, guard in zip(name_paths([guard.path for guard in guards]), guards, strict=True):
        counts = {
            "skipped_count": guard.skipped_count,
            "consecutive_skips": guard.consecutive_count,
        }
        if guard.watch is not None:
            counts["spike_count"] = guard.spike_count
        if guard.losses is not None:
            threshold, spikes = guard.losses
            counts |= {"loss_threshold": threshold, "loss_spike_count": spikes[..., 0]}
            counts["norm_spike_count"] = spikes[..., 1]
        if not any(isinstance(item, Measuring) or item.watch for item in found):
            counts |= {"nonfinite_count": guard.nonfinite_count, "is_finite": guard.is_finite}
        result |= {f"{name}/{key}" if name else key: value for key, value in counts.items()}
    return result


def block_names(opt_state: Any, position: int | str = 0) -> tuple[str, ...]:
    """Return the names of the blocks, in the order in which `top_block` of `metrics` counts them.

    Args:
      opt_state: As for `metrics`.
      position: Which clip, where the state holds several: its position, or its prefix in `metrics`.

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
    named = _name(find_all(opt_state))
    if not named:
        raise ValueError(
            "`opt_state` must hold the state of a clipax transformation that measures norms, "
            f"found none in a {type(opt_state).__name__}."
        )
    places: list[Any] = [prefix.removesuffix("/") for prefix, _ in named]
    if isinstance(position, str) and position in places:
        position = places.index(position)
    if not isinstance(position, int) or not 0 <= position < len(named):
        raise ValueError(
            f"`position` must be 0 to {len(named) - 1} or one of {places}, got {position!r}."
        )
    telemetry = named[position][1].telemetry
    return ("global",) if telemetry.names is None else _read_names(telemetry)


def clip_columns(telemetry: Telemetry) -> dict[str, Array]:
    """Compute the reported numbers of each block; the row of excluded leaves is left out."""
    threshold = telemetry.threshold
    counts = telemetry.nonfinite_count, telemetry.consecutive_nonfinite
    steps = telemetry.steps
    if telemetry.names is not None:
        blocks = telemetry.latest.shape[-2]
        steps = steps[..., None]
        counts = counts[0][..., :blocks], counts[1][..., :blocks]
    nonfinite, in_a_row = counts
    finite_steps = jnp.maximum(steps - nonfinite, 1).astype(threshold.dtype)
    return {
        "grad_norm": telemetry.grad_norm,
        "threshold": threshold,
        "clip_factor": telemetry.clip_factor,
        "clipped_norm": telemetry.clipped_norm,
        "clip_fraction": telemetry.clipped_count.astype(threshold.dtype) / finite_steps,
        "recent_clip_fraction": telemetry.recent_clip_fraction,
        "nonfinite_count": nonfinite,
        "consecutive_nonfinite": in_a_row,
        "is_finite": in_a_row == 0,
    }


def clips_at_all(columns: Mapping[str, Array]) -> Array:
    """Tell which blocks ever had a threshold; the others say nothing about clipping."""
    threshold = columns["threshold"]
    return (threshold < jnp.finfo(threshold.dtype).max) | (columns["clip_fraction"] > 0)


def _name(found: Sequence[Measuring | Guard]) -> list[tuple[str, Measuring]]:
    """Pair what measures with its prefix in `metrics`, the clips first."""
    items = [item.watch if isinstance(item, Guard) else item for item in found]
    named: list[tuple[str, Measuring]] = []
    for kind, prefix in (("clip", ""), ("monitor", "monitor/"), ("guard", "skip_spikes/")):
        alike = [item for item in items if item is not None and item.kind == kind]
        prefix = prefix if named else ""
        names = name_paths([item.path for item in alike])
        named += [
            (f"{prefix}{name}/" if name else prefix, item)
            for name, item in zip(names, alike, strict=True)
        ]
    return named


def _summarize(item: Measuring, top: int | None, guards: Sequence[Guard]) -> dict[str, Array]:
    """Summarise the blocks of one transformation, as `metrics` returns them."""
    telemetry = item.telemetry
    columns = clip_columns(telemetry)
    left_out = {"clip": (), "monitor": _OF_CLIPS, "guard": _OF_CLIPS[1:]}[item.kind]
    if telemetry.names is None:
        summary = dict(columns)
    else:
        if telemetry.latest.ndim != 2:
            raise ValueError(
                "`opt_state` must be the state of one run, this one is vectorised: call "
                "`jax.vmap(clipax.metrics)(opt_state)`."
            )
        summary = _join_blocks(item, columns)
    for guard in guards:
        if guard.watch is item:  # it may also have judged the result
            summary |= {name: getattr(guard, name) for name in _OF_GUARDS}
    for guard in guards:
        if guard.watch is not item:
            # Steps that a guard skips do not reach the clips inside, nor their blocks.
            for numbers in (summary, columns):
                numbers["nonfinite_count"] += guard.nonfinite_count
                numbers["consecutive_nonfinite"] += guard.consecutive_nonfinite
                numbers["is_finite"] &= guard.is_finite
    if telemetry.names is not None and "grad_norm" in summary:
        summary |= _list_blocks(telemetry, columns, top)
    return {
        key: value
        for key, value in summary.items()
        if key.partition("/")[0].removeprefix("top_") not in left_out
    }


def _join_blocks(item: Measuring, columns: Mapping[str, Array]) -> dict[str, Array]:
    """Join the numbers of all blocks to one of a kind."""
    telemetry = item.telemetry
    guard = {
        "nonfinite_count": jnp.sum(telemetry.nonfinite_count),
        "consecutive_nonfinite": jnp.max(telemetry.consecutive_nonfinite),
        "is_finite": jnp.all(telemetry.is_finite),
    }
    if not len(telemetry.latest):
        # Every leaf is excluded, or there is none: only non-finite steps are there to report.
        return guard
    clips = clips_at_all(columns)
    clips |= ~jnp.any(clips)  # all of them, where none ever had a threshold
    return {
        "grad_norm": jnp.max(columns["grad_norm"][item.rows]),
        "threshold": jnp.min(columns["threshold"]),
        "clip_factor": jnp.min(columns["clip_factor"], where=clips, initial=jnp.inf),
        "clipped_norm": jnp.max(columns["clipped_norm"][item.rows]),
        "clip_fraction": jnp.mean(columns["clip_fraction"], where=clips),
        "recent_clip_fraction": jnp.mean(columns["recent_clip_fraction"], where=clips),
        **guard,
    }


def _list_blocks(
    telemetry: Telemetry, columns: Mapping[str, Array], top: int | None
) -> dict[str, Array]:
    """List the numbers of single blocks: of all by name, or of those with the largest norms."""
    if top is None:
        return {
            f"{key}/{name}": column[row]
            for row, name in enumerate(_read_names(telemetry))
            for key, column in columns.items()
        }
    if top == 0:
        return {}
    largest, place = lax.top_k(columns["grad_norm"], min(top, len(telemetry.latest)))
    return {
        "top_grad_norm": largest,
        "top_clip_factor": columns["clip_factor"][place],
        "top_block": place,
    }


def _read_names(telemetry: Telemetry) -> tuple[str, ...]:
    """Read the names of the blocks: from the keys, inside `jit` too, or from the encoded array."""
    labels = known_labels(telemetry)
    return tuple(labels) if labels else decode_names(telemetry.names)
