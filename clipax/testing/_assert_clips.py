"""A test that an optimizer clips: that its clip is there, and not only in the configuration."""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from clipax import _validate
from clipax._typing import NUMBERS, Array, Params, Scalar, Where
from clipax.scopes import (
    check_where,
    fits,
    leaves_by_name,
    name_leaves,
    refuse_unmatched,
    unit,
)

__all__ = ["assert_clips"]

_SPIKES = 1e3, 1e4
"""Two spikes, in units of the threshold. What clips makes no difference between them."""
_AFTER = 10
"""Ordinary steps behind the spike: Adam's update shows it then, not in the step itself."""
_TOLERANCE = 0.3
"""Relative difference below which two runs are the same; without a clip they differ by .9."""


def assert_clips(
    optimizer: optax.GradientTransformation,
    params: Params,
    threshold: Scalar = 1.0,
    *,
    where: Where = "*",
    steps: int = 120,
) -> None:
    """Raise unless the optimizer clips: a threshold that nobody reads is a silent fault.

    After ordinary gradients of norm `threshold` one comes of a thousand times this norm, and in a
    second run of ten thousand times. Behind a clip the two runs are the same: the updates, then and
    in ten steps more, and the momentum. One entry of each leaf spikes, so that any clip sees it.

    Args:
      optimizer: Any optax gradient transformation, most often all of the one that trains.
      params: The parameters, or others of the same structure; they do not move.
      threshold: The threshold that the clip should have, or a larger number; default 1. For one
        that adapts, the norm of ordinary gradients.
      where: Which leaves should be clipped: glob patterns on the path, or a predicate.
      steps: Ordinary steps before: more than an adaptive threshold warms up; default 120.

    Raises:
      AssertionError: The spike goes through, at once or by the momentum, or it cannot be seen, as
        the updates are all zero; with the leaves.
      ValueError: An argument is out of range, or `params` has no leaf of real numbers to test.

    Notes:
      An optimizer whose updates and momentum do not depend on the size of gradients passes, as
      `optax.novograd` does. One with the whole gradient in its momentum does not, even if it clips
      the update, as `optax.adafactor`, `stable_adamw` and `mixed_clip_sgd` do.

    Example:
      >>> import jax.numpy as jnp, optax, clipax
      >>> params = {"w": jnp.ones(3)}
      >>> optimizer = optax.chain(clipax.clip_by_global_norm(1.0), optax.adam(1e-3))
      >>> clipax.testing.assert_clips(optimizer, params)
      >>> clipax.testing.assert_clips(optax.adam(1e-3), params)
      Traceback (most recent call last):
      AssertionError: A gradient of 1000 times the threshold 1 goes through: of 1 leaves ...
    """
    _validate.transformation("optimizer", optimizer)
    _validate.number("threshold", threshold, "positive and finite", lambda c: 0 < c < np.inf)
    steps = _validate.index("steps", steps, minimum=1)
    given = jax.tree.map(lambda leaf: leaf if _is_float(leaf) else None, params)
    selection = check_where(where)
    refuse_unmatched(unit(where=selection), given)
    tested = [name for name in name_leaves(given) if fits(selection, name)]
    if not tested:
        raise ValueError(
            f"`params` must have a leaf of real numbers that `where` selects, got a tree of "
            f"{len(jax.tree.leaves(params))} leaves and {where!r}."
        )
    _check_range(given, float(threshold))
    worst = _compare_spikes(optimizer, given, float(threshold), steps)
    if still := [name for name in tested if worst[name] is None]:
        raise AssertionError(
            f"`optimizer` must move the leaves for a clip to be seen: of {_list(still, tested)} "
            f"all updates are zero. Is it frozen, the learning rate 0, or a schedule that starts "
            f"later than {steps} `steps`? `where` selects others."
        )
    # NaN compares as different.
    if through := [name for name in tested if not worst[name] < _TOLERANCE]:  # type: ignore[operator]
        raise AssertionError(
            f"A gradient of {_SPIKES[0]:g} times the threshold {float(threshold):g} goes through: "
            f"{_list(through, tested)} get another update or momentum if it is ten times larger "
            f"still. Is the clip in the chain, in front of the optimizer? Is its threshold read "
            f"from the configuration, and about this one?"
        )


