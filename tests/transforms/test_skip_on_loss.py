"""Steps are skipped by their loss, too, as the trainers of language models do."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

import clipax
from clipax import thresholds
from clipax._platforms import assume_platform
from tests.oracles.deviation import Deviation
from tests.thorough import thorough

PARAMS = {"w": jnp.array([1.0, -2.0])}
ADAM = optax.adam(0.1)
WINDOW = 16
BOTH = clipax.skip_spikes(
    ADAM, thresholds.deviation(window=WINDOW), loss=thresholds.deviation(window=WINDOW)
)
BY_LOSS = clipax.skip_spikes(ADAM, math.inf, loss=5.0)


def of_norm(size: Any) -> Any:
    return {"w": jnp.array([0.6, 0.8]) * size}


@functools.cache
def compiled(optimizer: Any, platform: str = "cpu") -> Any:
    def update(gradient: Any, state: Any, params: Any, loss: Any) -> Any:
        with assume_platform(platform):
            return optimizer.update(gradient, state, params, value=loss)

    return jax.jit(update)


def run(
    optimizer: Any, sizes: Sequence[float], losses: Sequence[Any], platform: str = "cpu"
) -> tuple[Any, Any, list[bool]]:
    """Parameters and state at the end, and which steps were taken."""
    params, state, counts = PARAMS, optimizer.init(PARAMS), [0]
    for size, loss in zip(sizes, losses, strict=True):
        updates, state = compiled(optimizer, platform)(of_norm(size), state, params, loss)
        params = jax.tree.map(np.add, params, updates)
        counts.append(int(clipax.metrics(state)["skipped_count"]))
    return params, state, list(np.diff(counts) == 0)


def taken(optimizer: Any, losses: Sequence[Any]) -> list[bool]:
    return run(optimizer, [1.0] * len(losses), losses)[2]


def sequence(steps: int, level: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Norms and losses that fall and wander, with spikes of one, of the other and of both."""
    random = np.random.default_rng(seed)
    losses = level + 3 * np.exp(-np.arange(steps) / 50) + 0.1 * random.standard_normal(steps)
    norms = np.exp(0.2 * random.standard_normal(steps))
    losses[[40, 90, 91, 150]] += [2.0, 50.0, 1.0, 3e4]
    norms[[60, 90, 120]] *= [9.0, 1e4, 30.0]
    losses[100], norms[110], norms[130] = np.nan, np.inf, 0.0
    return norms, losses


@pytest.mark.parametrize("level", thorough([2.0, 0.0, -7.0, 1e4], but=[0.0, -7.0]))
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_every_step_is_that_of_the_oracle(level: float, dtype: Any) -> None:
    norms, losses = sequence(200, level)
    given = [jnp.asarray(loss, dtype) for loss in losses]
    of_norm_, of_loss, wanted, row = Deviation(window=WINDOW), Deviation(window=WINDOW), [], 0
    counts = np.zeros(4, int)  # spikes of the loss, of the norm, of either, skipped
    for size, loss in zip(norms, map(float, given), strict=True):
        finite = math.isfinite(size)
        by_norm = finite and size > of_norm_.limit()
        by_loss = not loss <= of_loss.limit() or math.isinf(loss)
        if finite and size > 0:
            of_norm_.remember(size)
        if math.isfinite(loss) and loss != 0:
            of_loss.remember(loss)
        spike = by_norm or by_loss
        if finite and (size > 0 or by_loss):
            row = row + 1 if spike else 0
        skipped = not finite or (spike and row <= 25)
        wanted.append(not skipped)
        counts += [by_loss, by_norm, finite and spike, skipped]
    _, state, steps = run(BOTH, norms, given)
    assert steps == wanted
    found = clipax.metrics(state)
    names = "loss_spike_count", "norm_spike_count", "spike_count", "skipped_count"
    assert [int(found[name]) for name in names] == list(counts)
    assert 2 <= counts[0] < 20
    assert 2 <= counts[1] < 20
    np.testing.assert_allclose(found["loss_threshold"], of_loss.limit(), rtol=0.05, atol=0.2)


