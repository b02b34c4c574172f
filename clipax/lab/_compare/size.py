"""An estimate of the memory of a function, from its trace alone."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import jax

__all__ = ["estimate_bytes"]


def estimate_bytes(function: Callable[..., Any], *arguments: Any) -> int:
    """Add up the arrays that a function makes, each once: XLA needs less, as it reuses buffers.

    Args:
      function: what is traced; nothing is computed.
      *arguments: trees of arrays or of their shapes.

    Returns:
      The bytes, at least 1.
    """
    return max(1, sum(_list_sizes(jax.make_jaxpr(function)(*arguments).jaxpr)))


def _list_sizes(jaxpr: Any) -> Iterator[int]:
    for equation in jaxpr.eqns:
        inner = [
            getattr(value, "jaxpr", value)
            for value in equation.params.values()
            if hasattr(getattr(value, "jaxpr", value), "eqns")
        ]
        for one in inner:
            yield from _list_sizes(one)
        if not inner:
            for variable in equation.outvars:
                dtype = getattr(variable.aval, "dtype", None)
                yield math.prod(variable.aval.shape) * getattr(dtype, "itemsize", 4)
