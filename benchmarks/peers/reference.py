"""What clipax is compared with where optax has no equivalent.

Two kinds: methods written as ordinary, well-written transformations, each measuring the tree it is
handed; and a lean clip, without what clipax adds (guard against overflow, telemetry, policy for
non-finite gradients), to show what those cost.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import optax

Array = jax.Array


def clip_by_global_norm(threshold: float) -> optax.GradientTransformation:
    """Makes the ordinary clip."""
    return optax.stateless(
        lambda updates, params: _times(updates, jnp.minimum(1.0, threshold / _norm(updates)))
    )


def normalize_by_global_norm(eps: float) -> optax.GradientTransformation:
    """Makes the ordinary normalisation, `g / (n + eps)`."""
    return optax.stateless(lambda updates, params: _times(updates, 1.0 / (_norm(updates) + eps)))


def scale_by_adagrad_norm(b_init: float) -> optax.GradientTransformation:
    """Makes the ordinary AdaGrad-Norm, `g / b` with `b^2 <- b^2 + n^2`."""

    def update(updates: Any, b: Array, params: Any = None) -> tuple[Any, Array]:
        b = jnp.hypot(b, _norm(updates))
        return _times(updates, 1.0 / b), b

    return optax.GradientTransformation(lambda params: jnp.full((), b_init, jnp.float32), update)


def scale_by_adam_norm(b_init: float, b1: float, b2: float) -> optax.GradientTransformation:
    """Makes the ordinary Adam-Norm, `m / b` with `b^2 <- b2 b^2 + (1 - b2) n^2`."""

    def init(params: Any) -> Any:
        return jnp.full((), b_init, jnp.float32), jax.tree.map(jnp.zeros_like, params)

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        b, mu = state
        b = jnp.sqrt(b2 * jnp.square(b) + (1 - b2) * jnp.square(_norm(updates)))
        mu = optax.tree.update_moment(updates, mu, b1, 1)
        return _times(mu, 1.0 / b), (b, mu)

    return optax.GradientTransformation(init, update)


def delay_by_tuple(delay: int) -> optax.GradientTransformation:
    """Delays updates in a tuple that moves up, the oldest first."""

    def init(params: Any) -> tuple[Any, ...]:
        return tuple(jax.tree.map(jnp.zeros_like, params) for _ in range(delay))

    def update(updates: Any, waiting: Any, params: Any = None) -> tuple[Any, Any]:
        return waiting[0], (*waiting[1:], updates)

    return optax.GradientTransformation(init, update)


def lean_clip(threshold: float, *, guard: bool = False) -> optax.GradientTransformation:
    """Makes the fastest clip there is: one read, one multiplication.

    On request with a guard that measures again, scaled, where the sum of squares overflows.
    """

    def update(updates: Any, params: Any) -> Any:
        total = _stacked_squares(updates, 1.0)
        norm = jnp.sqrt(total)
        if guard:
            norm = jax.lax.cond(
                jnp.isinf(total),
                lambda: jnp.sqrt(_stacked_squares(updates, 2.0**-64)) * 2.0**64,
                lambda: norm,
            )
        # Without the barrier a bf16 tree is converted once for both uses, and written out in f32.
        return _times(jax.lax.optimization_barrier(updates), jnp.minimum(1.0, threshold / norm))

    return optax.stateless(update)


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
