"""Makes a gradient transformation of its functions, and checks the state that it is given."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from clipax._typing import Params, Updates
from clipax.engine._spec import ScaleByNormState
from clipax.thresholds import TimedState

__all__ = ["chain", "make_transformation"]


def make_transformation(
    init: Callable[[Params], Any],
    update: Callable[..., tuple[Updates, Any]],
    kind: type,
    *,
    remembers: Callable[[Any], Any] | None = None,
) -> optax.GradientTransformationExtraArgs:
    """Make a transformation that says so where it is given a state that is not its own.

    Training steps that were written for optax's clips, which have no state, give None, or a state
    of something else. Where nothing depends on the state but its records, as in a clip at a number,
    they get their updates, and the state that they gave.

    Args:
      init: From the parameters to the state.
      update: From `(updates, state, params, **extra)` to updates and state.
      kind: The named tuple that the state is.
      remembers: Selects of a state what updates depend on; None for all of it.
    """
    if remembers is None and kind is ScaleByNormState:
        remembers = _rules_and_memory

    def checked(
        updates: Updates, state: Any, params: Params | None = None, **extra: Any
    ) -> tuple[Updates, Any]:
        if getattr(state, "_fields", None) != kind._fields:  # type: ignore[attr-defined]
            start = init(updates)
            if remembers is None or _depends(remembers(start)):
                raise _wrong(state, kind)
            return update(updates, start, params, **extra)[0], state
        try:
            return update(updates, state, params, **extra)
        except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
            # Errors of this package name an argument in backticks.
            if "`" not in str(error) and not _fits(state, init, updates):
                raise _wrong(state, kind) from error
            raise

    return optax.GradientTransformationExtraArgs(init, checked)


def chain(*links: optax.GradientTransformation) -> optax.GradientTransformationExtraArgs:
    """Chain the links of an optimizer, which says so where it is given another's state."""
    inner = optax.with_extra_args_support(optax.chain(*links))

    def update(
        updates: Updates, state: Any, params: Params | None = None, **extra: Any
    ) -> tuple[Updates, Any]:
        if (
            not isinstance(state, tuple | list)
            or len(state) != len(links)
            or (hasattr(state, "_fields"))
        ):
            raise _wrong(state, tuple)
        return inner.update(updates, state, params, **extra)

    return optax.GradientTransformationExtraArgs(inner.init, update)


def _fits(state: Any, init: Callable[[Params], Any], updates: Updates) -> bool:
    """Tell whether the state can be one of `init`; without all gradients nothing is known."""
    if any(leaf is None for leaf in jax.tree.leaves(updates, is_leaf=lambda leaf: leaf is None)):
        return True
    found: Any = jax.tree.structure(state)
    return found == jax.tree.structure(jax.eval_shape(init, updates))


def _rules_and_memory(state: ScaleByNormState) -> tuple[Any, ...]:
    return state.rules, state.memory


def _depends(part: Any) -> bool:
    """Tell whether a part of a state has arrays, or counts time."""
    nodes = jax.tree.leaves(part, is_leaf=lambda node: isinstance(node, TimedState))
    # Placeholders for labels have no entries.
    return any(isinstance(node, TimedState) or jnp.size(node) for node in nodes)


def _wrong(state: Any, kind: type) -> ValueError:
    article = "an" if kind.__name__[0] in "AEIOU" else "a"
    return ValueError(
        f"`state` must be what `init` or the last `update` of this transformation returned "
        f"({article} {kind.__name__}): it remembers. Got {type(state).__name__}. Keep the state "
        f"between steps; of a checkpoint, restore it with `init(params)` as the target."
    )
