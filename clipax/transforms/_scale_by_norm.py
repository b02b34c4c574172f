"""Lifts decisions on norms to gradient transformations.

The one place of the package that measures, guards against non-finite gradients, scales and records.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax

from clipax import _validate, norms, scopes
from clipax._typing import Array, AxisName, NonFinite, Norms, Params, Scalar, Updates
from clipax.measure import Leaf, accumulation_dtype, by_path, measure, named_leaves, narrow, row_of
from clipax.norms import Decision, NormTransformation
from clipax.norms._base import handed_on
from clipax.scopes import Scope
from clipax.thresholds import Context
from clipax.transforms import _telemetry
from clipax.transforms._apply import Plan, apply

__all__ = ["ScaleByNormState", "scale_by_norm"]


class ScaleByNormState(NamedTuple):
    """State of `scale_by_norm`; every array is finite at all times.

    The telemetry fields are scalars for the scope `"global"`, else arrays with one entry for each
    block, in the order of `names`. `clipax.metrics` reads them out of any optimizer state.

    Attributes:
      count: Number of steps.
      grad_norm: Norm of the last finite gradient (the largest of a block's units).
      threshold: Its threshold (the smallest); the largest float where nothing clips.
      clip_factor: The factor that `before` decided on (the smallest).
      clipped_count: Number of steps with a norm above the threshold (shares of units add up).
      nonfinite_count: Number of steps with a norm that was not finite; a last entry, if there is
        one more, counts for all excluded leaves together.
      is_finite: Whether the last step's norms were finite, with the same last entry.
      names: The blocks' labels as bytes (`clipax.block_names` reads them); None for `"global"`.
      before: State of `before`, by label.
      after: State of `after`, by label.
      momentum: Moving average of the scaled gradients; None without `b1`.
    """

    count: Array  # type: ignore[assignment]  # hides tuple.count, as optax's states do
    grad_norm: Array
    threshold: Array
    clip_factor: Array
    clipped_count: Array
    nonfinite_count: Array
    is_finite: Array
    names: Array | None
    before: Any
    after: Any
    momentum: Any


def scale_by_norm(
    before: NormTransformation | None = None,
    *,
    after: NormTransformation | None = None,
    b1: Scalar | None = None,
    weight_decay: Scalar | None = None,
    scope: str | Scope = "global",
    nonfinite: NonFinite = "zero",
    axis_name: AxisName = None,
) -> optax.GradientTransformationExtraArgs:
    r"""Scales gradients by factors that are functions of their norms.

    Every method of this package that is a function of norms is an instance. Use it to build your
    own: any composition of `clipax.norms` costs one read of the gradient and one multiplication.

    .. math::
        m_t = b_1 m_{t-1} + (1 - b_1)\, f_t\, (g_t + \lambda x_t), \qquad u_t = a_t m_t

    where the factors :math:`f_t` (`before`) and :math:`a_t` (`after`) are decided from the norm
    :math:`n = \|g_t\|` of each block: `before` sees :math:`n`, `after` sees :math:`f_t n`.
    Without `b1`, :math:`m_t` is the scaled gradient itself; :math:`\lambda` is `weight_decay`.

    Args:
      before: Decides on the factor of the gradient, for example `clipax.norms.clip(1.0)`; None
        (default) leaves it as it is.
      after: Decides on the factor behind the momentum, for example
        `clipax.norms.adagrad_norm(1.0)`; None (default) for none.
      b1: Decay rate of the momentum, in [0, 1), from zero and without bias correction; None
        (default) for no momentum and no memory for it.
      weight_decay: Adds this multiple of the parameters to the gradient after it was measured, so
        that it is scaled but does not count; non-negative, None (default) for none.
      scope: Which entries share a norm: `"global"`, `"leaf"`, `"unit"` or a scope of
        `clipax.scopes`.
      nonfinite: What to do with a block whose norm is not finite: `"zero"` (default) makes its
        update zero, `"propagate"` makes it NaN. Either way everything remembered keeps its value.
      axis_name: Inside `shard_map`, the mesh axes over which gradients are sharded: names, or
        (where `check_vma=False`) a mapping from path patterns to names. `()` measures each shard
        by itself. Not needed under `jit`.

    Returns:
      A `GradientTransformationExtraArgs` with a `ScaleByNormState`.

    Guarantees:
      One read of the gradient, or two if the sum of squares overflows. Sums in float32 or better.
      The update has the gradient's dtype. A factor of exactly 1 keeps every normal number as it
      is. No NaN or infinity enters the state. The derivative at a zero gradient is finite.

    Edge cases:
      =========================== ==================================================
      gradient                    result
      =========================== ==================================================
      zero block                  zero update, derivative 0
      NaN or infinity in a block  zero update for that block (or NaN: `"propagate"`)
      norm above the largest float  as for an infinity
      `None` in place of a leaf   `None`; what is remembered for the leaf is kept
      no leaves at all            no leaves
      integer leaf                TypeError that names it
      =========================== ==================================================

    Sharding:
      Under `jit` nothing is needed: at most one all-reduce for each mesh axis outside the overflow
      branch. Inside `shard_map`, one `psum` over `axis_name`.

    Raises:
      TypeError: An argument is of the wrong type.
      ValueError: `b1` outside [0, 1), `weight_decay` negative, `scope` or `nonfinite` unknown; when
        used: no `params` where they are needed, leaves unknown to the state, unnamed mesh axes.

    Example:
      >>> import jax.numpy as jnp, clipax
      >>> clip_then_halve = clipax.scale_by_norm(
      ...     clipax.norms.clip(1.0), after=clipax.norms.normalize(eps=1.0)
      ... )
      >>> grads = {"w": jnp.array([3.0, 4.0])}
      >>> updates, state = clip_then_halve.update(grads, clip_then_halve.init(grads))
      >>> print(updates["w"], state.grad_norm, state.clip_factor)
      [0.3 0.4] 5.0 0.2

    References:
      The forms it serves are those of J. Zhang et al., arXiv 1905.11881, and S. Chezhegov et al.,
      arXiv 2406.04443.

    Differences from the paper:
      It is a building block of this package, not a method of a paper; non-finite gradients are
      guarded against, which no paper treats.
    """
    before = norms.identity() if before is None else before
    after = norms.identity() if after is None else after
    for name, part in (("before", before), ("after", after)):
        if not isinstance(part, NormTransformation):
            raise TypeError(f"`{name}` must be made by `clipax.norms`, got {part!r}.")
    if b1 is not None:
        _validate.open_unit("b1", b1)
    if weight_decay is not None:
        _validate.non_negative("weight_decay", weight_decay)
    _validate.one_of("nonfinite", nonfinite, ("zero", "propagate"))
    scope = scopes.resolve(scope)
    needs_norms = before.needs_params or after.needs_params
    fill = 0.0 if nonfinite == "zero" else jnp.nan

    def init(params: Params) -> ScaleByNormState:
        leaves, _ = named_leaves(params, scope)
        dtype = accumulation_dtype([leaf.value.dtype for leaf in leaves])
        collapse = scopes.is_global(scope)
        shapes: dict[str, tuple[int, ...]] = {scopes.GLOBAL: ()} if collapse else {}
        for leaf in leaves:
            if not leaf.block.excluded:
                kept = tuple(leaf.value.shape[axis] for axis in leaf.block.keep)
                shapes[leaf.block.label] = kept
        # Sorted, as the keys of a dictionary are once it has passed through a transformation.
        shapes = dict(sorted(shapes.items()))
        excluded = any(leaf.block.excluded for leaf in leaves)
        records = _telemetry.init(shapes, excluded=excluded, collapse=collapse, dtype=dtype)
        return ScaleByNormState(
            count=jnp.zeros((), jnp.int32),
            **records,
            before={label: _cast(before.init(shape), dtype) for label, shape in shapes.items()},
            after={label: _cast(after.init(shape), dtype) for label, shape in shapes.items()},
            momentum=None if b1 is None else jax.tree.map(_zeros, params),
        )

    def update(
        updates: Updates, state: ScaleByNormState, params: Params | None = None, **extra: Any
    ) -> tuple[Updates, ScaleByNormState]:
        leaves, structure = named_leaves(updates, scope)
        needed = needs_norms or weight_decay is not None
        # Not looked at where nothing depends on them: any structure will do then.
        wanted = params if needed or axis_name is not None else None
        own = _own_params(leaves, wanted, required=needed)
        dtype = state.grad_norm.dtype
        measured = _measure(leaves, dtype, axis_name, own)
        sizes = _measure(_replaced(leaves, own), dtype, axis_name, None) if needs_norms else {}

        excluded = {leaf.block.label for leaf in leaves if leaf.block.excluded}
        states_before, states_after = dict(state.before), dict(state.after)
        decisions: dict[str, Decision] = {}
        plans: dict[str, Plan] = {}
        for label, block_norms in measured.items():
            finite = jnp.isfinite(block_norms)
            one = jnp.ones_like(block_norms)
            if label in excluded:
                plans[label] = Plan(one, one, finite)
                continue
            # A block that is not finite is decided on as if it were zero, and then forgotten.
            safe = jnp.where(finite, block_norms, 0)
            context = Context(state.count, sizes.get(label), extra.get("example_norms"))
            first, new_before = before.update(safe, row_of(state.before, label), context)
            second, new_after = after.update(handed_on(first, safe), state.after[label], context)
            states_before[label] = _keep(finite, new_before, state.before[label])
            states_after[label] = _keep(finite, new_after, state.after[label])
            decisions[label] = first
            plans[label] = Plan(first.factor, second.factor, finite)

        # The barrier keeps XLA from writing out what measuring and scaling have in common: the
        # converted copy of a bfloat16 tree. Leaf by leaf, so that a replicated one stays so.
        values = [lax.optimization_barrier(leaf.value) for leaf in leaves]
        scaled, momentum = apply(
            _replaced(leaves, values), plans, own, state.momentum, b1, weight_decay, fill
        )
        records = _telemetry.record(state, sorted(state.before), measured, decisions)
        new_state = ScaleByNormState(
            count=optax.safe_increment(state.count),
            **records,
            names=state.names,
            before=states_before,
            after=states_after,
            momentum=momentum,
        )
        return jax.tree.unflatten(structure, scaled), new_state

    return optax.GradientTransformationExtraArgs(init, update)


def _measure(
    leaves: Sequence[Leaf], dtype: Any, axis_name: AxisName, params: Sequence[Array] | None
) -> Norms:
    wide = accumulation_dtype([dtype, *(leaf.value.dtype for leaf in leaves)])
    measured = measure(leaves, wide, axis_name=axis_name, params=params)
    return {label: values.astype(dtype) for label, values in measured.items()}


def _replaced(leaves: Sequence[Leaf], values: Sequence[Array] | None) -> list[Leaf]:
    pairs = zip(leaves, values or (), strict=True)
    return [leaf._replace(value=value) for leaf, value in pairs]


def _own_params(
    leaves: Sequence[Leaf], params: Params | None, *, required: bool
) -> list[Array] | None:
    """The parameters that belong to the leaves, matched by path."""
    if params is None:
        if required:
            raise ValueError(
                "`params` must be given: this transformation uses the parameters; call "
                "`update(updates, state, params)`."
            )
        return None
    found = by_path(params)
    if missing := [leaf.path for leaf in leaves if leaf.path not in found]:
        raise ValueError(
            f"`params` must hold every leaf of the updates, {missing[0]!r} is missing."
        )
    return [found[leaf.path] for leaf in leaves]


def _keep(finite: Array, new: Any, old: Any) -> Any:
    """The new rows where a block's norm is finite, else the old ones."""

    def choose(new: Array, old: Array) -> Array:
        lead = finite.reshape(finite.shape + (1,) * (old.ndim - finite.ndim))
        return jnp.where(lead, new.astype(old.dtype), old)

    return jax.tree.map(choose, new, old)


def _zeros(leaf: Any) -> Array:
    """Zeros like a leaf, sharded as it is, and strongly typed for a Python number too."""
    return jnp.zeros_like(leaf, dtype=jnp.result_type(leaf))


def _cast(state: Any, dtype: Any) -> Any:
    """Floating-point arrays of a state in the dtype of the norms."""

    def cast(value: Any) -> Array:
        value = jnp.asarray(value)
        if not jnp.issubdtype(value.dtype, jnp.floating):
            return value
        return narrow(value, dtype)

    return jax.tree.map(cast, state)
