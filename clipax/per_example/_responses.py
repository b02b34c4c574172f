"""Factors for the norms of single examples, by the name of the response."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp

from clipax import _validate, norms
from clipax._typing import Array, Scalar
from clipax.norms import Decision
from clipax.thresholds import Context, Threshold
from clipax.thresholds._base import raise_to_normal

__all__ = ["RESPONSES", "UNCONDITIONAL", "respond"]

UNCONDITIONAL = ("normalize", "psac")
"""Those that scale every gradient, up too: the threshold is a factor, not a limit."""
RESPONSES = ("hard", *UNCONDITIONAL, "sqrt", "rational", "tanh", "huber")


def respond(response: str, eps: Scalar, limits: Array, sizes: Array) -> Decision:
    """Compute the factors for norms; no scaled norm exceeds its limit.

    Args:
      response: One of `RESPONSES`.
      eps: For the unconditional ones.
      limits: One non-negative number, or one for each row of the norms. Nothing passes at zero.
      sizes: Finite norms; the first axis is that of the examples.
    """
    if limits.ndim:
        limits = jnp.expand_dims(limits, tuple(range(1, sizes.ndim)))
    limits = limits.astype(sizes.dtype)
    if response in UNCONDITIONAL:
        shift = _validate.to_float(eps, sizes.dtype)
        if response == "psac":
            shift = shift / jnp.maximum(sizes + shift, jnp.finfo(sizes.dtype).smallest_normal)
        decision, _ = norms.normalize(0.0).update(sizes + shift, (), Context(jnp.array(0)))
        return decision._replace(factor=limits * decision.factor)

    def read(sizes: Array, state: Any, context: Context) -> tuple[Array, Any]:
        return jnp.broadcast_to(raise_to_normal(limits), sizes.shape), state

    source = Threshold(lambda shape: (), read, keeps_zeros_out=True)
    decision, _ = norms.clip(source, response=response).update(sizes, (), Context(jnp.array(0)))
    return decision._replace(factor=jnp.where(limits > 0, decision.factor, 0))
