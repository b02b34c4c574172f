"""Error feedback: the part of a gradient that a clip cuts off is not lost but comes later.

S. Khirirat, E. Gorbunov, S. Horvath, R. Islamov, F. Karray, P. Richtarik, "Clip21: Error
Feedback for Gradient Clipping", arXiv 2305.18929. R. Islamov, S. Horvath, A. Lucchi, P. Richtarik,
E. Gorbunov, "Double Momentum and Error Feedback for Clipping with Fast Rates and Differential
Privacy", arXiv 2502.11682. B. Elesedy, M. Hutter, "U-Clip: On-Average Unbiased Stochastic Gradient
Clipping", arXiv 2302.02971.
"""

from __future__ import annotations

import numbers
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax

from clipax import _platforms, _validate, scopes
from clipax._export import exportable
from clipax._statistics._moving import weights
from clipax._typing import Array, AxisName, Params, Scalar, Updates
from clipax.engine import Counts, Memory, add_step, init_counts, make_transformation
from clipax.engine._entries import guard, hide, wide_zeros_like
from clipax.engine._skip import mask_derivatives, select_step, strip_weak_types
from clipax.measure import (
    Leaf,
    all_finite,
    assume_computed,
    find_row,
    index_by_path,
    name_leaves,
    narrow,
)

__all__ = ["ErrorFeedbackState", "with_error_feedback"]


class _Kept(NamedTuple):
    """What is remembered of a leaf, in three parts.

    Attributes:
      names: The names of its arrays.
      prepare: From the gradient, the memory and whether the step counts to what is clipped.
      finish: From that, what the clip let through and the memory to the update.
    """

    names: tuple[str, ...]
    prepare: Callable[[Array, Memory, Array], tuple[Array, Memory]]
    finish: Callable[[Array, Array, Memory, Array], tuple[Array, Memory]]


class _State(NamedTuple):
    counts: Array
    memory: dict[str, Any]
    inner: Any


@exportable
class ErrorFeedbackState(Counts, _State):
    """State of `with_error_feedback`.

    Attributes:
      counts: Counts of steps, to be read by the properties of this class.
      memory: Trees like the parameters, in float32 or better, by name: `estimate`, what the
        updates have come to, and with `b1` the `average` of the gradients; or the `buffer` of what
        was cut off.
      inner: State of the clip inside; it knows nothing of skipped steps.
    """

    __slots__ = ()


def with_error_feedback(
    inner: optax.GradientTransformation,
    *,
    memory: str = "difference",
    b1: Scalar | None = None,
    step: Scalar = 1.0,
    axis_name: AxisName = None,
) -> optax.GradientTransformationExtraArgs:
    """Remember what a clip cuts off, and give it later.

    A clip that bites often is biased, this is not. Prefer Clip21, the default, where gradients have
    little noise, else a `b1` or `"buffer"`: these remember outliers, which a looser clip in front
    bounds.

        u_t = u_{t-1} + s clip(v_t - u_{t-1})  or  u_t = clip(g_t + r_t),
        r_{t+1} = g_t + r_t - u_t

    Args:
      inner: Any `clip` of this package or of optax: it must keep small gradients.
      memory: `"difference"` (default), the first formula, or U-Clip's `"buffer"`, the second.
      b1: Decay rate of the average `v` of gradients, in [0, 1): Clip21-SGD2M; None: v = g.
      step: Share `s` of the clipped difference that is added, in (0, 1]; default 1.
      axis_name: As for `scale_by_norm`; give it to the clip too.

    Returns:
      A `GradientTransformationExtraArgs` with an `ErrorFeedbackState`.

    Notes:
      - A constant gradient of norm G is the update of Clip21 from step `ceil(G/threshold)` on. The
        updates of U-Clip sum up to the gradients, but for what is in the buffer.
      - Non-finite steps are skipped. `clipax.metrics` has the norms of what is clipped. The memory
        begins at zero, in float32 or better, sharded as parameters are.
      - Clip21's workers have a memory each: run it before `jax.lax.pmean`.

    Example:
      >>> import jax.numpy as jnp, clipax
      >>> clip = clipax.with_error_feedback(clipax.clip_by_global_norm(2.0))
      >>> first, state = clip.update(jnp.array([3.0]), clip.init(jnp.zeros(1)))
      >>> print(first, clip.update(jnp.array([3.0]), state)[0])
      [2.] [3.]

    References:
      Khirirat et al., arXiv 2305.18929; Islamov et al., arXiv 2502.11682; Elesedy,
      Hutter, arXiv 2302.02971 (U-Clip).
    """
    _validate.transformation("inner", inner)
    _validate.one_of("memory", memory, ("difference", "buffer"))
    if b1 is not None:
        _validate.open_unit("b1", b1)
    _validate.within("step", step, 0, 1, brackets="(]")
    buffered = memory == "buffer"
    if buffered and (b1 is not None or (isinstance(step, numbers.Real) and step != 1)):
        raise ValueError(
            f"`b1` and `step` must be left out with `memory='buffer'`: they belong to "
            f"'difference', got {b1!r} and {step!r}."
        )
    kept = _buffer() if buffered else _estimate(b1, step)
    clip = optax.with_extra_args_support(inner)
    scope = scopes.resolve("leaf")

    def init(params: Params) -> ErrorFeedbackState:
        zeros = {name: jax.tree.map(wide_zeros_like, params) for name in kept.names}
        return ErrorFeedbackState(init_counts(), zeros, strip_weak_types(clip.init(params)))

    def update(
        updates: Updates, state: ErrorFeedbackState, params: Params | None = None, **extra: Any
    ) -> tuple[Updates, ErrorFeedbackState]:
        # Selected entry by entry, not skipped as a whole: a branch of `lax.cond` writes the updates
        # out on a CPU too (`benchmarks/NOTES.md`).
        leaves, structure = name_leaves(updates, scope)
        finite = all_finite(leaves, axis_name=axis_name)
        rows = {name: index_by_path(tree) for name, tree in state.memory.items()}
        old = [{name: find_row(row, leaf.path) for name, row in rows.items()} for leaf in leaves]
        prepared = [
            kept.prepare(value.astype(next(iter(before.values())).dtype), before, finite)
            for value, before in zip(_hide(leaves), old, strict=True)
        ]
        operands = jax.tree.unflatten(structure, [whole for whole, _ in prepared])
        given = mask_derivatives(finite, (operands, state.inner, params))
        with assume_computed():
            passed, clipped = clip.update(*given, **extra)
        made = []
        for leaf, part, (whole, memory) in zip(
            leaves, jax.tree.leaves(passed), prepared, strict=True
        ):
            # The clip may make NaN of what overflowed: it lets nothing through then.
            part = jnp.where(jnp.isfinite(part), part, 0).astype(whole.dtype)
            update, memory = kept.finish(whole, part, memory, finite)
            made.append(narrow(guard(finite, update, 0.0), leaf.value.dtype))
            for name, value in memory.items():
                rows[name][leaf.path] = value
        new = {
            name: jax.tree.unflatten(jax.tree.structure(tree), list(rows[name].values()))
            for name, tree in state.memory.items()
        }
        counts = add_step(state.counts, skipped=~finite, nonfinite=~finite)
        inner_state = select_step(finite, clipped, state.inner)
        return jax.tree.unflatten(structure, made), ErrorFeedbackState(counts, new, inner_state)

    return make_transformation(init, update, ErrorFeedbackState)


