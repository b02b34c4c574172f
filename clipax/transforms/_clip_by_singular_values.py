"""The clip of every matrix's singular values (spectral clipping).

X. Jiang, A. Semenov, S. U. Stich, "Enhancing LLM Training via Spectral Clipping", arXiv
2603.14315; A. Yukhimchuk, M. Kolar, M. Takáč, S. Choudhury, "Gradient Clipping Beyond Vector Norms:
A Spectral Approach for Matrix-Valued Parameters", arXiv 2605.11838.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import jax.numpy as jnp
import optax

from clipax import _validate, norms, scopes
from clipax._typing import Array, AxisName, NonFinite, Params, ScalarOrSchedule, Updates
from clipax.engine import (
    BlockFactors,
    NormRules,
    ScaleByNormState,
    Spec,
    Step,
    hide,
    make_transformation,
    scale,
)
from clipax.measure import (
    Method,
    clamp_singular_values,
    is_matrix,
    largest_singular_values,
    name_leaves,
    refuse_parts,
    replace_values,
)
from clipax.scopes import Scope
from clipax.thresholds import Threshold, as_threshold

__all__ = ["clip_by_singular_values"]


def clip_by_singular_values(
    threshold: ScalarOrSchedule | Threshold,
    *,
    method: Method = "auto",
    scope: str | Scope = "leaf",
    nonfinite: NonFinite = "zero",
    axis_name: AxisName = None,
) -> optax.GradientTransformationExtraArgs:
    """Cut the singular values of every matrix at a threshold.

    A spike in a few directions leaves all others as they are. Use it on gradients or an optimizer's
    updates; prefer `clip_by_leaf_norm` where matrices of larger norm cost too much.

        u = U min(S, c) V^T,  g = U S V^T

    Args:
      threshold: Bound `c`, as for `norms.clip`; a `Threshold` sees largest singular values.
      method: `"svd"`, `"polar"` (matrix products alone) or `"auto"` (default): svd on CPUs only.
      scope: Which entries are one matrix `g`: `"leaf"` (default), all axes but the last as its
        rows, a vector as one column; or `clipax.scopes.stacked`. Not `"global"`.
      nonfinite: As for `scale_by_norm`.
      axis_name: As for `scale_by_norm`.

    Returns:
      A `GradientTransformationExtraArgs`; telemetry has the largest value, or the norm if within.

    Notes:
      - No singular value of an update exceeds `threshold * (1 + 1e-5)` in float32. The error is
        about `eps` of the largest (`"polar"`: 60 times that where many are near the threshold).
      - Where all are within it every normal number stays bit for bit. Derivatives are finite.
      - `"svd"` decomposes where the Euclidean norm exceeds the threshold. `"polar"` takes 156
        products a shape, and no branch; values that rounding lifts above the threshold, by `eps` of
        the largest, are cured by a last scaling. It knows the largest to 1e-6, from below.
      - Under `jit` a sharded matrix is gathered. Inside `shard_map` one known to be sharded raises
        ValueError (if `check_vma=False`, one whose axes `axis_name` names); vectors share a `psum`.
      - The paper cuts smoothly, `S/sqrt(1 + (S/c)^2)`, and leaves vectors alone.

    Example:
      >>> import jax.numpy as jnp, clipax
      >>> clip = clipax.clip_by_singular_values(1.0)
      >>> grads = {"kernel": jnp.diag(jnp.array([5.0, 0.5])), "bias": jnp.array([3.0, 4.0])}
      >>> updates, state = clip.update(grads, clip.init(grads))
      >>> print(jnp.diag(updates["kernel"]).round(5), updates["bias"])
      [1.  0.5] [0.6 0.8]

    References:
      Jiang et al., arXiv 2603.14315; Yukhimchuk et al., arXiv 2605.11838 (adaptive thresholds).
    """
    _validate.one_of("method", method, ("auto", "svd", "polar"))
    if scopes.is_global(scopes.resolve(scope)):
        raise ValueError("`scope` must give each leaf a label of its own, got 'global'.")
    spec = Spec.of(scope, nonfinite, axis_name)
    rules = NormRules.of(norms.clip(threshold))
    limit = as_threshold(threshold)
    # Its limits are known only once the largest singular values are.
    adaptive = isinstance(threshold, Threshold)

    def init(params: Params) -> ScaleByNormState:
        leaves, _ = name_leaves(params, spec.scope)
        refuse_parts(leaves, ())
        return spec.init(rules, params)

    def update(
        updates: Updates, state: ScaleByNormState, params: Params | None = None, **extra: Any
    ) -> tuple[Updates, ScaleByNormState]:
        step = Step.begin(spec, updates, state, params, extra, needs_params=rules.needs_params)
        refuse_parts(step.leaves, axis_name)
        sizes, _ = step.norms()
        leaves = replace_values(step.leaves, hide([leaf.value for leaf in step.leaves]))
        matrices = [leaf for leaf in leaves if is_matrix(leaf) and not leaf.block.excluded]
        labels = [leaf.block.label for leaf in matrices]
        finite = {label: jnp.isfinite(sizes[label]) for label in labels}
        known = [jnp.where(finite[label], sizes[label], 0) for label in labels]

        def decide(largest: Sequence[Array]) -> dict[str, BlockFactors]:
            # A matrix that is not finite keeps its norm, which tells so.
            found = zip(labels, largest, strict=True)
            cut = {label: jnp.where(finite[label], size, sizes[label]) for label, size in found}
            return step.decide(rules, sizes | cut)

        clamp = partial(
            clamp_singular_values, matrices, method=method, axis_name=axis_name, measured=adaptive
        )
        if adaptive:
            known = largest_singular_values(matrices, known, method=method, axis_name=axis_name)
            factors = decide(known)
            thresholds = step.thresholds()
            rows = clamp(known, [thresholds[label] for label in labels])
        else:
            rows = clamp(known, [limit.update(size, (), step.context)[0] for size in known])
            factors = decide([largest for _, largest in rows])
        clamped = dict(zip(labels, (value for value, _ in rows), strict=True))
        # Their decision is recorded, their factor set back to 1. A vector has one singular value,
        # its norm, and is scaled by its factor.
        factors |= {
            label: factors[label]._replace(gradient_factor=jnp.ones_like(sizes[label]))
            for label in labels
        }
        values = [clamped.get(leaf.block.label, leaf.value) for leaf in leaves]
        return step.finish(step.apply(scale(), factors, values=values))

    return make_transformation(init, update, ScaleByNormState)