def test_without_spikes_the_limit_is_that_of_the_trainers() -> None:
    norms = np.exp(0.2 * np.random.default_rng(1).standard_normal(300))
    rule = thresholds.deviation()
    trainers, state = Deviation(floor=0.0, whole=True), rule.init(())
    update = jax.jit(rule.update)
    for norm in norms:
        context = thresholds.Context(jnp.array(0))
        limit, state = update(jnp.asarray(norm, jnp.float32), state, context)
        np.testing.assert_allclose(limit, trainers.limit(), rtol=1e-5)
        trainers.remember(norm)
    # One spike, and theirs passes over others of half its size; ours does not.
    _, state = update(jnp.float32(1e6), state, context)
    trainers.remember(1e6)
    assert trainers.limit() > 4e5
    assert update(jnp.float32(1.0), state, context)[0] < 10


@pytest.mark.parametrize("platform", ["cpu", "gpu"])
@pytest.mark.parametrize("bad", [6.0, 1e38, np.nan, np.inf, -np.inf])
def test_a_spike_of_the_loss_leaves_no_trace(bad: float, platform: str) -> None:
    params, state, steps = run(BY_LOSS, [1.0, 2.0, 1.5], [1.0, 2.0, bad], platform)
    expected, before, _ = run(BY_LOSS, [1.0, 2.0], [1.0, 2.0], platform)
    chex.assert_trees_all_equal(params, expected)
    chex.assert_trees_all_equal(state.inner, before.inner)
    assert steps == [True, True, False]
    assert (state.skipped_count, state.spike_count, state.nonfinite_count) == (1, 1, 0)


def test_a_loss_that_is_no_number_stops_no_run_for_ever() -> None:
    guarded = clipax.skip_spikes(optax.identity(), math.inf, loss=5.0, max_consecutive=3)
    row = [False] * 3
    assert taken(guarded, [1.0, *[np.nan] * 5, 1.0, 9.0]) == [True, *row, True, True, True, False]


def test_a_new_level_of_the_loss_is_accepted() -> None:
    rule = thresholds.deviation()
    guarded = clipax.skip_spikes(optax.identity(), math.inf, loss=rule, max_consecutive=1000)
    random = np.random.default_rng(0)
    losses = 2 + 0.1 * random.standard_normal(300)
    losses[150:] += 18  # ten times the level, 180 deviations
    steps = taken(guarded, losses)
    assert all(steps[:150])
    skipped = steps[150:].index(True)
    assert 5 < skipped < 60
    assert all(steps[150 + skipped :])


def test_the_loss_that_is_missing_or_no_number() -> None:
    state = BY_LOSS.init(PARAMS)
    with pytest.raises(ValueError, match=r"`value` must be given .* `update\(updates, state, "):
        BY_LOSS.update(PARAMS, state, PARAMS)
    with pytest.raises(ValueError, match=r"`value` must be a scalar, .* got the shape \(2,\)"):
        BY_LOSS.update(PARAMS, state, PARAMS, value=jnp.ones(2))
    with pytest.raises(TypeError, match="`loss` must be a real number, got an array of complex64"):
        BY_LOSS.update(PARAMS, state, PARAMS, loss=jnp.ones((), jnp.complex64))
    with pytest.raises(TypeError, match="`loss` must be a number"):
        clipax.skip_spikes(ADAM, loss=True)
    with pytest.raises(ValueError, match="`loss` must not depend on the parameters"):
        clipax.skip_spikes(ADAM, loss=thresholds.relative())


def test_two_different_losses_are_refused() -> None:
    state = BY_LOSS.init(PARAMS)
    with pytest.raises(ValueError, match=r"`value` and `loss` are two names .* got 1.0 and 9.0"):
        BY_LOSS.update(of_norm(1.0), state, PARAMS, value=1.0, loss=9.0)
    loss = jnp.array(9.0)  # one loss under both names is no question
    _, state = BY_LOSS.update(of_norm(1.0), state, PARAMS, value=loss, loss=loss)
    assert int(clipax.metrics(state)["loss_spike_count"]) == 1


