"""Advice on where to clip, from the states and the histories that a run leaves."""

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

STEPS = 600


def gradients(index=1.6, seed=0):
    """Gradients with Pareto norms, in two leaves."""
    random = np.random.default_rng(seed)
    norms = (1 - random.random(STEPS)) ** (-1 / index)
    return norms, of_norms(norms)


def of_norms(norms):
    norms = jnp.asarray(norms, jnp.float32)[:, None]
    return {"a": 0.6 * norms, "b": 0.8 * norms}


def all_states(optimizer, given):
    """The states after each step."""
    start = optimizer.init(jax.tree.map(lambda leaf: leaf[0], given))
    params = jax.tree.map(lambda leaf: leaf[0], given)

    def step(state, gradient):
        _, state = optimizer.update(gradient, state, params)
        return state, state

    return jax.lax.scan(step, start, given)[1]


def at(states, step=-1):
    return jax.tree.map(lambda leaf: leaf[step], states)


def after(optimizer, given):
    """The state behind all gradients."""
    return at(jax.jit(lambda given: all_states(optimizer, given))(given))


def monitored(threshold=1.02):
    return optax.chain(clipax.monitor_norms(), clipax.clip_by_global_norm(threshold))


@jax.jit
def watched(given, threshold=1.02):
    """The states of a monitor and a clip, compiled once for all tests."""
    return all_states(monitored(threshold), given)


def test_a_threshold_that_clips_nearly_every_step():
    norms, given = gradients()
    advice = clipax.advise(at(watched(given)))
    assert (advice.steps, advice.nonfinite_count) == (STEPS, 0)
    share = np.mean(norms.astype(np.float32) > 1.02)
    assert advice.clip_fraction == pytest.approx(share, abs=2e-3)
    assert advice.clip_fraction > 0.9
    assert advice.findings[0].startswith(f"{100 * advice.clip_fraction:.3g} % of 600 finite steps")
    assert "the threshold sets the step length" in advice.findings[0]
    assert advice.tail_index == pytest.approx(1.6, abs=0.4)
    assert f"Tail index about {advice.tail_index:.2g}: heavy (no variance)" in str(advice)
    spikes = np.sum(norms > 10 * np.median(norms))
    found = int(next(line for line in advice.findings if "Spikes" in line).split()[1])
    assert abs(found - spikes) <= 0.2 * spikes + 1
    for quantile, value in advice.quantiles.items():
        assert value == pytest.approx(np.quantile(norms, quantile), rel=0.06)
    assert set(advice.quantiles) == {0.5, 0.9, 0.99}
    assert advice.threshold == advice.quantiles[0.9]
    assert str(advice).splitlines() == list(advice.findings)


def test_the_proposed_threshold_clips_the_share_that_it_says():
    _, given = gradients()
    for quantile in (0.5, 0.8, 0.95):
        threshold = clipax.advise(at(watched(given)), quantile=quantile).threshold
        again = clipax.advise(at(watched(given, threshold)))
        assert again.clip_fraction == pytest.approx(1 - quantile, abs=0.05)


def test_with_the_threshold_it_asks_for_another_learning_rate():
    norms, given = gradients()
    advice = clipax.advise(norms)
    found = [line for line in advice.findings if "learning rate" in line]
    assert len(found) == 1
    assert "half the threshold takes twice the rate" in found[0]
    # Nothing of it where there is nothing to propose, and it is so: all of these are clipped.
    assert "learning rate" not in str(clipax.advise(norms[:20]))
    gradient = jax.tree.map(lambda leaf: leaf[0], given)
    one, half = (
        jax.jit(sgd.update)(gradient, sgd.init(gradient))[0]
        for sgd in (clipax.clip_sgd(0.1, 0.5), clipax.clip_sgd(0.2, 0.25))
    )
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), one, half)


def test_a_threshold_that_never_clips():
    norms = np.random.default_rng(1).uniform(1, 2, STEPS)
    advice = clipax.advise(at(watched(of_norms(norms), 50.0)))
    assert advice.clip_fraction == 0
    assert advice.findings[0] == "Never clipped in 600 finite steps: the threshold does nothing."
    assert advice.tail_index > 4
    assert "light" in str(advice)
    assert "Spikes" not in str(advice)


def test_steps_that_are_not_finite_are_reported():
    _, given = gradients()
    bad = given["a"].at[jnp.arange(0, STEPS, 40)].set(jnp.nan)
    advice = clipax.advise(at(watched({**given, "a": bad})))
    assert advice.nonfinite_count == 15
    assert "15 of 600 steps (2.5 %) not finite: look for the cause" in str(advice)
    one = given["a"].at[7].set(jnp.inf)
    advice = clipax.advise(at(watched({**given, "a": one})))
    assert "1 of 600 steps (0.167 %) not finite." in advice.findings


def test_too_few_steps_are_not_enough():
    states = watched(gradients()[1])
    advice = clipax.advise(at(states, 48))
    assert advice.threshold is None
    assert advice.tail_index is None
    assert advice.quantiles == {}
    assert "49 finite steps are too few to judge by: it takes 50." in advice.findings
    advice = clipax.advise(at(states, 49))
    assert advice.threshold is not None
    assert advice.tail_index is None
    assert "Too few norms for a tail index: it takes 500, there are 50." in advice.findings
    advice = clipax.advise(at(states, 49), quantile=0.95)
    assert advice.threshold is None
    assert "Too few norms for their quantile 0.95: there are 50." in advice.findings
    assert clipax.advise([]).threshold is None


