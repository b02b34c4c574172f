"""Adam's two averages for each entry, with their bias corrections and resets.

The second is kept as its root, so that no square overflows; both are in float32 or better.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import optax

from clipax import _validate
from clipax._export import exportable
from clipax._statistics._moving import bias_correction, hypot, weights
from clipax._statistics._rounding import round_evenly
from clipax._typing import Array, Norms, Scalar
from clipax.engine._entries import EntryContext, EntryRule, Memory, keep
from clipax.engine._spec import ScaleByNormState
from clipax.engine._telemetry import known_labels
from clipax.measure import Leaf, find_row, wide_dtype
from clipax.norms import Decision, NormRule
from clipax.thresholds import Context

__all__ = [
    "CountedState",
    "Moments",
    "adam",
    "add_decay",
    "count_steps",
    "counted_steps",
]


@exportable
class CountedState(NamedTuple):
    """A state with the number of steps that counted, for each block.

    Attributes:
      steps: The number, int32.
      inner: The state itself.
    """

    steps: Array
    inner: Any


def count_steps(inner: NormRule) -> NormRule:
    """Count the steps of each block beside a rule, which decides as before."""

    def init(shape: tuple[int, ...]) -> CountedState:
        return CountedState(jnp.zeros(shape, jnp.int32), inner.init(shape))

    def update(
        norms: Array, state: CountedState, context: Context
    ) -> tuple[Decision, CountedState]:
        decision, new = inner.update(norms, state.inner, context)
        return decision, CountedState(optax.safe_increment(state.steps), new)

    return inner._replace(init=init, update=update)


def counted_steps(state: ScaleByNormState, leaves: Sequence[Leaf]) -> Norms:
    """Read how many steps counted so far for each leaf, where `before` counts them."""
    if not leaves:
        return {}
    rows = jnp.unstack(state.rules.before.rows.steps)
    known = dict(zip(known_labels(state.telemetry), rows, strict=True))
    return {leaf.path: find_row(known, leaf.path) for leaf in leaves}


class Moments:
    """The averages `m` of the gradients and `s^2` of their squares, from zero.

    Attributes:
      eps: Added to `s`, after the bias correction.
    """

    def __init__(self, b1: Scalar, b2: Scalar, eps: Scalar) -> None:
        _validate.open_unit("b1", b1)
        _validate.open_unit("b2", b2)
        # An entry that was always zero is divided by it: it must be a normal number in float32.
        _validate.number("eps", eps, "finite and at least 1e-37", lambda e: 1e-37 <= e < math.inf)
        self.b1, self.b2, self.eps = b1, b2, eps

    def init(self, leaf: Any) -> Memory:
        """Make zeros like a leaf, sharded as it is."""
        wide = wide_dtype(jnp.result_type(leaf), jnp.float32)
        return {
            "momentum": jnp.zeros_like(leaf, dtype=wide),
            "scales": jnp.zeros_like(leaf, dtype=jnp.finfo(wide).dtype),
        }

    def add(
        self, gradient: Array, memory: Memory, context: EntryContext, fresh: Array | None = None
    ) -> Memory:
        """Add a gradient to both averages, which begin at zero where `fresh`."""
        old, new = weights(self.b1, context.gradient_factor.dtype)
        if fresh is not None:
            old = jnp.where(fresh, 0, old)
        momentum = memory["momentum"].astype(gradient.dtype) * old + gradient * new
        sizes = jnp.abs(gradient)
        scales = self._add_sizes(memory["scales"].astype(sizes.dtype), sizes, fresh)
        return {
            name: keep(round_evenly(new, memory[name].dtype, context.count), memory[name], context)
            for name, new in (("momentum", momentum), ("scales", scales))
        }

    def _add_sizes(self, before: Array, sizes: Array, fresh: Array | None) -> Array:
        """Add a size for each entry to the root of the averaged squares."""
        old, new = map(jnp.sqrt, weights(self.b2, before.dtype))
        if fresh is not None:
            old = jnp.where(fresh, 0, old)
        return hypot(old * before, new * sizes)

    def direction(self, memory: Memory, context: EntryContext, age: Array) -> Array:
        """Compute `m/(s + eps)`, both corrected for their start at zero `age` steps ago."""
        dtype = jnp.promote_types(memory["scales"].dtype, context.gradient_factor.dtype)
        scales, momentum = memory["scales"].astype(dtype), memory["momentum"]
        root = 1 / jnp.sqrt(bias_correction(self.b2, age, dtype))
        direction = momentum.astype(wide_dtype(momentum.dtype, dtype)) / (
            scales * root + jnp.asarray(self.eps, dtype)
        )
        # Corrected behind the division: a corrected momentum could overflow.
        return direction * (1 / bias_correction(self.b1, age, dtype))


def adam(
    moments: Moments, *, reset: int | None = None, weight_decay: Scalar | None = None
) -> EntryRule:
    """Make the rule of Adam, its averages begun anew every `reset` steps that counted.

    The update factor multiplies the whole update, the decay included.
    """

    def update(gradient: Array, memory: Memory, context: EntryContext) -> tuple[Array, Memory]:
        assert context.steps is not None
        age, fresh = context.steps + 1, None
        if reset is not None:
            since = age % reset
            fresh = since == 0
            age = jnp.where(age < reset, age, since + 1)
        scaled = gradient * context.gradient_factor
        memory = moments.add(scaled, memory, context, fresh)
        result = add_decay(moments.direction(memory, context, age), context, weight_decay)
        return result * context.update_factor, memory

    return EntryRule(moments.init, update, weight_decay is not None)


def add_decay(direction: Array, context: EntryContext, weight_decay: Scalar | None) -> Array:
    """Add decoupled weight decay to a direction."""
    if weight_decay is None or context.param is None:
        return direction
    decay = jnp.asarray(weight_decay, context.gradient_factor.dtype)
    return direction + context.param.astype(direction.dtype) * decay
