"""Replays a run's norms through clips: what each would have done."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from clipax._metrics import metrics
from clipax.diagnostics._advice._series import Series, Stretch, find_longest
from clipax.transforms import (
    clip_by_ema,
    clip_by_global_norm,
    clip_by_median,
    clip_by_percentile,
    clip_by_zscore,
    skip_spikes,
)

__all__ = ["Replay", "candidates", "replay"]

_EPS = 1e-6
"""Rounding of a factor that is 1."""


class Replay(NamedTuple):
    """What a clip would have done on the norms of a run.

    Attributes:
      name: The clip.
      share: Share of the finite steps that it clips or skips.
      smallest_factor: Smallest factor of a step that it does not skip.
      stop: The longest stretch of steps without an update, those that are not finite included; None
        without any.
      thresholds: The threshold in each step, infinite where nothing would be clipped.
    """

    name: str
    share: float
    smallest_factor: float
    stop: Stretch | None
    thresholds: np.ndarray


def candidates(threshold: float | None) -> dict[str, optax.GradientTransformation]:
    """Make the clips that people run, with their defaults; a constant where one is known."""
    constant = {}
    if threshold is not None:
        constant[f"clip_by_global_norm({threshold:g})"] = clip_by_global_norm(threshold)
    return constant | {
        "clip_by_percentile": clip_by_percentile(),
        "clip_by_zscore": clip_by_zscore(),
        "clip_by_ema": clip_by_ema(),
        "clip_by_median": clip_by_median(),
        "skip_spikes": skip_spikes(optax.identity()),
    }


def replay(series: Series, clips: Mapping[str, optax.GradientTransformation]) -> list[Replay]:
    """Replay the norms, in the order of their steps, as gradients of one entry."""
    bounded = np.minimum(series.norms, float(np.finfo(np.float32).max))
    norms = np.where(series.is_finite, bounded, np.nan).astype(np.float32)
    return [_replay(series, norms, name, clip) for name, clip in clips.items()]


def _replay(
    series: Series, norms: np.ndarray, name: str, clip: optax.GradientTransformation
) -> Replay:
    def step(state: optax.OptState, norm: jax.Array) -> tuple[optax.OptState, jax.Array]:
        update, state = clip.update(norm, state, jnp.ones(()))
        threshold = metrics(state).get("threshold", jnp.inf)  # a guard has none
        return state, jnp.stack([jnp.asarray(update), jnp.asarray(threshold)])

    _, out = jax.jit(lambda norms: jax.lax.scan(step, clip.init(jnp.ones(())), norms))(norms)
    updates, thresholds = np.asarray(out, np.float64).T
    useful = norms > 0
    factors = np.divide(updates, norms, out=np.ones_like(updates), where=useful)
    cut = useful & (factors < 1 - _EPS)
    taken = factors[useful & (factors > 0)]
    never = thresholds >= float(np.finfo(np.float32).max)
    finite = int(series.is_finite.sum())
    return Replay(
        name,
        share=int(cut.sum()) / finite if finite else 0.0,
        smallest_factor=float(min(taken, default=1.0)),
        stop=find_longest(~series.is_finite | (useful & (factors == 0))),
        thresholds=np.where(never, np.inf, thresholds),
    )
