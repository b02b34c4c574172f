"""What is done with the entries of a scaled gradient: rules for one leaf, and their application.

`scale_by_norm` decides on factors for whole blocks. An entry rule says what happens to each entry
then: nothing more, a momentum, a scale of its own for every entry, ... It sees one leaf at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from clipax import _validate
from clipax._typing import Array, Norms, Params, Scalar
from clipax.engine._decide import BlockFactors
from clipax.measure import (
    Leaf,
    accumulation_dtype,
    find_row,
    index_by_path,
    narrow,
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
    "init_memory",
    "keep",
    "momentum",
    "scale",
    "scales_like",
    "wide_zeros_like",
    "zeros_like",
]

Memory = dict[str, Array]
"""What a rule remembers for one leaf, by name."""


class EntryContext(NamedTuple):
    """What a rule is told besides the gradient; factors broadcast against the leaf.

    Attributes:
      gradient_factor: Multiplies the gradient.
      update_factor: Multiplies the update.
      finite: Where the step counts; elsewhere memory keeps its values (`keep`).
      count: Number of steps before this one.
      steps: How many of them counted, for all leaves or for this one; None where nobody knows.
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
      init: From a leaf of the parameters to what is remembered for it; the same names for all.
      update: From `(gradient, memory, context)` to `(update, memory)`. The gradient comes, and the
        update is returned, in the dtype in which to compute. What the update is where the step does
        not count is no matter: it is replaced.
      needs_params: Whether `context.param` is used.
      names: Names of what is remembered.
    """

    init: Callable[[Array], Memory]
    update: Callable[[Array, Memory, EntryContext], tuple[Array, Memory]]
    needs_params: bool = False
    names: tuple[str, ...] = ()


def scale() -> EntryRule:
    """The scaled gradient itself."""

    def update(gradient: Array, memory: Memory, context: EntryContext) -> tuple[Array, Memory]:
        return gradient * (context.gradient_factor * context.update_factor), memory

    return EntryRule(lambda leaf: {}, update)


def momentum(b1: Scalar) -> EntryRule:
    """A moving average of the scaled gradients, from zero and without bias correction."""
    _validate.open_unit("b1", b1)

    def update(gradient: Array, memory: Memory, context: EntryContext) -> tuple[Array, Memory]:
        new = average(gradient, memory["momentum"], b1, context, context.gradient_factor)
        return new.astype(gradient.dtype) * context.update_factor, {"momentum": new}

    return EntryRule(lambda leaf: {"momentum": zeros_like(leaf)}, update, names=("momentum",))


def average(
    gradient: Array, old: Array, b1: Scalar, context: EntryContext, factor: Scalar | Array = 1
) -> Array:
    """`b1 old + (1 - b1) factor gradient`, in the dtype of `old`.

    Make updates from it as it is stored: made from the sum before it is rounded, XLA would compute
    that again from the old average, and copy the old one first.
    """
    dtype = context.gradient_factor.dtype
    # 1 - b1 before rounding to float32, where .999 would cost it four digits.
    fresh = gradient * (factor * jnp.asarray(1 - b1, dtype))
    return keep(old.astype(gradient.dtype) * jnp.asarray(b1, dtype) + fresh, old, context)


def keep(new: Array, old: Array, context: EntryContext) -> Array:
    """What to remember: `new` in the dtype of `old`, or `old` where the step does not count."""
    return narrow(jnp.where(context.finite, new, old.astype(new.dtype)), old.dtype)


def guard(finite: Array, update: Array, fill: float) -> Array:
    """The update where the step counts, else `fill`: selected, as zero times NaN is NaN."""
    return jnp.where(finite, update, fill)


def hide(values: Sequence[Array]) -> list[Array]:
    """The values behind barriers, for what reads them once more.

    Without, XLA writes out what measuring and scaling have in common: the float32 copy of a
    bfloat16 tree (`benchmarks/NOTES.md`). Leaf by leaf, so that a replicated leaf stays so.
    """
    return [lax.optimization_barrier(value) for value in values]


def zeros_like(leaf: Any) -> Array:
    """Zeros like a leaf, sharded as it is, and strongly typed for a Python number too."""
    return jnp.zeros_like(leaf, dtype=jnp.result_type(leaf))


def wide_zeros_like(leaf: Any) -> Array:
    """Zeros like a leaf, in float32 or better.

    In bfloat16, with a decay of .999, an average stands still at a quarter of where it is going.
    """
    return jnp.zeros_like(leaf, dtype=wide_dtype(jnp.result_type(leaf), jnp.float32))


def scales_like(leaf: Any, value: Scalar) -> Array:
    """One positive number for each entry of a leaf, sharded as it is."""
    return jnp.full_like(leaf, value, dtype=accumulation_dtype([jnp.result_type(leaf)]))


def init_memory(rule: EntryRule, params: Params) -> dict[str, Any]:
    """What a rule remembers for all parameters: trees like theirs, by name."""
    leaves, structure = jax.tree.flatten(params)
    rows = [rule.init(leaf) for leaf in leaves]
    return {name: jax.tree.unflatten(structure, [row[name] for row in rows]) for name in rule.names}


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
    """Runs a rule over the leaves.

    Args:
      rule: What to do with the entries.
      leaves: The gradient's leaves.
      values: What the rule is given of each: its value, or what stands in its place.
      factors: What to do with their blocks, by label.
      params: The parameters of the leaves, where they are needed.
      memory: What the rule remembers, trees like the parameters, by name.
      weight_decay: Coefficient of the parameters that are added to the gradient, or None.
      fill: What stands in an update for a block that is not finite.
      count: Number of steps before this one.
      steps: How many of them counted, for all leaves or by path, or None.
      saturate: Whether what is too large for a narrow dtype becomes its largest number, not
        infinity; it takes a fifth of a step in bfloat16 (`benchmarks/NOTES.md`).

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
        # Selected in the wide dtype: after the cast it would cost a pass.
        update = guard(block.finite, update, fill)
        updates.append(narrow(update, narrow_dtype) if saturate else update.astype(narrow_dtype))
    kept = {
        name: jax.tree.unflatten(jax.tree.structure(tree), list(rows[name].values()))
        for name, tree in memory.items()
    }
    return updates, kept
