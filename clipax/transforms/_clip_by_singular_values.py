"""Spectral clipping: the singular values of every matrix are cut at a threshold.

X. Jiang, A. Semenov, S. U. Stich, "Enhancing LLM Training via Spectral Clipping", arXiv 2603.14315.
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import optax

from clipax import norms, scopes
from clipax._typing import Array, AxisName, NonFinite, Params, ScalarOrSchedule, Updates
from clipax.engine import NormRules, ScaleByNormState, Spec, Step, hide, scale
from clipax.measure import clamp_singular_values, is_matrix, named_leaves, refuse_parts
from clipax.scopes import Scope
from clipax.thresholds import Threshold, as_threshold

__all__ = ["clip_by_singular_values"]


def clip_by_singular_values(
    threshold: ScalarOrSchedule,
    *,
    scope: str | Scope = "leaf",
    nonfinite: NonFinite = "zero",
    axis_name: AxisName = None,
) -> optax.GradientTransformationExtraArgs:
    r"""Cuts the singular values of every matrix at a threshold.

    A spike in a few directions is cut there, and all others are left as they are, where a clip by
    norm would shrink them too. For gradients, or behind an optimizer for its updates. It costs one
    singular value decomposition a step for each matrix longer than the threshold: prefer
    `clip_by_leaf_norm` where that is too much.

    .. math:: u = U \min(S, c)\, V^T, \qquad g = U S V^T

    for each leaf :math:`g` as a matrix, with :math:`c` the `threshold`. A vector is a matrix of one
    column, whose only singular value is its norm.

    Args:
      threshold: Largest singular value of an update: a positive number (infinity: never clip) or an
        `optax.Schedule` of the step count.
      scope: What is one matrix. `"leaf"` (default): a leaf, where all axes but the last are its
        rows (as of a convolution's kernel). `clipax.scopes.stacked(0, where="blocks/*")` for
        kernels that `nn.scan` stacks: each layer's slice. `clipax.scopes.exclude("embed/*",
        "leaf")` leaves out leaves.
      nonfinite: `"zero"` (default): a leaf (or slice) with NaN or infinity gives a zero update, the
        others are not touched; `"propagate"`: it gives NaN.
      axis_name: Mesh axes over which gradients are sharded, inside `shard_map`; None under `jit`.

    Returns:
      A `GradientTransformationExtraArgs` with a `ScaleByNormState`. The norm that it records of a
      block is its largest singular value; the Euclidean norm, where that is within the threshold
      and nothing was decomposed.

    Guarantees:
      No singular value of an update exceeds `threshold * (1 + 1e-5)` in float32. The difference to
      the exact result is about `eps` of the gradient's norm. Where no singular value exceeds the
      threshold the update is the gradient bit for bit. Derivatives are finite, also where singular
      values are equal.

    Edge cases:
      =============================== ==========================================
      gradient                        update
      =============================== ==========================================
      Euclidean norm within `c`       the gradient, bit for bit; nothing is decomposed
      scalar, vector, one row         clipped by its norm
      bfloat16, float16               decomposed in float32
      norms up to 1e37                no overflow
      NaN or infinity                 zero for that leaf, counted for it
      =============================== ==========================================

    Sharding:
      Under `jit` a sharded matrix is gathered for its decomposition. Inside `shard_map` matrices
      must be whole: one that is known to be sharded is refused (with `check_vma=False` only if
      `axis_name` names its axes); sharded vectors share one `psum`.

    Raises:
      TypeError: `threshold` is no number or schedule.
      ValueError: `threshold` is not positive, `scope` merges leaves; when used: inside `shard_map`,
        a matrix is sharded.

    Example:
      >>> import jax.numpy as jnp, clipax
      >>> clip = clipax.clip_by_singular_values(1.0)
      >>> grads = {"kernel": jnp.array([[0.0, 5.0], [0.5, 0.0]]), "bias": jnp.array([3.0, 4.0])}
      >>> updates, state = clip.update(grads, clip.init(grads))
      >>> print(jnp.abs(updates["kernel"].round(5)), updates["bias"])
      [[0.  1. ]
       [0.5 0. ]] [0.6 0.8]

    References:
      X. Jiang, A. Semenov, S. U. Stich, "Enhancing LLM Training via Spectral Clipping", arXiv
      2603.14315.

    Differences from the paper:
      The cut is the paper's hard one, by the decomposition itself. The paper's experiments replace
      it by a smooth one, `S/sqrt(1 + (S/c)^2)`, computed by a Newton-Schulz iteration; its scaling
      and weight decay are links of their own. Polar decompositions, the other way to the hard
      cut, are not used: they add and subtract what is as large as the largest singular value, so
      that a spike comes out above the threshold by its rounding error. Vectors, which the paper
      leaves alone, are clipped.
    """
    if isinstance(threshold, Threshold):
        raise TypeError(
            "`threshold` must be a number or a schedule: it is needed before there are singular "
            f"values, got {threshold!r}."
        )
    limits = as_threshold(threshold)
    if scopes.is_global(scopes.resolve(scope)):
        raise ValueError("`scope` must give each leaf a label of its own, got 'global'.")
    spec = Spec.of(scope, nonfinite, axis_name)
    rules = NormRules.of(norms.clip(threshold))

    def init(params: Params) -> ScaleByNormState:
        leaves, _ = named_leaves(params, spec.scope)
        refuse_parts(leaves, ())
        return spec.init(rules, params)

    def update(
        updates: Updates, state: ScaleByNormState, params: Params | None = None, **extra: Any
    ) -> tuple[Updates, ScaleByNormState]:
        step = Step.begin(spec, updates, state, params, extra)
        refuse_parts(step.leaves, axis_name)
        sizes, _ = step.norms()
        values = hide([leaf.value for leaf in step.leaves])
        cut: dict[str, Array] = {}
        for place, leaf in enumerate(step.leaves):
            label, keep, excluded = leaf.block
            if excluded or not is_matrix(leaf):
                continue
            size = sizes[label]
            limit, _ = limits.update(size, (), step.context)
            finite = jnp.isfinite(size)
            safe = jnp.where(finite, size, 0)
            values[place], largest = clamp_singular_values(leaf.value, safe, limit, keep)
            cut[label] = jnp.where(finite, largest, size)
        # Of matrices this is for the record; what has one singular value is scaled by it.
        factors = step.decide(rules, sizes | cut)
        factors |= {
            label: factors[label]._replace(gradient_factor=jnp.ones_like(size))
            for label, size in cut.items()
        }
        return step.finish(step.apply(scale(), factors, values=values))

    return optax.GradientTransformationExtraArgs(init, update)
