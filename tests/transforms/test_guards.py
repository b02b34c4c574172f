"""What guards judge: which leaves, and the gradient alone or also what is made of it."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

import clipax
from clipax import scopes
from clipax._platforms import assume_platform
from tests.thorough import thorough

PARAMS = {"train": jnp.ones(2), "frozen": jnp.ones(3)}
GOOD = jax.tree.map(jnp.ones_like, PARAMS)
FROZEN_NAN = {**GOOD, "frozen": jnp.full(3, jnp.nan)}
INNER = optax.partition(
    {"train": optax.sgd(1.0), "freeze": optax.set_to_zero()}, {"train": "train", "frozen": "freeze"}
)
GUARDS = pytest.mark.parametrize("guard", [clipax.skip_nonfinite, clipax.skip_spikes])
HOW = pytest.mark.parametrize(
    "how",
    [
        {"exclude": "frozen"},
        {"exclude": ("fro*",)},
        {"exclude": lambda path: path == "frozen"},
        {"scope": scopes.exclude("frozen", "leaf")},
        {"scope": "leaf", "exclude": "frozen", "check": "result"},
    ],
    ids=["name", "patterns", "predicate", "scope", "result"],
)


def last(guarded, *gradients, params=PARAMS, platform="cpu"):
    """The last update, and the state."""
    with assume_platform(platform):
        state, update = guarded.init(params), jax.jit(guarded.update)
        for gradient in gradients:
            updates, state = update(gradient, state, params)
    return updates, state


@GUARDS
@HOW
@pytest.mark.parametrize("platform", thorough(["cpu", "gpu"], but=["cpu"]))
def test_leaves_that_are_left_out_are_not_judged(guard, how, platform):
    updates, state = last(guard(INNER, **how), GOOD, FROZEN_NAN, platform=platform)
    np.testing.assert_array_equal(updates["train"], [-1, -1])
    assert state.skipped_count == 0
    bad = {**GOOD, "train": jnp.array([1.0, jnp.inf])}
    updates, state = last(guard(INNER, **how), GOOD, bad, platform=platform)
    np.testing.assert_array_equal(updates["train"], [0, 0])
    assert (state.skipped_count, state.nonfinite_count) == (1, 1)


@GUARDS
def test_a_pattern_without_a_leaf_is_refused(guard):
    with pytest.raises(ValueError, match=r"'frozn' fits none of 'frozen', 'train'\. A pattern"):
        guard(INNER, exclude="frozn").init(PARAMS)


def test_a_spike_of_one_block_skips_the_step():
    guarded = clipax.skip_spikes(optax.sgd(1.0), 5.0, scope="leaf")
    updates, state = last(guarded, {**GOOD, "train": jnp.array([6.0, 0.0])})
    np.testing.assert_array_equal(updates["frozen"], np.zeros(3))
    assert (state.spike_count, state.skipped_count, state.nonfinite_count) == (1, 1, 0)
    # Each block is judged by itself: together they are above 5.
    both = {"train": jnp.array([4.0, 0.0]), "frozen": jnp.array([4.0, 0.0, 0.0])}
    assert last(guarded, both)[1].skipped_count == 0


def test_a_spike_of_one_unit_skips_the_step():
    params = {"kernel": jnp.ones((3, 4))}
    guarded = clipax.skip_spikes(optax.sgd(1.0), 2.0, scope="unit")
    updates, state = last(guarded, {"kernel": jnp.ones((3, 4)).at[0, 2].set(9.0)}, params=params)
    assert state.skipped_count == 1
    assert not np.any(updates["kernel"])


HUGE = {**GOOD, "train": jnp.array([1.0, 1e30])}


@GUARDS
@pytest.mark.parametrize("platform", ["cpu", "gpu", "tpu"])
def test_a_result_that_is_not_finite_is_skipped_where_it_is_judged(guard, platform):
    # The second moment of Adam becomes infinite, and stays so.
    keywords = {} if guard is clipax.skip_nonfinite else {"threshold": jnp.inf}
    _, state = last(guard(optax.adam(0.1), **keywords), HUGE, GOOD, platform=platform)
    assert np.isinf(state.inner[0].nu["train"][1])
    guarded = guard(optax.adam(0.1), check="result", **keywords)
    first, state = last(guarded, HUGE, platform=platform)
    assert not any(np.any(leaf) for leaf in jax.tree.leaves(first))
    assert (state.skipped_count, state.nonfinite_count, bool(state.is_finite)) == (1, 1, False)
    updates, state = last(guarded, HUGE, GOOD, platform=platform)
    wanted, inner = last(optax.adam(0.1), GOOD, platform=platform)
    jax.tree.map(np.testing.assert_array_equal, (updates, state.inner), (wanted, inner))
    assert (state.skipped_count, bool(state.is_finite)) == (1, True)


@pytest.mark.parametrize("size", [1e3, 6e4])
def test_moments_in_float16_do_not_overflow_for_good(size):
    params = jnp.ones(2, jnp.float16)
    guarded = clipax.skip_nonfinite(optax.adam(0.1), check="result")
    _, state = last(guarded, jnp.full(2, size, jnp.float16), jnp.ones_like(params), params=params)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state.inner))


def test_an_update_that_is_not_finite_is_skipped():
    def update(updates, state, params=None):
        return jax.tree.map(lambda leaf: leaf / (leaf - 1), updates), state

    broken = optax.GradientTransformation(lambda params: optax.EmptyState(), update)
    updates, state = last(clipax.skip_nonfinite(broken, check="result"), GOOD)
    assert not any(np.any(leaf) for leaf in jax.tree.leaves(updates))
    assert state.skipped_count == 1


def test_infinity_that_a_state_starts_from_is_no_fault():
    plateau = clipax.skip_nonfinite(optax.contrib.reduce_on_plateau(patience=1), check="result")
    state = plateau.init(PARAMS)
    assert np.isinf(state.inner.best_value)
    for value in (jnp.array(jnp.inf), jnp.array(1.0)):
        _, state = plateau.update(GOOD, state, PARAMS, value=value)
        assert state.skipped_count == 0
    assert state.inner.best_value == 1.0


def test_shards_judge_the_result_together():
    mesh = jax.make_mesh((4,), ("x",), axis_types=(AxisType.Auto,))
    guarded = clipax.skip_nonfinite(optax.adam(0.1), check="result", axis_name="x")

    def step(gradient, params):
        return guarded.update(gradient, guarded.init(params), params)[0]

    spec = {"rows": P("x"), "all": P()}
    params = {"rows": jnp.ones(8), "all": jnp.ones(2)}
    mapped = jax.jit(jax.shard_map(step, mesh=mesh, in_specs=(spec, spec), out_specs=spec))
    updates = mapped({"rows": jnp.ones(8).at[5].set(1e30), "all": jnp.ones(2)}, params)
    assert not any(np.any(leaf) for leaf in jax.tree.leaves(updates))
    updates = mapped(params, params)
    assert all(np.all(leaf) for leaf in jax.tree.leaves(updates))


MODEL = {"weight": jnp.ones((2, 2)), "activation": jax.nn.relu}


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize(
    "tx",
    [
        clipax.skip_nonfinite(optax.adamw(0.1)),
        clipax.skip_spikes(optax.adamw(0.1), check="result"),
        clipax.with_error_feedback(clipax.clip_by_param_norm(0.1)),
        clipax.clip_by_param_norm(0.1),
        clipax.clip_adam(0.1, 1.0, weight_decay=0.1),
    ],
)
def test_a_whole_model_with_functions_among_its_leaves(tx, compiled):
    gradient = {"weight": jnp.full((2, 2), 3.0), "activation": None}
    arrays = {**MODEL, "activation": None}

    def step(gradient, state):
        return tx.update(gradient, state, MODEL)

    update, _ = (jax.jit(step) if compiled else step)(gradient, tx.init(arrays))
    wanted, _ = tx.update(gradient, tx.init(arrays), arrays)
    np.testing.assert_allclose(update["weight"], wanted["weight"], rtol=1e-6)
    assert update["activation"] is None


@GUARDS
def test_skips_in_a_row_are_counted(guard):
    bad = {**GOOD, "train": jnp.array([jnp.nan, 1.0])}
    counts = []
    state, guarded = None, guard(optax.sgd(0.1))
    for gradient in (GOOD, bad, bad, GOOD, bad):
        state = guarded.init(PARAMS) if state is None else state
        _, state = guarded.update(gradient, state, PARAMS)
        counts.append(int(state.consecutive_count))
    assert counts == [0, 1, 2, 0, 1]
    assert (state.skipped_count, state.steps) == (3, 5)


@GUARDS
def test_bad_words(guard):
    with pytest.raises(ValueError, match="`check` must be one of 'gradient', 'result'"):
        guard(optax.sgd(0.1), check="update")
    for inner in (clipax.norms.clip(1.0), clipax.thresholds.median(2.0), optax.adam):
        with pytest.raises(TypeError, match="`inner` must be an optax gradient transformation"):
            guard(inner)


@GUARDS
@pytest.mark.parametrize("check", ["gradient", "result"])
@pytest.mark.parametrize(
    "inner",
    [
        optax.chain(optax.clip_by_global_norm(1.0), optax.adam(0.1)),
        optax.chain(clipax.clip_by_global_norm(1.0), optax.adam(0.1)),
        optax.flatten(optax.adam(0.1)),
    ],
)
def test_leaves_that_are_left_out_do_not_spoil_the_others(guard, check, inner):
    guarded = guard(inner, exclude="frozen", check=check)
    updates, state = last(guarded, FROZEN_NAN, FROZEN_NAN)
    assert state.skipped_count == 0
    np.testing.assert_allclose(updates["train"], [-0.1, -0.1], rtol=1e-3)
    assert np.isfinite(updates["frozen"]).all()
