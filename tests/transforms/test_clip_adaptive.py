"""Clips with memory, block by block: a spike or a bad leaf is its own block's; what is refused."""

from __future__ import annotations

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import clipax
from clipax import thresholds

# Named transformations, with memories short enough for a short run.
NAMED = {
    "zscore": lambda **scope: clipax.clip_by_zscore(warmup=5, **scope),
    "ema": lambda **scope: clipax.clip_by_ema(1.5, warmup=5, absolute=1e3, **scope),
    "median": lambda **scope: clipax.clip_by_median(window=20, **scope),
    "relative": lambda **scope: clipax.clip_by_param_norm(1.0, **scope),
}

LEAVES = {"a": (20, 3), "b": (20, 3), "c": (20,)}


@functools.cache
def compiled(name, scope):
    """The first state, and a compiled step that gives update, factors and state."""
    params = {path: jnp.ones(shape) for path, shape in LEAVES.items()}
    clip = NAMED[name](scope=scope)

    def step(state, gradient):
        update, state = clip.update(gradient, state, params)
        return update, state.telemetry.clip_factor, state

    return clip.init(params), jax.jit(step)


def unit_gradients(steps):
    """Gradients of which every column, and the vector, has norm 1."""
    random = np.random.default_rng(0)
    for _ in range(steps):
        gradient = {path: random.normal(size=shape) for path, shape in LEAVES.items()}
        yield {
            path: np.float32(leaf / np.linalg.norm(leaf, axis=0)) for path, leaf in gradient.items()
        }


@pytest.mark.parametrize("scope", ["leaf", "unit"])
@pytest.mark.parametrize("name", NAMED)
def test_a_spike_in_one_block_leaves_the_others_alone(name, scope):
    state, step = compiled(name, scope)
    for place, gradient in enumerate(unit_gradients(20)):
        if place == 15:
            gradient["a"][:, 1] *= 1e6
        update, factor, state = step(state, gradient)
        for path in "bc":
            np.testing.assert_array_equal(update[path], gradient[path], err_msg=path)
        assert (factor[1:] == 1).all()
        if place == 15:
            assert jnp.linalg.norm(update["a"][:, 1]) < 10
            assert factor[0] < 1e-4
            others = np.array_equal(update["a"][:, ::2], gradient["a"][:, ::2])
            assert others == (scope == "unit")
        else:
            np.testing.assert_array_equal(update["a"], gradient["a"])
            assert factor[0] == 1


@pytest.mark.parametrize("place", [2, 12])
@pytest.mark.parametrize("name", NAMED)
def test_a_bad_leaf_is_as_if_it_had_not_been(name, place):
    state, step = compiled(name, "leaf")
    gradients = list(unit_gradients(14))
    spoiled = {**gradients[0], "b": np.full((20, 3), np.nan, np.float32)}
    for gradient in gradients[:place]:
        _, _, state = step(state, gradient)
    update, _, after = step(state, spoiled)
    np.testing.assert_array_equal(update["b"], 0)
    np.testing.assert_array_equal(update["a"], spoiled["a"])
    # The leaves' rows, in the order of their names.
    for one, other in zip(
        jax.tree.leaves(state.rules.before.rows),
        jax.tree.leaves(after.rules.before.rows),
        strict=True,
    ):
        np.testing.assert_array_equal(one[1], other[1])
    for gradient in gradients[place:]:
        update, _, after = step(after, gradient)
        jax.tree.map(np.testing.assert_array_equal, update, gradient)


BAD = [
    (lambda: thresholds.zscore(0.0), "`z` must be positive and finite, got 0.0."),
    (lambda: thresholds.zscore(decay=1.0), "`decay` must be in [0, 1), got 1.0."),
    (lambda: thresholds.zscore(warmup=0), "`warmup` must be at least 1, got 0."),
    (lambda: thresholds.zscore(cut_to="soft"), "`cut_to` must be one of 'adaptive', 'hard'"),
    (lambda: thresholds.zscore(max_norm=-1.0), "`max_norm` must be positive, got -1.0."),
    (lambda: thresholds.zscore(eps=-1e-6), "`eps` must be non-negative and finite, got -1e-06."),
    (lambda: thresholds.zscore(floor=-0.1), "`floor` must be non-negative and finite, got -0.1."),
    (lambda: thresholds.zscore(restart=1.0), "`restart` must be in [0, 1), got 1.0."),
    (lambda: thresholds.ema(1.0), "`ratio` must be above 1 and finite, got 1.0."),
    (lambda: thresholds.ema(math.inf), "`ratio` must be above 1 and finite, got inf."),
    (lambda: thresholds.ema(decay=-0.1), "`decay` must be in [0, 1), got -0.1."),
    (lambda: thresholds.ema(warmup=-1), "`warmup` must be at least 0, got -1."),
    (lambda: thresholds.ema(absolute=0.0), "`absolute` must be positive, got 0.0."),
    (lambda: thresholds.ema(floor=1.0), "`floor` must be in [0, 1), got 1.0."),
    (lambda: thresholds.median(0.0), "`scale` must be positive and finite, got 0.0."),
    (lambda: thresholds.median(window=0), "`window` must be at least 1, got 0."),
    (lambda: thresholds.relative(0.0), "`clipping` must be positive and finite, got 0.0."),
    (lambda: thresholds.relative(eps=0.0), "`eps` must be positive and finite, got 0.0."),
    (lambda: clipax.clip_by_zscore(-1.0), "`z` must be positive and finite, got -1.0."),
    (lambda: clipax.clip_by_ema(0.5), "`ratio` must be above 1 and finite, got 0.5."),
    (lambda: clipax.clip_by_median(window=0), "`window` must be at least 1, got 0."),
    (lambda: clipax.clip_by_param_norm(math.nan), "`clipping` must be positive and finite"),
    (lambda: clipax.clip_by_zscore(scope="layer"), "`scope` must be one of 'global'"),
    (lambda: clipax.clip_by_param_norm(nonfinite="keep"), "`nonfinite` must be one of 'zero'"),
]


@pytest.mark.parametrize(("make", "message"), BAD, ids=[message for _, message in BAD])
def test_bad_input_says_what_was_wrong(make, message):
    with pytest.raises(ValueError, match=r".") as caught:
        make()
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(
    "make",
    [
        lambda: thresholds.zscore("2.5"),
        lambda: thresholds.zscore(warmup=2.5),
        lambda: thresholds.ema(None),
        lambda: thresholds.median(window=jnp.ones(2)),
        lambda: clipax.clip_by_param_norm(exclude=3),
    ],
)
def test_what_is_no_number_is_refused(make):
    with pytest.raises(TypeError, match="must be"):
        make()
