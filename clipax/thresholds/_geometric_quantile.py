"""A threshold that moves to a quantile of the norms by factors.

G. Andrew, O. Thakkar, H. B. McMahan, S. Ramaswamy, "Differentially Private Learning with Adaptive
Clipping", NeurIPS 2021, arXiv 1905.03871.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from clipax import _validate
from clipax._export import exportable
from clipax._typing import Array, Scalar, ScalarOrSchedule
from clipax.thresholds._base import Context, Threshold, is_seen, keep_rows
from clipax.thresholds._quantile import evaluate_quantile

__all__ = ["GeometricQuantileState", "geometric_quantile"]

# The range of the threshold, far from both ends of float32, so that it can always move back.
_LEAST, _MOST = 1e-30, 1e30
# Fixed, so that a checkpoint fits whatever generator is the process's default.
_GENERATOR = "threefry2x32"


@exportable
class GeometricQuantileState(NamedTuple):
    """State of `geometric_quantile`.

    Attributes:
      threshold: The threshold of the next step.
      noise_key: Data of the key of the next step's noise, one row a block; None without noise.
    """

    threshold: Array
    noise_key: Array | None


def geometric_quantile(
    quantile: ScalarOrSchedule = 0.5,
    *,
    initial: Scalar = 0.1,
    learning_rate: Scalar = 0.2,
    noise: Scalar | None = None,
    seed: int = 0,
) -> Threshold:
    """Make a threshold that moves to a quantile of the norms by factors.

    One number of memory; of a step only the share of clipped norms enters, cheap to keep private.
    Prefer it to `quantile` for gradients of single examples, or where a window is too much memory.

        C_{t+1} = C_t exp(-eta_C (b_t - q_t)),
        b_t = 1/m (sum_{i=1}^m 1[n_i <= C_t] + N(0, s_b^2))

    with `n_i` the `example_norms`, a vector (else ValueError) that `update` takes, but for
    those that are negative (padding), zero or not finite; without any, the block's norm, m = 1.

    Args:
      quantile: Share `q` to pass, in (0, 1), default .5, or a schedule (`quantile_schedule`).
      initial: The first threshold `C_0`, in [1e-30, 1e30]; default .1.
      learning_rate: `eta_C`, log of the largest factor of a step; positive, default .2.
      noise: Deviation `s_b` of the Gaussian noise on the count within, for differential privacy;
        non-negative. The paper takes m/20. None (default): no noise.
      seed: Seed of the (not cryptographic) noise, an integer; blocks of different labels share it.

    Returns:
      A `Threshold` with a `GeometricQuantileState`; a step's does not depend on its norms.

    Notes:
      - A step moves the threshold by a factor between `exp(-eta_C (1 - q))` and `exp(eta_C q)`,
        noise apart, however large its norms are. It stays in [1e-30, 1e30].
      - `example_norms` are those of all examples, on every device. Where all are left out it stays.
      - The paper, which has these defaults, counts users of federated learning, here examples or
        steps, and centres the count at m/2, for its sensitivity: no number changes while m is
        public. `per_example.noise_split` divides the noise between gradient and count as it does.

    Example:
      >>> import jax.numpy as jnp, clipax
      >>> threshold = clipax.thresholds.geometric_quantile(0.5, initial=1.0)
      >>> context = clipax.thresholds.Context(jnp.array(0), example_norms=jnp.array([2.0, 3.0]))
      >>> _, state = threshold.update(jnp.array(1.0), threshold.init(()), context)
      >>> print(f"{state.threshold:.4f}")  # none within: exp(.2/2)
      1.1052

    References:
      Andrew, Thakkar, McMahan, Ramaswamy, NeurIPS 2021, arXiv 1905.03871, Algorithm 1.
    """
    if not callable(quantile):
        _validate.within("quantile", quantile, 0, 1, brackets="()")
    _validate.within("initial", initial, _LEAST, _MOST)
    _validate.positive("learning_rate", learning_rate)
    if noise is not None:
        _validate.non_negative("noise", noise)
    seed = _validate.integer("seed", seed)

    def init(shape: tuple[int, ...]) -> GeometricQuantileState:
        threshold = jnp.full(shape, initial, float)
        return GeometricQuantileState(threshold, None if noise is None else _make_keys(seed, shape))

    def update(
        norms: Array, state: GeometricQuantileState, context: Context
    ) -> tuple[Array, GeometricQuantileState]:
        now, key = state.threshold, state.noise_key
        records = _select_records(norms, context.example_norms)
        counted = is_seen(records) & (records < jnp.inf)
        inside = (records <= now[..., None]) & counted
        within = jnp.sum(inside.astype(now.dtype), axis=-1)
        count = jnp.sum(counted.astype(now.dtype), axis=-1)
        if key is not None:
            drawn, key = _draw_normals(key, now.dtype)
            within = within + jnp.asarray(noise, now.dtype) * drawn
        wanted = evaluate_quantile(quantile, context.count).astype(now.dtype)
        step = jnp.asarray(learning_rate, now.dtype) * (within / jnp.maximum(count, 1) - wanted)
        moved = jnp.clip(now * jnp.exp(-step), _LEAST, _MOST)
        new = GeometricQuantileState(moved, key)
        # Where nothing counts nothing moves, and the noise is drawn at the next step.
        return now.astype(norms.dtype), keep_rows(count > 0, new, state)

    # With the examples' norms the block's own may be zero, and they are counted none the less.
    return Threshold(init, update, keeps_zeros_out=True)


def _select_records(norms: Array, example_norms: Array | None) -> Array:
    """Select the norms to count, on a last axis of their own."""
    if example_norms is None:
        return norms[..., None]
    if example_norms.ndim != 1:
        raise ValueError(
            f"`example_norms` must be a vector, got an array of shape {example_norms.shape}."
        )
    return example_norms


def _make_keys(seed: int, shape: tuple[int, ...]) -> Array:
    """Make the data of a key for each block."""
    keys = jax.random.split(jax.random.key(seed, impl=_GENERATOR), math.prod(shape))
    data = jax.random.key_data(keys)
    return data.reshape(*shape, data.shape[-1])


def _draw_normals(keys: Array, dtype: jnp.dtype) -> tuple[Array, Array]:
    """Draw a normal number for each block, and the data of the next keys."""

    def draw(data: Array) -> tuple[Array, Array]:
        following, now = jax.random.split(jax.random.wrap_key_data(data, impl=_GENERATOR))
        return jax.random.normal(now, (), dtype), jax.random.key_data(following)

    *blocks, width = keys.shape
    drawn, following = jax.vmap(draw)(keys.reshape(math.prod(blocks), width))
    return drawn.reshape(blocks), following.reshape(keys.shape)