@pytest.mark.parametrize("name", ["value", "loss"])
@pytest.mark.parametrize("loss", [9, 9.0, np.float64(9), jnp.bfloat16(9)])
def test_the_names_of_optax_and_of_the_trainers(name: str, loss: Any) -> None:
    updates, state = BY_LOSS.update(PARAMS, BY_LOSS.init(PARAMS), PARAMS, **{name: loss})
    assert clipax.metrics(state)["loss_spike_count"] == 1
    assert not np.any(updates["w"])


def test_the_loss_goes_on_to_what_is_inside() -> None:
    inner = optax.chain(optax.sgd(1.0), optax.contrib.reduce_on_plateau(patience=1, cooldown=0))
    guarded = clipax.skip_spikes(inner, loss=5.0)
    _, state, _ = run(guarded, [1.0] * 4, [2.0, 9.0, 2.0, 1.0])
    assert state.inner[1].best_value == 1.0


def test_schedules_count_skipped_steps() -> None:
    guarded = clipax.skip_spikes(optax.identity(), loss=lambda count: 1.0 + count)
    assert taken(guarded, [2.5, 2.5, 2.5, 9.0, 4.5]) == [False, False, True, False, True]


def test_in_a_chain_in_a_scan_and_for_many_seeds() -> None:
    norms, losses = sequence(200, 2.0)
    optimizer = optax.chain(BOTH, optax.scale(0.5))

    def follow(losses: Any) -> Any:
        def step(state: Any, given: Any) -> Any:
            size, loss = given
            updates, state = optimizer.update(of_norm(size), state, PARAMS, value=loss)
            return state, updates["w"]

        return jax.lax.scan(step, optimizer.init(PARAMS), (jnp.asarray(norms), losses))

    wanted = run(BOTH, norms, losses)[1]
    state, updates = jax.jit(follow)(jnp.asarray(losses))
    assert state[0].skipped_count == wanted.skipped_count
    states, many = jax.jit(jax.vmap(follow))(jnp.stack([losses, losses + 1e3 * (losses > 10)]))
    np.testing.assert_allclose(many[0], updates, rtol=1e-5, atol=1e-7)
    found = jax.vmap(clipax.metrics)(states)
    np.testing.assert_array_equal(found["loss_spike_count"][0], state[0].loss.spikes[0])


@pytest.mark.parametrize("tracked", [True, False])
def test_all_devices_skip_by_the_loss_that_they_share(tracked: bool) -> None:
    mesh = jax.make_mesh((4,), ("x",), axis_types=(AxisType.Auto,))
    axes = "x" if tracked else {"*": "x"}
    guarded = clipax.skip_spikes(optax.trace(0.5), loss=2.0, axis_name=axes)

    def train(gradients: Any, losses: Any) -> Any:
        def step(state: Any, given: Any) -> Any:
            gradient, loss = given
            updates, state = guarded.update(gradient, state, value=jax.lax.pmean(loss[0], "x"))
            return state, updates

        return jax.lax.scan(step, guarded.init(gradients[0]), (gradients, losses))[1]

    gradients = jnp.ones((3, 8))
    losses = jnp.ones((3, 4)).at[1, 2].set(9.0)  # the mean is 3
    sharded = jax.shard_map(
        train,
        mesh=mesh,
        in_specs=(P(None, "x"), P(None, "x")),
        out_specs=P(None, "x"),
        check_vma=tracked,
    )
    found = jax.jit(sharded)(gradients, losses)
    np.testing.assert_array_equal(found, np.array([1.0, 0.0, 1.5])[:, None] * np.ones((3, 8)))


