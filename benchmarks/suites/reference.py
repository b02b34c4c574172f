"""What clipax is compared with where optax has no equivalent, as ordinary transformations.

Each measures the tree it is handed. The lean clip is without what clipax adds (guard against
overflow, telemetry, policy for non-finite gradients), to show what those cost.
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


def scale_by_adagrad_norm(b_init: float) -> optax.GradientTransformation:
    """Makes the ordinary AdaGrad-Norm, `g / b` with `b^2 <- b^2 + n^2`."""

    def update(updates: Any, b: Array, params: Any = None) -> tuple[Any, Array]:
        b = jnp.hypot(b, _norm(updates))
        return _times(updates, 1.0 / b), b

    return optax.GradientTransformation(lambda params: jnp.full((), b_init, jnp.float32), update)


def lean_clip(threshold: float) -> optax.GradientTransformation:
    """Makes the fastest clip there is: one read, one multiplication."""

    def update(updates: Any, params: Any) -> Any:
        parts = [_square_sum(leaf) for leaf in jax.tree.leaves(updates)]
        norm = jnp.sqrt(jnp.sum(jax.lax.optimization_barrier(jnp.stack(parts))))
        # Without the barrier a bf16 tree is converted once for both uses, and written out in f32.
        return _times(jax.lax.optimization_barrier(updates), jnp.minimum(1.0, threshold / norm))

    return optax.stateless(update)


def _norm(tree: Any) -> Array:
    return jnp.sqrt(sum(_square_sum(leaf) for leaf in jax.tree.leaves(tree)))


def _square_sum(leaf: Array) -> Array:
    return jnp.sum(jnp.square(leaf.astype(jnp.float32)))


def _times(tree: Any, factor: Array) -> Any:
    return jax.tree.map(lambda leaf: (leaf.astype(jnp.float32) * factor).astype(leaf.dtype), tree)
