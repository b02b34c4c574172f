"""The evidence of a run: from states in any nesting, and from histories."""

from __future__ import annotations

import flax.nnx as nnx
import flax.serialization
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax.training.train_state import TrainState

import clipax
from tests.diagnostics.runs import STEPS, after, at, gradients, monitored, watched


def test_states_are_found_in_any_nesting():
    _, given = gradients()
    expected = clipax.advise(at(watched(given)))
    threshold = optax.inject_hyperparams(clipax.clip_by_global_norm)(max_norm=1.02)
    inner = optax.chain(optax.identity(), clipax.monitor_norms(), threshold, optax.trace(0.9))
    masked = optax.masked(inner, {"a": True, "b": True})
    parts = optax.partition({"x": masked}, {"a": "x", "b": "x"})
    steps = optax.MultiSteps(parts, 1).gradient_transformation()
    state = after(clipax.skip_nonfinite(steps), given)
    assert clipax.advise(state) == expected
    assert clipax.advise(jax.device_get(state)) == expected
    assert clipax.advise(flax.serialization.to_state_dict(state)) == expected
    params = jax.tree.map(lambda leaf: leaf[0], given)
    train = TrainState(0, len, params, clipax.skip_nonfinite(steps), state)
    assert clipax.advise(train) == expected


def test_states_are_found_in_an_nnx_optimizer():
    _, given = gradients()

    class Model(nnx.Module):
        def __init__(self):
            self.a, self.b = nnx.Param(given["a"][0]), nnx.Param(given["b"][0])

    model = Model()
    optimizer = nnx.Optimizer(model, monitored(), wrt=nnx.Param)
    for row in range(2):
        gradient = {path: nnx.Param(leaf[row]) for path, leaf in given.items()}
        optimizer.update(model, nnx.State(gradient))
    state = at(watched(given), 1)
    for found in (optimizer, nnx.state(optimizer)):
        assert clipax.advise(found) == clipax.advise(state)
        quantiles = clipax.diagnostics.norm_quantiles(found)
        np.testing.assert_array_equal(quantiles, clipax.diagnostics.norm_quantiles(state))


def _assert_agree(of_norms, of_state):
    """A state keeps norms in bins, the tail index of which is the same."""
    assert of_norms.tail_index == pytest.approx(of_state.tail_index)
    assert of_norms.tail_interval == pytest.approx(of_state.tail_interval)
    for quantile, value in of_norms.quantiles.items():
        assert of_state.quantiles[quantile] == pytest.approx(value, rel=0.045)
    assert of_norms.threshold == pytest.approx(of_state.threshold, rel=0.09)
    assert of_norms.threshold_share == pytest.approx(of_state.threshold_share, abs=0.03)


def test_histories_of_norms():
    norms, given = gradients()
    expected = clipax.advise(at(watched(given)))
    for history in (norms, norms.tolist(), jnp.asarray(norms), [jnp.asarray(n) for n in norms]):
        advice = clipax.advise(history)
        assert advice.clip_fraction is None
        _assert_agree(advice, expected)
    spoiled = np.insert(norms, [3, 50], [np.nan, np.inf])
    advice = clipax.advise(spoiled)
    assert (advice.steps, advice.nonfinite_count) == (602, 2)
    assert advice.threshold == clipax.advise(norms).threshold


def test_histories_of_metrics():
    _, given = gradients()
    given["a"] = given["a"].at[7].set(jnp.nan)
    states = watched(given, 2.0)
    expected = clipax.advise(at(states))
    logs = {
        "both": jax.vmap(clipax.metrics)(states),
        "the clip alone": jax.vmap(lambda one: clipax.metrics(one[1]))(states),
    }
    for name, columns in logs.items():
        assert ("monitor/grad_norm" in columns) == (name == "both")
        columns = jax.device_get(columns)
        history = [{key: column[step] for key, column in columns.items()} for step in range(STEPS)]
        advice = clipax.advise(history)
        assert (advice.steps, advice.nonfinite_count) == (STEPS, 1)
        assert advice.clip_fraction == pytest.approx(expected.clip_fraction)
        assert 0 < advice.clip_fraction < 1
        _assert_agree(advice, expected)


def test_history_and_state_agree_on_blocks_of_different_scales():
    # The largest norm is far above the smallest threshold, and nothing is ever clipped.
    clip = clipax.clip_by_ema(10.0, warmup=0, absolute=float("inf"))
    given = {"large": jnp.full(1, 100.0), "small": jnp.full(1, 0.01)}
    update, state, history = jax.jit(clip.update), clip.init(given), []
    for _ in range(60):
        _, state = update(given, state)
        history.append(clipax.metrics(state))
    assert clipax.advise(history).clip_fraction == clipax.advise(state).clip_fraction == 0


def test_more_norms_than_an_integer_counts():
    monitor = clipax.monitor_norms(scope="leaf")
    params = {name: jnp.ones(2) for name in "abc"}
    _, state = monitor.update(params, monitor.init(params))
    watch = state.watch
    many = jax.tree.map(lambda counts: counts * 1_000_000_000, watch.rules)
    counts = watch.telemetry.counts * 1_000_000_000
    telemetry = watch.telemetry._replace(counts=counts)
    advice = clipax.advise(state._replace(watch=watch._replace(rules=many, telemetry=telemetry)))
    assert advice.quantiles[0.5] == pytest.approx(2**0.5, rel=0.05)
