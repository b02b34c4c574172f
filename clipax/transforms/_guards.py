"""The parts that the guards share: which leaves they judge, and how they judge a result."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp

from clipax import _validate, scopes
from clipax._typing import Array, AxisName, Updates, Where
from clipax.measure import Leaf, all_finite, name_leaves
from clipax.scopes import Scope

__all__ = ["Check", "make_judge", "resolve_scope", "silence_excluded"]

Check = Literal["gradient", "result"]


def resolve_scope(scope: str | Scope, exclude: Where | None) -> Scope:
    """Resolve the scope of a guard; the leaves that it excludes are not judged."""
    resolved = scopes.resolve(scope)
    if exclude is None:
        return resolved
    return scopes.exclude(scopes.check_where(exclude, "exclude"), resolved)


def silence_excluded(leaves: Sequence[Leaf]) -> list[Array]:
    """Set entries of excluded leaves that are not finite to zero.

    Else a clip inside would measure them with the others, and zero or spoil the whole update.
    """
    return [
        jnp.where(jnp.isfinite(leaf.value), leaf.value, 0) if leaf.block.excluded else leaf.value
        for leaf in leaves
    ]


def make_judge(
    check: Check, scope: Scope, axis_name: AxisName
) -> Callable[[Updates, Any, Any], Array] | None:
    """Make the function that judges updates and new state by the old one; None for no judgement.

    A number of the state must stay finite if it was: `optax.contrib.reduce_on_plateau` starts from
    infinity. What the state has for an excluded leaf is not judged: arrays of its path and shape.
    """
    _validate.one_of("check", check, ("gradient", "result"))
    if check == "gradient":
        return None

    def judge(updates: Updates, new: Any, old: Any) -> Array:
        leaves, _ = name_leaves(updates, scope)
        pairs, _ = jax.tree_util.tree_flatten_with_path(updates)
        by_keys = {keys: leaf for (keys, _), leaf in zip(pairs, leaves, strict=True)}
        judged = [leaf for leaf in leaves if not leaf.block.excluded]
        flags = []
        rows, _ = jax.tree_util.tree_flatten_with_path(new)
        for (keys, after), before in zip(rows, jax.tree.leaves(old), strict=True):
            if not jnp.issubdtype(after.dtype, jnp.inexact):
                continue
            became = jnp.where(jnp.isfinite(before), after, 0)
            owner = _find_owner(by_keys, keys, after)
            if owner is None and isinstance(axis_name, Mapping):
                flags.append(jnp.isfinite(became).all())  # no pattern says how it is sharded
            elif owner is None:
                judged.append(Leaf("state", became, scopes.Block("state")))
            elif not owner.block.excluded:
                judged.append(owner._replace(value=became))
        finite = all_finite(judged, axis_name=axis_name)
        return jnp.stack([finite, *flags]).all()

    return judge


def _find_owner(
    by_keys: Mapping[tuple[Any, ...], Leaf], keys: tuple[Any, ...], value: Array
) -> Leaf | None:
    """Find the leaf that a number of a state belongs to: one of its shape at the path's end."""
    for start in range(len(keys) + 1):
        leaf = by_keys.get(keys[start:])
        if leaf is not None and leaf.value.shape == value.shape:
            return leaf
    return None
