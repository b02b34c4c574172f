"""What clipax is compared with where optax has no equivalent.

Two kinds: methods written as ordinary, well-written transformations, each measuring the tree it is
handed; and a lean clip, without what clipax adds (guard against overflow, telemetry, policy for
non-finite gradients), to show what those cost.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

__all__ = [
    "clip_by_global_norm",
    "delay_by_tuple",
    "lean_clip",
    "normalize_by_global_norm",
    "scale_by_adagrad_norm",
    "scale_by_adam_norm",
]

Array = jax.Array


class NormState(NamedTuple):
    """State of a transformation that divides by an accumulated norm."""

    b: Array


class MomentumNormState(NamedTuple):
    """State of a transformation with momentum, divided by an accumulated norm."""

    b: Array
    mu: Any


class DelayState(NamedTuple):
    """Updates that wait, the oldest first."""

    waiting: tuple[Any, ...]


class LeanState(NamedTuple):
    """Telemetry of the lean clip."""

    step: Array
    grad_norm: Array
    clip_factor: Array
    clipped_count: Array


def clip_by_global_norm(threshold: float) -> optax.GradientTransformation:
    """The ordinary clip."""

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        del params
        norm = _norm(updates)
        return _times(updates, jnp.minimum(1.0, threshold / norm)), state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)


def normalize_by_global_norm(eps: float) -> optax.GradientTransformation:
    """The ordinary normalisation, `g / (n + eps)`."""

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        del params
        return _times(updates, 1.0 / (_norm(updates) + eps)), state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)


def scale_by_adagrad_norm(b_init: float) -> optax.GradientTransformation:
    """The ordinary AdaGrad-Norm, `g / b` with `b^2 <- b^2 + n^2`."""

    def init(params: Any) -> NormState:
        del params
        return NormState(jnp.full((), b_init, jnp.float32))

    def update(updates: Any, state: NormState, params: Any = None) -> tuple[Any, NormState]:
        del params
        b = jnp.hypot(state.b, _norm(updates))
        return _times(updates, 1.0 / b), NormState(b)

    return optax.GradientTransformation(init, update)


def scale_by_adam_norm(b_init: float, b1: float, b2: float) -> optax.GradientTransformation:
    """The ordinary Adam-Norm, `m / b` with `b^2 <- b2 b^2 + (1 - b2) n^2`."""

    def init(params: Any) -> MomentumNormState:
        return MomentumNormState(
            jnp.full((), b_init, jnp.float32), jax.tree.map(jnp.zeros_like, params)
        )

    def update(
        updates: Any, state: MomentumNormState, params: Any = None
    ) -> tuple[Any, MomentumNormState]:
        del params
        norm = _norm(updates)
        b = jnp.sqrt(b2 * jnp.square(state.b) + (1 - b2) * jnp.square(norm))
        mu = optax.tree.update_moment(updates, state.mu, b1, 1)
        return _times(mu, 1.0 / b), MomentumNormState(b, mu)

    return optax.GradientTransformation(init, update)


def delay_by_tuple(delay: int) -> optax.GradientTransformation:
    """Updates `delay` steps late, in a tuple that moves up."""

    def init(params: Any) -> DelayState:
        return DelayState(tuple(jax.tree.map(jnp.zeros_like, params) for _ in range(delay)))

    def update(updates: Any, state: DelayState, params: Any = None) -> tuple[Any, DelayState]:
        del params
        return state.waiting[0], DelayState((*state.waiting[1:], updates))

    return optax.GradientTransformation(init, update)


def lean_clip(
    threshold: float, *, guard: bool = False, telemetry: bool = False
) -> optax.GradientTransformation:
    """The fastest clip there is: one read, one multiplication, nothing else unless asked for.

    Args:
      threshold: The largest norm that passes.
      guard: Measure again, scaled, where the sum of squares overflows.
      telemetry: Record norm, factor and counts.

    Returns:
      The transformation.
    """

    def init(params: Any) -> Any:
        del params
        if not telemetry:
            return optax.EmptyState()
        return LeanState(
            jnp.zeros((), jnp.int32),
            jnp.zeros((), jnp.float32),
            jnp.ones((), jnp.float32),
            jnp.zeros((), jnp.int32),
        )

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        del params
        total = _stacked_squares(updates, 1.0)
        norm = jnp.sqrt(total)
        if guard:
            norm = jax.lax.cond(
                jnp.isinf(total),
                lambda: jnp.sqrt(_stacked_squares(updates, 2.0**-64)) * 2.0**64,
                lambda: norm,
            )
        factor = jnp.minimum(1.0, threshold / norm)
        if telemetry:
            clipped = state.clipped_count + (norm > threshold)
            state = LeanState(state.step + 1, norm, factor, clipped)
        # Without the barrier a bf16 tree is converted once for both uses, and written out in f32.
        return _times(jax.lax.optimization_barrier(updates), factor), state

    return optax.GradientTransformation(init, update)


def _norm(tree: Any) -> Array:
    return jnp.sqrt(sum(_square_sum(leaf, 1.0) for leaf in jax.tree.leaves(tree)))


def _stacked_squares(tree: Any, scale: float) -> Array:
    parts = [_square_sum(leaf, scale) for leaf in jax.tree.leaves(tree)]
    return jnp.sum(jax.lax.optimization_barrier(jnp.stack(parts))) if len(parts) > 1 else parts[0]


def _square_sum(leaf: Array, scale: float) -> Array:
    wide = leaf.astype(jnp.float32)
    if scale != 1.0:
        # Behind a barrier, or XLA would square the scale by itself.
        wide = wide * jax.lax.optimization_barrier(jnp.float32(scale))
    return jnp.sum(jnp.square(wide))


def _times(tree: Any, factor: Array) -> Any:
    return jax.tree.map(lambda leaf: (leaf.astype(jnp.float32) * factor).astype(leaf.dtype), tree)
