"""The threshold of the next step, read from the optimizer's state."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from clipax._states import find, unwrap
from clipax._typing import Array
from clipax.thresholds import GeometricQuantileState

__all__ = ["current_threshold"]


def current_threshold(opt_state: Any) -> Array:
    """Read the threshold of `thresholds.geometric_quantile` for the next step.

    Args:
      opt_state: An optimizer's state, however nested, with one `GeometricQuantileState` in it.

    Returns:
      The threshold, an argument of the function that `clipped_grad` returns; a scalar where the
      estimator follows the global norm.

    Raises:
      ValueError: The state holds no `GeometricQuantileState`, or several.

    Example:
      >>> import jax.numpy as jnp, clipax
      >>> from clipax import norms, thresholds
      >>> follow = norms.observe(thresholds.geometric_quantile(0.5, initial=2.0))
      >>> state = clipax.scale_by_norm(follow).init({"w": jnp.zeros(3)})
      >>> print(clipax.per_example.current_threshold(state))
      2.0
    """
    names = GeometricQuantileState._fields

    def match(fields: Mapping[str, Any]) -> tuple[Array, Iterable[str]] | None:
        return (unwrap(fields["threshold"]), ()) if set(names) == set(fields) else None

    thresholds = [item for _, item in find(opt_state, match)]
    if len(thresholds) != 1:
        raise ValueError(
            "`opt_state` must hold one state of `thresholds.geometric_quantile`, got "
            f"{len(thresholds)}."
        )
    return thresholds[0]
