"""GGNC: steps along the steepest direction in a norm of choice, clipped by its dual norm.

T. Pethick, W. Xie, M. Erdogan, K. Antonakopoulos, A. Silveti-Falls, V. Cevher, "Generalized
Gradient Norm Clipping & Non-Euclidean (L0, L1)-Smoothness", arXiv 2506.01913.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import optax

from clipax import _validate, norms, scopes
from clipax._typing import Array, AxisName, NonFinite, Params, Scalar, ScalarOrSchedule, Updates
from clipax.engine import BlockFactors, NormRules, Spec, chain, forget, make_transformation, scale
from clipax.measure import (
    Leaf,
    Method,
    index_by_path,
    is_matrix,
    magnitudes,
    measure,
    name_leaves,
    polar_factors,
    refuse_parts,
    replace_values,
    spread,
    wide_dtype,
)
from clipax.optimizers._momentum_norm import (
    MomentumState,
    average_gradients,
    begin_momentum,
    init_momentum,
    scale_by_momentum_norm,
)
from clipax.scopes import Scope
from clipax.thresholds import Threshold

__all__ = ["ggnc"]


def scale_by_lmo(
    radius: ScalarOrSchedule | Threshold,
    *,
    norm: str,
    b1: Scalar,
    method: Method = "auto",
    scope: str | Scope = "leaf",
    nonfinite: NonFinite = "zero",
    axis_name: AxisName = None,
) -> optax.GradientTransformationExtraArgs:
    """Compute `min(rho, |m|_*) d`: `d` of unit norm has the largest product with the momentum `m`.

    Args:
      radius: The threshold on the dual norm of the momentum.
      norm: `"max"` or `"spectral"`; for the Euclidean one there is `scale_by_momentum_norm`.
      b1: Decay rate of the momentum, in [0, 1), from zero and without bias correction.
      method: As for `clip_by_singular_values`.
      scope: The axes that form one matrix, as for `scale_by_norm`.
      nonfinite: As for `scale_by_norm`.
      axis_name: As for `scale_by_norm`.
    """
    _validate.open_unit("b1", b1)
    spec = Spec.of("global", nonfinite, axis_name)
    scope = scopes.resolve(scope)
    gradient_rules, momentum_rules = NormRules.of(), NormRules.of(norms.clip(radius))
    averaging = average_gradients(b1)

    def set_blocks(leaves: Sequence[Leaf]) -> list[Leaf]:
        return [leaf._replace(block=scope.block(leaf.path, leaf.value.ndim)) for leaf in leaves]

    def init(params: Params) -> MomentumState:
        leaves, _ = name_leaves(params, scope)
        _refuse(leaves, norm, ())
        return init_momentum(spec, gradient_rules, momentum_rules, averaging, params)

    def update(
        updates: Updates, state: MomentumState, params: Params | None = None, **extra: Any
    ) -> tuple[Updates, MomentumState]:
        first, second = begin_momentum(spec, updates, state, params, extra)
        _refuse(set_blocks(first.leaves), norm, axis_name)
        gradient = first.decide(gradient_rules, first.norms())
        second.apply(averaging, gradient, values=[leaf.value for leaf in first.leaves])
        stored = index_by_path(second.state.memory["momentum"])
        dtype = second.dtype
        rows = [stored[leaf.path] for leaf in second.leaves]
        wide = [row.astype(wide_dtype(row.dtype, dtype)) for row in rows]
        momentum = set_blocks(replace_values(first.leaves, wide))
        if norm == "max":
            directions, terms = [jnp.sign(leaf.value) for leaf in momentum], momentum
        else:
            directions, terms = _find_directions(momentum, dtype, method, axis_name)
        # The terms of the spectral norm are sums over all shards already.
        over = axis_name if norm == "max" else None
        # One dual norm for the whole tree.
        terms = [
            term._replace(block=leaf.block) for term, leaf in zip(terms, first.leaves, strict=True)
        ]
        sums = magnitudes(terms, dtype, "sum", axis_name=over)
        # Entries are finite: a sum that overflows is the largest float.
        duals = {label: jnp.minimum(dual, jnp.finfo(dtype).max) for label, dual in sums.items()}
        counts = {label: block.finite for label, block in gradient.items()}
        decided = second.decide(momentum_rules, forget(duals, counts))
        thresholds = second.thresholds()
        # Not the factor times the norm: at a norm of 1e38 the factor would underflow.
        lengths = {
            label: BlockFactors(
                jnp.minimum(duals[label], thresholds[label]), block.update_factor, block.finite
            )
            for label, block in decided.items()
        }
        scaled, of_momentum = second.finish(second.apply(scale(), lengths, values=directions))
        return scaled, MomentumState(first.state, of_momentum)

    return make_transformation(init, update, MomentumState)


def _refuse(leaves: Sequence[Leaf], norm: str, axis_name: AxisName) -> None:
    """Raise where the spectral norm cannot be had: of parts of matrices, with excluded leaves."""
    if norm != "spectral":
        return
    refuse_parts(leaves, axis_name)
    for leaf in leaves:
        if leaf.block.excluded:
            raise ValueError(
                f"`scope` must exclude no leaf, {leaf.path!r} is excluded; give it an optimizer of "
                f"its own with `optax.partition`."
            )


def _find_directions(
    leaves: Sequence[Leaf], dtype: Any, method: Method, axis_name: AxisName
) -> tuple[list[Array], list[Leaf]]:
    """Compute directions of unit spectral norm, and the terms of the dual norm.

    The norm of a tree is the largest of its matrices' norms; the dual norm is then a sum, of the
    singular values of all matrices and the Euclidean norms of all vectors.
    """
    norms, _ = measure(leaves, dtype, axis_name=axis_name)
    sizes = [norms[leaf.block.label] for leaf in leaves]
    places = [place for place, leaf in enumerate(leaves) if is_matrix(leaf)]
    pairs = polar_factors(
        [leaves[place] for place in places],
        [sizes[place] for place in places],
        method=method,
        axis_name=axis_name,
    )
    found = dict(zip(places, pairs, strict=True))

    def normalize(leaf: Leaf, size: Array) -> tuple[Array, Array]:
        inverse = jnp.where(size > 0, 1 / jnp.where(size > 0, size, 1), 0)
        return leaf.value * spread(inverse, leaf), size

    directions, sums = [], []
    for place, (leaf, size) in enumerate(zip(leaves, sizes, strict=True)):
        direction, total = found[place] if place in found else normalize(leaf, size)
        directions.append(direction)
        sums.append(total)
    return directions, replace_values(leaves, sums)


def ggnc(
    learning_rate: ScalarOrSchedule,
    radius: ScalarOrSchedule | Threshold,
    *,
    norm: str = "euclidean",
    b1: Scalar = 0.9,
    method: Method = "auto",
    scope: str | Scope = "leaf",
    nonfinite: NonFinite = "zero",
    axis_name: AxisName = None,
) -> optax.GradientTransformationExtraArgs:
    """Move along the momentum's steepest direction in a norm of choice, clipped by its dual norm.

    Far from a minimum steps have a fixed length, as of sign descent or Muon; near it they vanish
    with the gradient. Prefer it to `momentum_clip_sgd` for matrices ("clipped Scion").

        m_t = b m_{t-1} + (1 - b) g_t,
        v_t = argmin_{||v|| <= 1} <m_t, v>,
        x_{t+1} = x_t + eta_t min(rho, ||m_t||_*) v_t

    with the dual norm `||m||_* = <m, -v>`.

    Args:
      learning_rate: Step size `eta`; non-negative, or an `optax.Schedule`.
      radius: Dual norm `rho` above which the momentum is clipped, as for `norms.clip`.
      norm: `"euclidean"` (default), its own dual; `"max"`, the largest magnitude of an entry, with
        `-v = sign(m)` and as dual norm the sum of magnitudes; or `"spectral"`, the largest singular
        value (of a vector as one column), with `-v = U V^T` and the sum of singular values.
      b1: Decay rate `b`, as for `scale_by_norm`; default .9, the authors'.
      method: For `"spectral"` only, as for `clip_by_singular_values`.
      scope: Likewise: which entries are one matrix.
      nonfinite: As for `scale_by_norm`.
      axis_name: As for `scale_by_norm`.

    Returns:
      An optimizer, whose updates are added to the parameters.

    Notes:
      - No step is longer than `learning_rate * radius` in the norm, up to rounding; the Euclidean
        method is `momentum_clip_sgd` with that as its `max_step`.
      - Telemetry is of two norms: the gradient's Euclidean one and the dual one of the momentum.
        Inside `shard_map` it takes two collectives; parts of matrices raise.
      - `"spectral"` costs a decomposition a matrix or 60 products a shape, and leaves out values
        below `eps` times rows or columns of the largest (`"polar"`: 4 to 7 `eps` of the Euclidean
        norm). Derivatives take `sign(m)` and `U V^T` as constants.
      - The paper's Scion scales the spectral norm by the matrix's sides, and gives layers radii of
        their own (`optax.partition` clips each group by itself). Its weight decay is not here.

    Example:
      >>> import jax.numpy as jnp, clipax
      >>> optimizer = clipax.ggnc(0.1, radius=2.0, norm="max", b1=0.0)  # of dual norm 7, cut to 2
      >>> print(optimizer.update(jnp.array([3.0, -4.0]), optimizer.init(jnp.zeros(2)))[0])
      [-0.2  0.2]

    References:
      Pethick et al., NeurIPS 2025, arXiv 2506.01913, Algorithm 3.
    """
    _validate.learning_rate(learning_rate)
    if not (callable(radius) or isinstance(radius, Threshold)):
        _validate.threshold("radius", radius)
    _validate.open_unit("b1", b1)
    _validate.one_of("norm", norm, ("euclidean", "max", "spectral"))
    _validate.one_of("method", method, ("auto", "svd", "polar"))
    resolved = scopes.resolve(scope)
    for name, value, default in (("method", method, "auto"), ("scope", scope, "leaf")):
        if norm != "spectral" and value != default:
            raise ValueError(f"`{name}` must not be given for norm={norm!r}, got {value!r}.")
    if norm == "euclidean":
        scaled = scale_by_momentum_norm(
            norms.clip(radius), decay=b1, nonfinite=nonfinite, axis_name=axis_name
        )
    else:
        scaled = scale_by_lmo(
            radius,
            norm=norm,
            b1=b1,
            method=method,
            scope=resolved,
            nonfinite=nonfinite,
            axis_name=axis_name,
        )
    return chain(scaled, optax.scale_by_learning_rate(learning_rate))
