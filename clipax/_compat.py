"""What the releases of JAX that are supported name differently, in one place.

A choice is made while a function is traced: the program is the same as without it.
"""

from __future__ import annotations

from typing import Any

import jax
from jax import lax

from clipax._typing import Array

__all__ = ["vary", "varying_axes"]


def vary(value: Array, axes: tuple[str, ...]) -> Array:
    """Mark a value as varying over manual mesh axes, over none of which it varies yet."""
    # New in jax 0.8.2, where `pvary` is deprecated.
    if hasattr(lax, "pcast"):
        return lax.pcast(value, axes, to="varying")
    return lax.pvary(value, axes)  # type: ignore[attr-defined]


def varying_axes(value: Any) -> frozenset[str]:
    """Return the manual mesh axes over which JAX knows an array to vary."""
    kind = jax.typeof(value)
    # From jax 0.10 on a type, which tells varying from reduced axes; before it a set.
    manual = getattr(kind, "manual_axis_type", None)
    return frozenset(manual.varying if manual is not None else getattr(kind, "vma", ()))