def test_around_and_inside_multi_steps() -> None:
    losses, sizes = [1.0, 9.0, 2.0, 1.0, 1.5], [1.0] * 5
    around = clipax.skip_spikes(optax.MultiSteps(ADAM, 2), loss=5.0)
    params, state, steps = run(around, sizes, losses)
    expected, wanted, _ = run(around, sizes[:4], [1.0, 2.0, 1.0, 1.5])
    chex.assert_trees_all_equal(params, expected)
    chex.assert_trees_all_equal(state.inner, wanted.inner)
    assert steps == [True, False, True, True, True]
    # Inside, the average gradient is judged by the loss of its last part.
    inside = optax.MultiSteps(clipax.skip_spikes(ADAM, loss=5.0), 2)
    _, state, _ = run(inside, sizes[:4], [9.0, 1.0, 1.0, 9.0])
    assert clipax.metrics(state)["loss_spike_count"] == 1


def test_hyperparameters_may_be_injected() -> None:
    make = optax.inject_hyperparams(clipax.skip_spikes, static_args=("inner",))
    injected = make(inner=optax.identity(), threshold=math.inf, loss=5.0)
    _, state, steps = run(injected, [1.0] * 3, [1.0, 9.0, 4.0])
    assert steps == [True, False, True]
    assert state.hyperparams["loss"] == 5.0


def test_the_state_goes_on_where_the_loss_comes_in() -> None:
    _, old, _ = run(BY_LOSS, [1.0, 2.0, 1.0], [1.0, 9.0, 1.0])
    same = clipax.carry_over(old, BY_LOSS.init(PARAMS))
    chex.assert_trees_all_equal(same.state, old)
    assert not same.started
    without = clipax.skip_spikes(ADAM, math.inf)
    back = clipax.carry_over(old, without.init(PARAMS))
    assert back.dropped == ("loss",)
    again = clipax.carry_over(back.state, BY_LOSS.init(PARAMS))
    assert again.started == ("loss",)
    assert again.state.skipped_count == 1
    chex.assert_trees_all_equal(again.state.inner, old.inner)


def test_metrics_without_a_loss_have_no_key_of_it() -> None:
    found = clipax.metrics(clipax.skip_spikes(ADAM).init(PARAMS))
    assert "spike_count" in found
    assert not [name for name in found if "loss" in name or name.startswith("norm_")]
    clipped = clipax.skip_spikes(clipax.clip_sgd(0.1, 1.0), loss=5.0)
    _, state, _ = run(clipped, [1.0, 2.0], [1.0, 9.0])
    found = clipax.metrics(state)
    assert (found["loss_spike_count"], found["norm_spike_count"]) == (1, 0)
    assert (found["loss_threshold"], found["threshold"]) == (5, 1)


PARAMETERS = {"adam": jnp.ones(2), "muon": jnp.ones((2, 2))}
GROUPS = {"adam": "adam", "muon": "muon"}


def grouped(**of_adam: Any) -> Any:
    branches = {"adam": clipax.skip_spikes(ADAM, 5.0, **of_adam), "muon": optax.sgd(1.0)}
    return optax.partition(branches, GROUPS)


@pytest.mark.parametrize("loss", [1.0, 9.0])
def test_inside_a_partition_one_group_is_skipped_and_judged_by_its_own(loss: float) -> None:
    # As Megatron's threshold should: the norm of Muon's matrices says nothing of Adam's.
    optimizer = grouped(loss=5.0)
    state, update = optimizer.init(PARAMETERS), jax.jit(optimizer.update)
    spiked = {"adam": jnp.ones(2), "muon": jnp.full((2, 2), 1e6)}
    updates, state = update(spiked, state, PARAMETERS, value=loss)
    assert np.all(updates["muon"] == -1e6)
    assert np.any(updates["adam"]) == (loss < 5)
    updates, state = update(
        {"adam": jnp.full(2, 1e6), "muon": jnp.ones((2, 2))}, state, PARAMETERS, value=1.0
    )
    assert np.all(updates["muon"] == -1.0)
    assert not np.any(updates["adam"])
    assert clipax.metrics(state)["norm_spike_count"] == 1
    assert clipax.metrics(state)["loss_spike_count"] == (loss > 5)