def test_a_clip_alone_remembers_no_norms():
    _, given = gradients()
    advice = clipax.advise(after(clipax.clip_by_global_norm(1.02), given))
    assert advice.clip_fraction > 0.9
    assert advice.threshold is None
    assert "put `clipax.monitor_norms()` in front of the clip" in str(advice)


def test_a_monitor_behind_the_clip_proposes_nothing():
    _, given = gradients()
    behind = optax.chain(clipax.clip_by_global_norm(1.5), clipax.monitor_norms())
    advice = clipax.advise(after(behind, given))
    assert advice.threshold is None
    assert "behind a clip" in str(advice)
    assert 0 < advice.clip_fraction < 1


def test_a_threshold_that_remembers_all_norms_is_enough():
    norms, given = gradients()
    advice = clipax.advise(after(clipax.clip_by_percentile(20.0), given))
    assert advice.clip_fraction == pytest.approx(0.8, abs=0.05)
    assert advice.threshold == pytest.approx(np.quantile(norms, 0.9), rel=0.06)


def test_a_monitor_alone_is_enough():
    norms, given = gradients()
    advice = clipax.advise(after(clipax.monitor_norms(), given))
    assert advice.clip_fraction is None
    assert advice.threshold == pytest.approx(np.quantile(norms, 0.9), rel=0.06)
    assert "steps are clipped" not in str(advice)


def test_blocks_are_judged_together():
    norms, given = gradients()
    optimizer = optax.chain(clipax.monitor_norms(scope="leaf"), clipax.clip_by_leaf_norm(1.0))
    bad = given["a"].at[3].set(jnp.nan)
    state = after(optimizer, {**given, "a": bad})
    advice = clipax.advise(state)
    clip_fraction = clipax.metrics(state)["1/clip_fraction"]
    assert advice.clip_fraction == pytest.approx(float(clip_fraction), rel=1e-6)
    assert (advice.steps, advice.nonfinite_count) == (STEPS, 1)
    both = np.r_[0.6 * norms, 0.8 * norms]
    assert advice.threshold == pytest.approx(np.quantile(both, 0.9), rel=0.06)


def test_states_are_found_in_any_nesting():
    _, given = gradients()
    expected = clipax.advise(at(watched(given)))
    threshold = optax.inject_hyperparams(clipax.clip_by_global_norm)(threshold=1.02)
    inner = optax.chain(optax.identity(), clipax.monitor_norms(), threshold, optax.adam(0.1))
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


def test_histories_of_norms():
    norms, given = gradients()
    expected = clipax.advise(at(watched(given)))
    for history in (norms, norms.tolist(), jnp.asarray(norms), [jnp.asarray(n) for n in norms]):
        advice = clipax.advise(history)
        assert advice.clip_fraction is None
        assert advice.quantiles == expected.quantiles
        assert advice.tail_index == expected.tail_index
        assert advice.threshold == expected.threshold
    spoiled = np.insert(norms, [3, 50], [np.nan, np.inf])
    advice = clipax.advise(spoiled)
    assert (advice.steps, advice.nonfinite_count) == (602, 2)
    assert advice.threshold == expected.threshold


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
        assert ("0/grad_norm" in columns) == (name == "both")
        columns = jax.device_get(columns)
        history = [{key: column[step] for key, column in columns.items()} for step in range(STEPS)]
        advice = clipax.advise(history)
        assert (advice.steps, advice.nonfinite_count) == (STEPS, 1)
        assert advice.clip_fraction == pytest.approx(expected.clip_fraction)
        assert 0 < advice.clip_fraction < 1
        assert advice.threshold == expected.threshold
        assert advice.tail_index == expected.tail_index


def test_a_drift_of_the_scale_is_noticed():
    norms = np.exp(np.linspace(0, -5, 400))
    assert "The scale drifts" in str(clipax.advise(norms))
    assert "The scale drifts" not in str(clipax.advise(np.random.default_rng(0).uniform(1, 9, 400)))


def test_advice_is_frozen():
    advice = clipax.advise(np.ones(60))
    with pytest.raises(AttributeError):
        advice.threshold = 3.0


def test_what_cannot_be_judged_is_refused():
    for nothing in ("norms", 3.0, np.ones((3, 3)), optax.adam(0.1).init(jnp.ones(3))):
        with pytest.raises(ValueError, match="`history_or_state` must be"):
            clipax.advise(nothing)
    with pytest.raises(ValueError, match=r"must hold what `clipax\.metrics` returns"):
        clipax.advise([{"loss": 1.0}])
    with pytest.raises(ValueError, match="must not be negative, got -1"):
        clipax.advise([1.0, -1.0])
    for bad in (0, 1, 1.5):
        with pytest.raises(ValueError, match=r"`quantile` must be in \(0, 1\)"):
            clipax.advise([1.0], quantile=bad)
    many = jax.vmap(monitored().init)({"a": jnp.ones((2, 3))})
    with pytest.raises(ValueError, match="vectorised"):
        clipax.advise(many)


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
    many = jax.tree.map(lambda counts: counts * 1_000_000_000, state.rules.before)
    advice = clipax.advise(state._replace(before=many, count=jnp.int32(1_000_000_000)))
    assert advice.quantiles[0.5] == pytest.approx(2**0.5, rel=0.05)
