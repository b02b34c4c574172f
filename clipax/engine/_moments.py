"""Adam's two averages for each entry, with their bias corrections and resets.

Of the squares the root is kept, as everywhere, and both in float32 or better.
"""

from __future__ import annotations

import math
from typing import Any

import jax.numpy as jnp

from clipax import _validate
from clipax._statistics._moving import hypot
from clipax._typing import Array, Scalar
from clipax.engine._entries import Memory, Rule, Step, keep
from clipax.measure import wide_dtype

__all__ = ["Moments", "adam", "correction", "decayed", "share"]


class Moments:
    """The averages `m` of the gradients and `s^2` of their squares, from zero.

    Attributes:
      eps: Added to `s`, after the bias correction.
    """

    def __init__(self, b1: Scalar, b2: Scalar, eps: Scalar) -> None:
        _validate.open_unit("b1", b1)
        _validate.open_unit("b2", b2)
        # Smaller ones are no normal numbers in float32: entries that are zero divide by it.
        _validate.number("eps", eps, "finite and at least 1e-37", lambda e: 1e-37 <= e < math.inf)
        self.b1, self.b2, self.eps = b1, b2, eps

    def init(self, leaf: Any) -> Memory:
        """Zeros like a leaf, sharded as it is."""
        wide = wide_dtype(jnp.result_type(leaf), jnp.float32)
        return {
            "momentum": jnp.zeros_like(leaf, dtype=wide),
            "scales": jnp.zeros_like(leaf, dtype=jnp.finfo(wide).dtype),
        }

    def grown(
        self, gradient: Array, memory: Memory, step: Step, fresh: Array | None = None
    ) -> Memory:
        """Both averages with one more gradient, from zero where `fresh`."""
        dtype = step.factor.dtype
        # 1 - b before rounding to float32, where .999 would cost it four digits.
        old, new = jnp.asarray(self.b1, dtype), jnp.asarray(1 - self.b1, dtype)
        if fresh is not None:
            old = jnp.where(fresh, 0, old)
        held = memory["momentum"]
        momentum = held.astype(gradient.dtype) * old + gradient * new
        sizes = jnp.abs(gradient)
        before = memory["scales"].astype(sizes.dtype)
        scales = self.scales(before, sizes, fresh)
        return {
            "momentum": keep(momentum, held, step),
            "scales": keep(scales, memory["scales"], step),
        }

    def scales(self, before: Array, sizes: Array, fresh: Array | None = None) -> Array:
        """The root of the average of the squares, with one more size for each entry."""
        old, new = (jnp.sqrt(jnp.asarray(b, before.dtype)) for b in (self.b2, 1 - self.b2))
        if fresh is not None:
            old = jnp.where(fresh, 0, old)
        return hypot(old * before, new * sizes)

    def direction(self, memory: Memory, step: Step, age: Array) -> Array:
        """`m/(s + eps)`, both corrected for their start at zero `age` steps ago."""
        dtype = jnp.promote_types(memory["scales"].dtype, step.factor.dtype)
        scales, momentum = memory["scales"].astype(dtype), memory["momentum"]
        root = 1 / jnp.sqrt(correction(self.b2, age, dtype))
        direction = momentum.astype(wide_dtype(momentum.dtype, dtype)) / (
            scales * root + jnp.asarray(self.eps, dtype)
        )
        # Corrected behind the division: a corrected momentum could overflow.
        return direction * (1 / correction(self.b1, age, dtype))


def adam(moments: Moments, *, reset: int | None = None, weight_decay: Scalar | None = None) -> Rule:
    """Adam on the scaled gradient, its averages begun anew every `reset` steps that counted.

    The divisor of the plan multiplies the whole update, the decay included.
    """

    def update(gradient: Array, memory: Memory, step: Step) -> tuple[Array, Memory]:
        assert step.steps is not None
        age, fresh = step.steps + 1, None
        if reset is not None:
            since = age % reset
            fresh = since == 0
            age = jnp.where(age < reset, age, since + 1)
        memory = moments.grown(gradient * step.factor, memory, step, fresh)
        result = decayed(moments.direction(memory, step, age), step, weight_decay)
        return jnp.where(step.finite, result * step.divisor, step.fill), memory

    return Rule(moments.init, update, needs_params=weight_decay is not None)


def decayed(direction: Array, step: Step, weight_decay: Scalar | None) -> Array:
    """The direction with decoupled weight decay."""
    if weight_decay is None or step.param is None:
        return direction
    decay = jnp.asarray(weight_decay, step.factor.dtype)
    return direction + step.param.astype(direction.dtype) * decay


def correction(decay: Scalar, age: Array, dtype: Any) -> Array:
    """`1 - decay^age` for an age of at least 1, to the last digits for rates near 1."""
    if isinstance(decay, int | float):
        log = jnp.asarray(math.log(decay) if decay > 0 else -math.inf, dtype)
    else:
        log = jnp.log(jnp.asarray(decay, dtype))
    return -jnp.expm1(age.astype(dtype) * log)


def share(decay: Scalar, steps: Array, dtype: Any) -> Array:
    """What the newest of `steps + 1` numbers weighs in their average with bias correction."""
    first = steps == 0
    weight = jnp.asarray(1 - decay, dtype) / correction(decay, steps + 1, dtype)
    return jnp.where(first, 1, weight)
