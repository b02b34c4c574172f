"""How far one example can move a clipped sum or mean."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp

from clipax import _validate, scopes
from clipax._typing import Params, Scalar
from clipax.measure import name_leaves
from clipax.per_example._options import Options
from clipax.per_example._release import count_blocks

__all__ = ["RELATIONS", "find_sensitivity"]

RELATIONS = ("add_or_remove_one", "replace_one", "replace_special")
"""The relations of neighbouring batches, by the names that `dp_accounting` gives them."""


def find_sensitivity(
    options: Options,
    relation: object,
    params: Params | None,
    batch_size: int | None,
    threshold: Scalar | None,
) -> Scalar:
    """Bound the norm by which the results of two neighbouring batches differ.

    Raises:
      ValueError: The relation is not known, something is not given that the bound depends on, or
        there is none.
    """
    name = getattr(relation, "name", relation)  # a member of dp_accounting's enumeration
    name = name.lower() if isinstance(name, str) else name
    _validate.one_of("relation", name, RELATIONS)
    if threshold is None:
        now = options.threshold
    else:
        options.check(threshold)
        now = threshold
    if options.reduction == "mean" or callable(now):
        if batch_size is None:
            what = "a mean" if options.reduction == "mean" else "a threshold by place"
            raise ValueError(f"`batch_size` must be given for {what}, got None.")
        batch_size = _validate.size("batch_size", batch_size)
    elif batch_size is not None:
        raise ValueError(
            f"`batch_size` must be left out for a sum, got {batch_size!r}: nothing is divided by "
            f"it. Divide the sensitivity by what you divide the noised sum by."
        )
    if callable(now):
        if name == "add_or_remove_one":
            raise ValueError(
                "`relation` must keep the examples in their places where the threshold depends on "
                "them, got 'add_or_remove_one': one example less moves all behind it."
            )
        now = jnp.max(jax.vmap(now)(jnp.arange(batch_size)))
    bound = now * math.sqrt(_count(options, params))
    if options.reduction == "sum":
        return 2 * bound if name == "replace_one" else bound
    assert batch_size is not None
    # The mean of more or fewer examples: the divisor changes as well, and all others with it.
    twice = name == "replace_one" or (name == "add_or_remove_one" and batch_size > 1)
    return (2 if twice else 1) * bound / batch_size


def _count(options: Options, params: Params | None) -> int:
    """Count the blocks, of which a global norm has one."""
    if params is None:
        if scopes.is_global(options.scope):
            return 1
        raise ValueError(
            "`params` must be given where parameters have several norms: the sensitivity grows "
            "with the root of their number. Shapes (`jax.eval_shape`) will do."
        )
    leaves, _ = name_leaves(params, options.scope, check_patterns=True)
    return count_blocks(leaves)
