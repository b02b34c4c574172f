"""Rules on the entries of one leaf, and their application to all leaves.

Rules on norms decide on one factor for a whole block. An entry rule then makes the update: the
scaled gradient itself, its momentum, or Adam's direction. It sees one leaf at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from clipax import _platforms, _validate
from clipax._statistics._moving import weights
from clipax._statistics._rounding import round_evenly
from clipax._typing import Array, Norms, Params, Scalar
from clipax.engine._factors import BlockFactors
from clipax.measure import (
    Leaf,
    accumulation_dtype,
    find_row,
    index_by_path,
    narrow,
    narrow_inwards,
    spread,
    wide_dtype,
)

__all__ = [
    "EntryContext",
    "EntryRule",
    "Memory",
    "apply_rule",
    "average",
    "guard",
    "hide",
    "hide_narrow",
    "init_memory",
    "keep",
    "momentum",
    "scale",
    "scales_like",
    "wide_zeros_like",
    "zeros_like",
]

Memory = dict[str, Array]
"""The arrays that a rule remembers for one leaf, by name."""


class EntryContext(NamedTuple):
    """The facts that a rule may use besides the gradient; factors broadcast against the leaf.

    Attributes:
      gradient_factor: Multiplies the gradient.
      update_factor: Multiplies the update.
      finite: Where the step counts; elsewhere memory keeps its values (`keep`).
      count: Number of steps before this one.
      steps: How many of them counted, for all leaves or for this one; None where it is unknown.
      param: The leaf's parameter, where the rule or a weight decay needs it; else None.
    """

    gradient_factor: Array
    update_factor: Array
    finite: Array
    count: Array  # type: ignore[assignment]  # hides tuple.count
    steps: Array | None
    param: Array | None


class EntryRule(NamedTuple):
    """A pair of pure functions on one leaf.

    Attributes:
      init: From a leaf of the parameters to its memory; the same names for all leaves.
      update: From `(gradient, memory, context)` to `(update, memory)`. The gradient comes, and the
        update is returned, in the dtype in which to compute. Where the step does not count, the
        update is replaced, whatever it is.
      needs_params: Whether `context.param` is used.
    """

    init: Callable[[Array], Memory]
    update: Callable[[Array, Memory, EntryContext], tuple[Array, Memory]]
    needs_params: bool = False


def scale() -> EntryRule:
    """Make the rule that scales the gradient and remembers nothing."""

    def update(gradient: Array, memory: Memory, context: EntryContext) -> tuple[Array, Memory]:
        return gradient * (context.gradient_factor * context.update_factor), memory

    return EntryRule(lambda leaf: {}, update)


def momentum(b1: Scalar) -> EntryRule:
    """Make the rule that averages scaled gradients, from zero and without bias correction."""
    _validate.open_unit("b1", b1)

    def update(gradient: Array, memory: Memory, context: EntryContext) -> tuple[Array, Memory]:
        new = average(gradient, memory["momentum"], b1, context, context.gradient_factor)
        return new.astype(gradient.dtype) * context.update_factor, {"momentum": new}

    return EntryRule(lambda leaf: {"momentum": wide_zeros_like(leaf)}, update)


def average(
    gradient: Array, old: Array, b1: Scalar, context: EntryContext, factor: Scalar | Array = 1
) -> Array:
    """Compute `b1 old + (1 - b1) factor gradient`, in the dtype of `old`.

    A narrow average is rounded up and down by turns: to the nearest it would stand still at a
    quarter of its limit, with a decay of .999 in bfloat16. It costs no memory, as one in float32
    would.

    Make updates from the stored result. If one is made from the sum before it is rounded, XLA
    computes that sum twice, and copies the old average, which it could overwrite.
    """
    kept, new = weights(b1, context.gradient_factor.dtype)
    fresh = gradient * (factor * new)
    later = old.astype(gradient.dtype) * kept + fresh
    return keep(round_evenly(later, old.dtype, context.count), old, context)


def keep(new: Array, old: Array, context: EntryContext) -> Array:
    """Select `new`, in the dtype of `old`, where the step counts, else `old`."""
    return narrow(jnp.where(context.finite, new, old.astype(new.dtype)), old.dtype)


def guard(finite: Array, update: Array, fill: float) -> Array:
    """Select the update where the step counts, else `fill`; a product would not do: 0 NaN = NaN.

    The fill is behind a barrier: XLA for GPU would take it for the zeros that a scatter or a scan
    of the training step starts from, write these out and read them here (`benchmarks/NOTES.md`).
    """
    return jnp.where(finite, update, lax.optimization_barrier(jnp.asarray(fill, update.dtype)))


def hide(values: Sequence[Array]) -> list[Array]:
    """Put the values behind barriers, before they are read a second time.

    Without them XLA merges the float32 copies of a bfloat16 tree that measuring and scaling make,
    and writes the copy out: 8 instead of 4 times the parameters' bytes (`benchmarks/NOTES.md`).
    One barrier a leaf, so that a replicated leaf stays replicated.
    """
    return [lax.optimization_barrier(value) for value in values]


def hide_narrow(values: Sequence[Array]) -> list[Array]:
    """Put values narrower than float32 behind barriers, on a CPU.

    There measuring and scaling would share a float32 copy, which XLA writes out. For GPUs and TPUs
    it converts twice. Elsewhere a barrier would have it write out what was just computed: slices of
    gradients on a GPU, half a P of a training step, and the change of `with_error_feedback`, of
    float32, on a CPU, 1 P (`benchmarks/NOTES.md`).
    """
    copied = [wide_dtype(value.dtype, jnp.float32) != value.dtype for value in values]
    if not any(copied):
        return list(values)

    def hide_copied(leaves: list[Array]) -> list[Array]:
        pairs = zip(leaves, copied, strict=True)
        return [lax.optimization_barrier(one) if hidden else one for one, hidden in pairs]

    return _platforms.choose(list(values), cpu=hide_copied, gpu=list, tpu=list)


def zeros_like(leaf: Any) -> Array:
    """Make zeros like a leaf, sharded as it is, and strongly typed for a Python number too."""
    return jnp.zeros_like(leaf, dtype=jnp.result_type(leaf))


def wide_zeros_like(leaf: Any) -> Array:
    """Make zeros like a leaf, in float32 or better.

    For what is measured, or grows with the steps: a bfloat16 number has errors of .4 %.
    """
    return jnp.zeros_like(leaf, dtype=wide_dtype(jnp.result_type(leaf), jnp.float32))


def scales_like(leaf: Any, value: Scalar) -> Array:
    """Make one positive number for each entry of a leaf, sharded as it is."""
    return jnp.full_like(leaf, value, dtype=accumulation_dtype([jnp.result_type(leaf)]))


def init_memory(rule: EntryRule, params: Params) -> dict[str, Any]:
    """Make the memory of a rule for all parameters: trees like theirs, by name."""
    leaves, structure = jax.tree.flatten(params)
    rows = [rule.init(leaf) for leaf in leaves]
    # Without leaves `optax.tree.map_params` asks for the structure: any leaf knows the names.
    names = rows[0] if rows else rule.init(jnp.zeros(()))
    return {name: jax.tree.unflatten(structure, [row[name] for row in rows]) for name in names}


def apply_rule(
    rule: EntryRule,
    leaves: Sequence[Leaf],
    values: Sequence[Array],
    factors: Mapping[str, BlockFactors],
    params: Sequence[Array] | None,
    memory: Mapping[str, Any],
    *,
    weight_decay: Scalar | None = None,
    fill: float,
    count: Array,
    steps: Array | Norms | None = None,
    saturate: bool = True,
) -> tuple[list[Array], dict[str, Any]]:
    """Run a rule over the leaves.

    Args:
      rule: The rule.
      leaves: The gradient's leaves.
      values: The arrays that the rule takes for the gradient, one a leaf.
      factors: The factors of their blocks, by label.
      params: The parameters of the leaves, where they are needed.
      memory: The memory of the rule, trees like the parameters, by name.
      weight_decay: Coefficient of the parameters that are added to the gradient, or None.
      fill: The update of a block that is not finite: zero or NaN.
      count: Number of steps before this one.
      steps: How many of them counted, for all leaves or by path, or None.
      saturate: Whether an update too large for a narrow dtype becomes its largest number, not
        infinity. XLA clamps as slowly as it rounds: a fifth of a step in bfloat16
        (`benchmarks/NOTES.md`). Without it no update is longer for its rounding to subnormals.

    Returns:
      The updates of the leaves, and the new memory.
    """
    rows = {name: index_by_path(tree) for name, tree in memory.items()}
    updates = []
    for place, (leaf, value) in enumerate(zip(leaves, values, strict=True)):
        block = BlockFactors(*(spread(part, leaf) for part in factors[leaf.block.label]))
        param = None if params is None else params[place]
        narrow_dtype = leaf.value.dtype
        gradient = value.astype(wide_dtype(value.dtype, block.gradient_factor.dtype))
        if weight_decay is not None and param is not None:
            decay = jnp.asarray(weight_decay, block.gradient_factor.dtype)
            gradient += param.astype(gradient.dtype) * decay
        old = {name: find_row(row, leaf.path) for name, row in rows.items()}
        counted = steps[leaf.path] if isinstance(steps, Mapping) else steps
        context = EntryContext(*block, count, counted, param)
        update, new = rule.update(gradient, old, context)
        for name, row in rows.items():
            row[leaf.path] = new[name]
        # Before the cast: XLA for CPU selects narrow types in a pass of its own.
        update = guard(block.finite, update, fill)
        updates.append((narrow if saturate else narrow_inwards)(update, narrow_dtype))
    kept = {
        name: jax.tree.unflatten(jax.tree.structure(tree), list(rows[name].values()))
        for name, tree in memory.items()
    }
    return updates, kept
