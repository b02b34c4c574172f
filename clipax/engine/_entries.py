"""What is done with the entries of a scaled gradient: rules, and their application leaf by leaf.

`scale_by_norm` decides on factors for whole blocks. A rule says what happens to each entry then:
nothing more, a momentum, a scale of its own for every entry, ... It sees one leaf at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from clipax import _validate
from clipax._typing import Array, Norms, Params, Scalar
from clipax.measure import Leaf, accumulation_dtype, by_path, narrow, row_of, spread, wide_dtype

__all__ = [
    "Memory",
    "Plan",
    "Rule",
    "Step",
    "apply",
    "averaged",
    "keep",
    "momentum",
    "plain",
    "remembered",
    "scales_like",
    "wide_zeros_like",
    "zeros_like",
]

Memory = dict[str, Array]
"""What a rule remembers for one leaf, by name."""


class Plan(NamedTuple):
    """What one step does with the blocks of one label; arrays of the norms' shape.

    Attributes:
      factor: Multiplies the gradient.
      divisor: Multiplies what the rule makes of it.
      finite: Where the norms are finite; elsewhere the update is filled and memory kept.
    """

    factor: Array
    divisor: Array
    finite: Array


class Step(NamedTuple):
    """What a rule is told besides the gradient: the plan, to be broadcast against the leaf.

    Attributes:
      factor: Multiplies the gradient.
      divisor: Multiplies the update.
      finite: Where the step counts; elsewhere the update is `fill` and memory keeps its values.
      fill: 0 or NaN.
      count: Number of steps before this one.
      steps: How many of them counted, for all leaves or for this one; None where nobody knows.
      param: The leaf's parameter, where the rule or a weight decay needs it; else None.
    """

    factor: Array
    divisor: Array
    finite: Array
    fill: float
    count: Array  # type: ignore[assignment]  # hides tuple.count, as optax's states do
    steps: Array | None
    param: Array | None


class Rule(NamedTuple):
    """A pair of pure functions on one leaf.

    Attributes:
      init: From a leaf of the parameters to what is remembered for it; the same names for all.
      update: From `(gradient, memory, step)` to `(update, memory)`. The gradient comes, and the
        update is returned, in the type in which to compute.
      needs_params: Whether `step.param` is used.
    """

    init: Callable[[Array], Memory]
    update: Callable[[Array, Memory, Step], tuple[Array, Memory]]
    needs_params: bool = False


def plain() -> Rule:
    """The scaled gradient itself."""

    def update(gradient: Array, memory: Memory, step: Step) -> tuple[Array, Memory]:
        # Selected in the wide type, before the multiplication: after the cast it would cost a pass.
        return jnp.where(step.finite, gradient, step.fill) * (step.factor * step.divisor), memory

    return Rule(lambda leaf: {}, update)


def momentum(b1: Scalar) -> Rule:
    """A moving average of the scaled gradients, from zero and without bias correction."""
    _validate.open_unit("b1", b1)

    def update(gradient: Array, memory: Memory, step: Step) -> tuple[Array, Memory]:
        new = averaged(gradient, memory["momentum"], b1, step, step.factor)
        value = new.astype(gradient.dtype) * jnp.where(step.finite, step.divisor, step.fill)
        return value, {"momentum": new}

    return Rule(lambda leaf: {"momentum": zeros_like(leaf)}, update)


def averaged(
    gradient: Array, old: Array, b1: Scalar, step: Step, factor: Scalar | Array = 1
) -> Array:
    """`b1 old + (1 - b1) factor gradient`, in the type of `old`.

    Make updates from it as it is stored: made from the sum before it is rounded, XLA would compute
    that again from the old average, and copy the old one first.
    """
    dtype = step.factor.dtype
    fresh = gradient * (factor * jnp.asarray(1 - b1, dtype))
    return keep(old.astype(gradient.dtype) * jnp.asarray(b1, dtype) + fresh, old, step)


def keep(new: Array, old: Array, step: Step) -> Array:
    """What to remember: `new` in the type of `old`, or `old` where the step does not count."""
    return narrow(jnp.where(step.finite, new, old.astype(new.dtype)), old.dtype)


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
    dtype = accumulation_dtype([jnp.result_type(leaf)])
    return jnp.full_like(leaf, value, dtype=dtype)


def remembered(rule: Rule, params: Params) -> dict[str, Any]:
    """What a rule remembers for all parameters: trees like theirs, by name."""
    leaves, structure = jax.tree.flatten(params)
    rows = [rule.init(leaf) for leaf in leaves]
    names = rows[0] if rows else {}
    return {name: jax.tree.unflatten(structure, [row[name] for row in rows]) for name in names}


def apply(
    rule: Rule,
    leaves: Sequence[Leaf],
    plans: Mapping[str, Plan],
    params: Sequence[Array] | None,
    memory: Mapping[str, Any],
    *,
    weight_decay: Scalar | None,
    fill: float,
    count: Array,
    steps: Array | Norms | None,
    cut_off: bool = True,
) -> tuple[list[Array], dict[str, Any]]:
    """Runs a rule over the leaves.

    Args:
      rule: What to do with the entries.
      leaves: The gradient's leaves.
      plans: What to do with their blocks, by label.
      params: The parameters of the leaves, where they are needed.
      memory: What the rule remembers, trees like the parameters, by name.
      weight_decay: Coefficient of the parameters that are added to the gradient, or None.
      fill: What stands in an update for a block that is not finite.
      count: Number of steps before this one.
      steps: How many of them counted, for all leaves or by label, or None.
      cut_off: Whether what is too large for a narrow type becomes its largest number, not infinity;
        it takes a fifth of a step in bfloat16.

    Returns:
      The updates of the leaves, and the new memory.
    """
    rows = {name: by_path(tree) for name, tree in memory.items()}
    updates = []
    for place, leaf in enumerate(leaves):
        factor, divisor, finite = (spread(part, leaf) for part in plans[leaf.block.label])
        param = None if params is None else params[place]
        like, wide = leaf.value.dtype, wide_dtype(leaf.value.dtype, factor.dtype)
        gradient = leaf.value.astype(wide)
        if weight_decay is not None and param is not None:
            gradient += param.astype(wide) * jnp.asarray(weight_decay, factor.dtype)
        old = {name: row_of(row, leaf.path) for name, row in rows.items()}
        counted = spread(steps[leaf.block.label], leaf) if isinstance(steps, Mapping) else steps
        step = Step(factor, divisor, finite, fill, count, counted, param)
        update, new = rule.update(gradient, old, step)
        for name, row in rows.items():
            row[leaf.path] = new[name]
        updates.append(narrow(update, like) if cut_off else update.astype(like))
    structures = {name: jax.tree.structure(tree) for name, tree in memory.items()}
    kept = {
        name: jax.tree.unflatten(structures[name], list(row.values())) for name, row in rows.items()
    }
    return updates, kept
