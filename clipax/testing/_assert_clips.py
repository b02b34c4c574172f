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
from clipax.scopes import check_where, fits, name_leaves

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

    After ordinary gradients of norm `threshold` one comes whose every entry is a thousand times the
    threshold, and in a second run ten thousand times. Behind a clip the two runs are the same: the
    updates, then and in ten steps more, and the momentum.

    Args:
      optimizer: Any optax gradient transformation, most often all of the one that trains.
      params: The parameters, or others of the same structure; they do not move.
      threshold: The threshold that the clip should have, or a larger number; default 1. For one
        that adapts, the norm of ordinary gradients.
      where: Which leaves should be clipped: glob patterns on the path, or a predicate.
      steps: Ordinary steps before: more than an adaptive threshold warms up; default 120.

    Raises:
      AssertionError: The spike goes through, at once or by the momentum, with the leaves.
      ValueError: An argument is out of range, or `params` has no leaf of real numbers to test.

    Notes:
      An optimizer whose updates and momentum do not depend on the size of gradients passes. One
      with the whole gradient in its momentum does not, even if it clips the update, as
      `optax.adafactor` and `mixed_clip_sgd` do.

    Example:
      >>> import jax.numpy as jnp, optax, clipax
      >>> params = {"w": jnp.ones(3)}
      >>> optimizer = optax.chain(clipax.clip_by_global_norm(1.0), optax.adam(1e-3))
      >>> clipax.testing.assert_clips(optimizer, params)
      >>> clipax.testing.assert_clips(optax.adam(1e-3), params)
      Traceback (most recent call last):
      AssertionError: A gradient of 1000 times the threshold 1 goes through: of 1 leaves 1 ('w') ...
    """
    _validate.transformation("optimizer", optimizer)
    _validate.number("threshold", threshold, "positive and finite", lambda c: 0 < c < np.inf)
    steps = _validate.index("steps", steps, minimum=1)
    given = jax.tree.map(lambda leaf: leaf if _is_float(leaf) else None, params)
    tested = [name for name in name_leaves(given) if fits(check_where(where), name)]
    if not tested:
        raise ValueError(f"`where` must select a leaf of real numbers, got {where!r}.")
    _check_range(given, float(threshold))
    worst = _compare_spikes(optimizer, given, float(threshold), steps)
    through = [name for name in tested if not worst[name] < _TOLERANCE]
    if through:
        shown = ", ".join(map(repr, through[:3])) + (", ..." if len(through) > 3 else "")
        raise AssertionError(
            f"A gradient of {_SPIKES[0]:g} times the threshold {float(threshold):g} goes through: "
            f"of {len(tested)} leaves {len(through)} ({shown}) get another update or momentum if "
            f"it is ten times larger still. Is the clip in the chain, in front of the optimizer? "
            f"Is its threshold read from the configuration, and at most this one?"
        )


def _is_float(leaf: Any) -> bool:
    return isinstance(leaf, NUMBERS) and jnp.issubdtype(jnp.result_type(leaf), jnp.inexact)


def _check_range(params: Params, threshold: float) -> None:
    for name, leaf in _by_name(params).items():
        dtype = jnp.result_type(leaf)
        if 2 * threshold * max(_SPIKES) > float(jnp.finfo(dtype).max):
            most = float(jnp.finfo(dtype).max) / (2 * max(_SPIKES))
            raise ValueError(
                f"`threshold` must be at most {most:.2g} for a spike to be finite in the {dtype} "
                f"of {name!r}, got {threshold:g}."
            )


def _compare_spikes(
    optimizer: optax.GradientTransformation, params: Params, threshold: float, steps: int
) -> dict[str, float]:
    """Compute for each leaf how much two runs with different spikes differ, relatively."""
    direction = _draw_direction(params)
    norm = math.sqrt(sum(float(np.sum(np.abs(leaf) ** 2)) for leaf in direction.values()))
    tx = optax.with_extra_args_support(optimizer)

    @jax.jit
    def step(size: Array, state: Any, params: Params) -> tuple[Any, Any]:
        gradients = [
            jnp.asarray(unit * size, jnp.result_type(leaf))
            for unit, leaf in zip(direction.values(), jax.tree.leaves(params), strict=True)
        ]
        tree = jax.tree.unflatten(jax.tree.structure(params), gradients)
        # Some schedules and line searches ask for the loss.
        return tx.update(tree, state, params, value=jnp.ones(()))

    def ordinary(count: int) -> float:
        return threshold / norm * (1 + 0.2 * math.sin(count))

    state = tx.init(params)
    for count in range(steps):
        _, state = step(ordinary(count), state, params)
    states = [state, state]
    worst = dict.fromkeys(direction, 0.0)
    for count in range(_AFTER + 1):
        sizes = [ordinary(steps + count)] * 2 if count else [threshold * by for by in _SPIKES]
        results = [step(size, state, params) for size, state in zip(sizes, states, strict=True)]
        updates, states = ([result[part] for result in results] for part in (0, 1))
        # An update stands for each parameter, as a momentum does.
        _add_differences(worst, *(_read_mirrors(update, params) for update in updates))
    _add_differences(worst, *(_read_mirrors(state, params) for state in states))
    return worst


def _draw_direction(params: Params) -> dict[str, np.ndarray]:
    """Draw a gradient whose entries have magnitudes between 1 and 2."""
    generator = np.random.default_rng(0)
    return {
        name: generator.uniform(1, 2, jnp.shape(leaf)) * generator.choice([-1, 1], jnp.shape(leaf))
        for name, leaf in _by_name(params).items()
    }


def _by_name(tree: Any) -> dict[str, Any]:
    return dict(zip(name_leaves(tree), jax.tree.leaves(tree), strict=True))


def _read_mirrors(state: Any, params: Params) -> dict[str, list[Any]]:
    """Read the arrays of a state that stand for a parameter each: a momentum, for example."""
    arrays = _by_name(state).items()
    # A parameter by itself has no name to end with.
    alone = jax.tree_util.all_leaves([params])
    return {
        name: [
            array
            for place, array in arrays
            if (alone or f"/{place}".endswith(f"/{name}")) and jnp.shape(array) == jnp.shape(param)
        ]
        for name, param in _by_name(params).items()
    }


def _add_differences(
    worst: dict[str, float], one: dict[str, list[Any]], other: dict[str, list[Any]]
) -> None:
    """Add the relative differences of two runs to the largest so far, leaf by leaf."""
    for name, arrays in one.items():
        for a, b in zip(arrays, other[name], strict=True):
            a, b = (np.asarray(array).astype(complex) for array in (a, b))
            size = max(np.max(np.abs(part), initial=0) for part in (a, b))
            away = np.max(np.abs(a - b), initial=0)
            # Two NaN compare as different: what is not finite has gone through.
            worst[name] = max(worst[name], away / size if size != 0 else 0.0, key=_rank)


def _rank(value: float) -> float:
    return math.inf if math.isnan(value) else value