def _list(names: list[str], tested: list[str]) -> str:
    """Say how many leaves, and name the first."""
    shown = ", ".join(map(repr, names[:3])) + (", ..." if len(names) > 3 else "")
    return f"of {len(tested)} leaves {len(names)} ({shown})"


def _is_float(leaf: Any) -> bool:
    if not isinstance(leaf, NUMBERS) or not jnp.size(leaf):
        return False
    return jnp.issubdtype(jnp.result_type(leaf), jnp.inexact)


def _check_range(params: Params, threshold: float) -> None:
    for name, leaf in leaves_by_name(params).items():
        dtype = jnp.result_type(leaf)
        most = float(jnp.finfo(dtype).max) / (2 * max(_SPIKES))
        if threshold > most:
            raise ValueError(
                f"`threshold` must be at most {most:.2g} for a spike to be finite in the {dtype} "
                f"of {name!r}, got {threshold:g}."
            )


def _compare_spikes(
    optimizer: optax.GradientTransformation, params: Params, threshold: float, steps: int
) -> dict[str, float | None]:
    """Compute for each leaf how much two runs with different spikes differ, relatively.

    None for a leaf that does not move, and has no momentum.
    """
    ordinary, spike = _draw(params)
    tx = optax.with_extra_args_support(optimizer)

    @jax.jit
    def step(gradients: Any, size: Array, state: Any, params: Params) -> tuple[Any, Any]:
        updates = [
            jnp.asarray(unit * size, jnp.result_type(leaf))
            for unit, leaf in zip(gradients, jax.tree.leaves(params), strict=True)
        ]
        tree = jax.tree.unflatten(jax.tree.structure(params), updates)
        # Some schedules and line searches ask for the loss.
        return tx.update(tree, state, params, value=jnp.ones(()))

    def advance(state: Any, count: int) -> tuple[Any, Any]:
        return step(ordinary, threshold * (1 + 0.2 * math.sin(count)), state, params)

    state = tx.init(params)
    for count in range(steps):
        _, state = advance(state, count)
    worst: dict[str, float | None] = dict.fromkeys(leaves_by_name(params))
    runs = [step(spike, threshold * times, state, params) for times in _SPIKES]
    for count in range(steps, steps + _AFTER + 1):
        updates, states = zip(*runs, strict=True)
        # An update stands for each parameter, as a momentum does.
        _add_differences(worst, *(_read_mirrors(update, params) for update in updates))
        runs = [advance(state, count) for state in states]
    _add_differences(worst, *(_read_mirrors(state, params) for _, state in runs))
    return worst


def _draw(params: Params) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Draw an ordinary gradient and a spike, both of norm 1."""
    generator = np.random.default_rng(0)
    shapes = [jnp.shape(leaf) for leaf in jax.tree.leaves(params)]
    ordinary = [
        generator.uniform(1, 2, shape) * generator.choice([-1, 1], shape) for shape in shapes
    ]
    spike = [np.zeros(shape) for shape in shapes]
    for leaf in spike:
        leaf.flat[:1] = 1.0

    def normalize(tree: list[np.ndarray]) -> list[np.ndarray]:
        norm = math.sqrt(sum(float(np.sum(leaf**2)) for leaf in tree))
        return [leaf / norm for leaf in tree] if norm else tree

    return normalize(ordinary), normalize(spike)


def _read_mirrors(state: Any, params: Params) -> dict[str, list[Any]]:
    """Read the arrays of a state that stand for a parameter each: a momentum, for example."""
    arrays = leaves_by_name(state).items()
    # A parameter by itself has no name to end with.
    alone = jax.tree_util.all_leaves([params])
    return {
        name: [
            array
            for place, array in arrays
            if (alone or f"/{place}".endswith(f"/{name}")) and jnp.shape(array) == jnp.shape(param)
        ]
        for name, param in leaves_by_name(params).items()
    }


def _add_differences(
    worst: dict[str, float | None], one: dict[str, list[Any]], other: dict[str, list[Any]]
) -> None:
    """Add the relative differences of two runs to the largest so far, leaf by leaf."""
    for name, arrays in one.items():
        for a, b in zip(arrays, other[name], strict=True):
            a, b = (np.asarray(array).astype(complex) for array in (a, b))
            size = max(np.max(np.abs(part), initial=0) for part in (a, b))
            if size == 0:
                continue
            away = float(np.max(np.abs(a - b)) / size)
            before = worst[name]
            # What is not finite has gone through.
            worst[name] = away if before is None or not away <= before else before
