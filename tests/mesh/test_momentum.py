"""The norm of a momentum that a clip feeds, in one collective: also where its terms cancel."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

import clipax
from tests.contract.gradients import flatten
from tests.mesh import every_method as every
from tests.oracles.normalized_momentum import clip_normalized_momentum

SETTINGS = {"learning_rate": 1.0, "threshold": 2.0**20, "decay": 0.5}


def _gradients() -> dict[str, Any]:
    """By what is particular to them; all sums are exact in float32, those that cancel too."""
    draw = np.random.default_rng(0)
    whole = [
        {path: draw.integers(-8, 9, size).astype("float32") for path, size in every.LAYOUT.items()}
        for _ in range(3)
    ]
    first, small, other = whole
    bad = {**other, "bias": np.array([1, np.nan, 2, 3], "float32")}
    return {
        "first": first,
        # The old momentum is `first / 2`: what is left of it is 2^-14 of either.
        "cancels": jax.tree.map(lambda m, d: -m / 2 + d * 2.0**-14, first, small),
        "ordinary": other,
        "clipped to a millionth": jax.tree.map(lambda g: g * 2.0**40, small),
        "opposes": jax.tree.map(lambda g: -g * 2.0**40, small),
        "not a number": bad,
        "squares overflow": jax.tree.map(lambda g: g * 2.0**100, first),
        "last": small,
    }


def _mapped(where: Any) -> Any:
    tx = clipax.clip_normalized_momentum(**SETTINGS, axis_name=("data", "model"))
    start = tx.init(every.trees()[0])
    specs = every.specs_of(start)
    step = jax.shard_map(
        lambda g, s: tx.update(g, s),
        mesh=where,
        in_specs=(every.SPECS, specs),
        out_specs=(every.SPECS, specs),
    )
    return jax.jit(step, compiler_options=every.QUICK), start


def test_in_shards_as_alone_whatever_the_terms_do() -> None:
    gradients = _gradients()
    expected = clip_normalized_momentum(
        [flatten(tree) for tree in gradients.values()], every.trees()[0], **SETTINGS
    )
    alone = clipax.clip_normalized_momentum(**SETTINGS)
    step, state = _mapped(every.mesh())
    single, unsharded = (
        jax.jit(alone.update, compiler_options=every.QUICK),
        alone.init(every.trees()[0]),
    )
    for (name, gradient), wanted in zip(gradients.items(), expected, strict=True):
        update, state = step(gradient, state)
        same, unsharded = single(gradient, unsharded)
        for path, leaf in update.items():
            np.testing.assert_allclose(leaf, wanted[path], rtol=0, atol=2e-6, err_msg=name)
            np.testing.assert_allclose(leaf, same[path], rtol=0, atol=2e-6, err_msg=name)
        here, there = clipax.metrics(state, top=None), clipax.metrics(unsharded, top=None)
        assert here.keys() == there.keys()
        for key, value in here.items():
            np.testing.assert_allclose(value, there[key], rtol=2e-6, err_msg=f"{name}: {key}")