def _estimate(b1: Scalar | None, step: Scalar) -> _Kept:
    """Remember what was given, and clip what it lacks to the gradient or to its average."""

    def prepare(gradient: Array, old: Memory, finite: Array) -> tuple[Array, Memory]:
        memory, followed = dict(old), gradient
        if b1 is not None:
            decay, new = weights(b1, gradient.real.dtype)
            # Followed as it is remembered: XLA for CPU would copy the old average else.
            followed = jnp.where(finite, old["average"] * decay + gradient * new, old["average"])
            memory["average"] = followed
        return _saturate(followed - old["estimate"]), memory

    def finish(whole: Array, passed: Array, memory: Memory, finite: Array) -> tuple[Array, Memory]:
        before = memory["estimate"]
        later = _saturate(before + jnp.asarray(step, whole.real.dtype) * passed)
        # Given as it is remembered: from the sum before the selection XLA for CPU would compute
        # that sum twice, and copy the old estimate.
        estimate = jnp.where(finite, later, before)
        return estimate, memory | {"estimate": estimate}

    return _Kept(("estimate",) if b1 is None else ("estimate", "average"), prepare, finish)


def _buffer() -> _Kept:
    """Remember what was cut off, and clip it together with the gradient."""

    def prepare(gradient: Array, old: Memory, finite: Array) -> tuple[Array, Memory]:
        # Selected before it is clipped: XLA for CPU would copy the old buffer else.
        return jnp.where(finite, _saturate(gradient + old["buffer"]), old["buffer"]), {}

    def finish(whole: Array, passed: Array, memory: Memory, finite: Array) -> tuple[Array, Memory]:
        return passed, {"buffer": whole - jnp.where(finite, passed, 0)}

    return _Kept(("buffer",), prepare, finish)


def _hide(leaves: Sequence[Leaf]) -> Sequence[Array]:
    """Put the leaves behind barriers on a CPU, where else the check and the change share a copy.

    XLA for CPU writes out the float32 copy of a bfloat16 gradient that both read. For GPU and TPU
    it takes the check and the norm of the change from one read, if there is no barrier.
    """
    return _platforms.choose([leaf.value for leaf in leaves], cpu=hide, gpu=list, tpu=list)


def _saturate(value: Array) -> Array:
    """Clamp a sum that overflowed to the largest number."""
    if jnp.iscomplexobj(value):
        return lax.complex(_saturate(value.real), _saturate(value.imag))
    largest = jnp.finfo(value.dtype).max
    return jnp.clip(value, -largest, largest)
