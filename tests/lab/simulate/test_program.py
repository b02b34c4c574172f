"""The scan of a simulation carries only what the iterates depend on."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import optax

import clipax
from clipax.lab._simulate.program import find_live_leaves


def test_only_what_iterates_depend_on_is_carried():
    start = jnp.ones(2)
    paths = {
        "sgd": (clipax.clip_sgd(0.1, 1.0), []),
        # Its scale is rounded up and down by turns of the count of steps.
        "adagrad": (clipax.clip_adagrad_norm(0.1, 1.0), ["counts", "rows"]),
        "adam": (optax.adam(0.1), ["count", "mu", "nu"]),
        "schedule": (clipax.clip_sgd(lambda count: 0.1 / (count + 1), 1.0), ["count"]),
    }
    for name, (optimizer, expected) in paths.items():
        places = find_live_leaves(lambda _, one=optimizer: one, start, {})
        leaves = jax.tree.leaves_with_path(optimizer.init(start))
        assert [leaves[place][0][-1].name for place in places] == expected, name
