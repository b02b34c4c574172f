"""Registers states for `jax.export`, under their public names."""

from __future__ import annotations

import contextlib
from typing import TypeVar

import jax.export

__all__ = ["exportable"]

T = TypeVar("T")


def exportable(kind: type[T]) -> type[T]:
    """Register a named tuple that states are made of: exported steps take and return them."""
    # A module that is imported again makes a second class of this name.
    with contextlib.suppress(ValueError):
        jax.export.register_namedtuple_serialization(
            kind, serialized_name=f"clipax.{kind.__name__}"
        )
    return kind
