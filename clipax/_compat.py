"""What JAX's releases name differently, in one place, chosen when the package is imported.

A traced program is the same as if the newer name stood where these are called.
"""

from __future__ import annotations

from typing import Any

import jax
from jax import lax

from clipax._typing import Array

__all__ = ["vary", "varying_axes"]


def _pcast(value: Array, axes: tuple[str, ...]) -> Array:
    return lax.pcast(value, axes, to="varying")


vary = _pcast if hasattr(lax, "pcast") else lax.pvary
"""Mark a value as varying over manual mesh axes, over none of which it varies yet.

`pcast` is new in jax 0.8.2; `pvary`, which it replaces, is deprecated since.
"""


def varying_axes(value: Any) -> frozenset[str]:
    """Return the manual mesh axes over which JAX knows an array to vary."""
    kind = jax.typeof(value)
    # From jax 0.10 on a type, which tells varying from reduced axes; before it a set.
    manual = getattr(kind, "manual_axis_type", None)
    return frozenset(manual.varying if manual is not None else getattr(kind, "vma", ()))
