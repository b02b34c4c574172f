"""The histogram of norms, and what is built on it: percentiles, growing thresholds, the monitor."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import clipax
from clipax import thresholds
from clipax._statistics import _histogram
from clipax.diagnostics._states import histogram_of
from clipax.thresholds import Context
from tests.oracles.quantile import order_statistic

# Long runs.
OPTIMISED = True


def follow(threshold, norms):
    """The thresholds of all steps and the last state; norms along the first axis."""

    def step(carry, norms):
        count, state = carry
        now, state = threshold.update(norms, state, Context(count))
        return (count + 1, state), now

    norms = jnp.asarray(norms, jnp.float32)
    start = (jnp.zeros((), jnp.int32), threshold.init(norms.shape[1:]))
    (_, state), found = jax.jit(lambda norms: jax.lax.scan(step, start, norms))(norms)
    return np.asarray(found), state


def sequences(steps=3000):
    random = np.random.default_rng(0)
    return {
        "heavy": random.pareto(0.7, steps) + 1,
        "decades": 10.0 ** random.uniform(-19, 19, steps),
        "drift": np.exp(np.linspace(-9, 9, steps)) * random.lognormal(0, 0.1, steps),
        "falling": np.geomspace(1e6, 1e-6, steps),
        "constant": np.full(steps, 3.0),
        "bounds": 2.0 ** (random.integers(-80, 80, steps) / 8),
        "two values": random.choice([1e-10, 1e10], steps),
    }


@pytest.mark.parametrize("name", sequences(1))
def test_quantiles_are_within_half_a_bin_for_any_sequence(name):
    norms = sequences()[name].astype(np.float32)
    histogram = _histogram.from_norms(jnp.asarray(norms))
    for share in (0.001, 0.1, 0.5, 0.9, 0.99, 1.0):
        found = float(_histogram.quantile(histogram, jnp.asarray(share)))
        ratio = found / order_statistic(norms.tolist(), share)
        assert 1 / _histogram.PRECISION - 1e-6 <= ratio <= _histogram.PRECISION + 1e-6
    assert math.isclose(_histogram.PRECISION, 2 ** (1 / 16))


def test_one_norm_after_the_other_is_all_of_them_at_once():
    norms = np.stack(list(sequences(200).values()), axis=1).astype(np.float32)
    state = _histogram.init(norms.shape[1:])
    add = jax.jit(_histogram.update)
    for row in norms:
        state = add(state, row)
    whole = _histogram.from_norms(jnp.asarray(norms.T))
    np.testing.assert_array_equal(state.cumulative, whole.cumulative)
    for column, counts in zip(norms.T, whole.cumulative, strict=True):
        # A histogram of NumPy's.
        edges = np.r_[0, 2.0 ** (np.arange(1, _histogram.BINS) / 8 - 64), np.inf].astype(np.float32)
        np.testing.assert_array_equal(np.histogram(column, edges)[0].cumsum(), counts)


def test_what_is_out_of_range_counts_at_the_ends():
    norms = jnp.array([0.0, 1e-45, 1e-30, 1e30, 3.4e38, jnp.inf, jnp.nan])
    counts = np.asarray(_histogram.from_norms(norms).cumulative)
    assert (counts[0], counts[-2], counts[-1]) == (3, 3, 5)
    state = _histogram.init(())
    for norm in norms[:5]:
        state = jax.jit(_histogram.update)(state, norm)
    np.testing.assert_array_equal(state.cumulative, counts)
    assert _histogram.quantile(state, jnp.asarray(0.5)) == pytest.approx(2.0**-64, rel=0.05)
    assert _histogram.quantile(state, jnp.asarray(0.9)) == pytest.approx(2.0**64, rel=0.05)


def test_a_full_count_stands_still():
    most = np.iinfo(np.int32).max
    state = _histogram.HistogramState(jnp.full(_histogram.BINS, most - 1, jnp.int32))
    for _ in range(3):
        state = jax.jit(_histogram.update)(state, jnp.float32(1.0))
    assert _histogram.total(state) == most
    assert (np.diff(np.asarray(state.cumulative)) >= 0).all()
    assert (np.asarray(state.cumulative) >= most - 1).all()


def test_norms_above_another_are_counted_by_bins():
    norms = jnp.asarray(2.0 ** np.arange(-3, 6), jnp.float32)
    state = _histogram.from_norms(norms)
    assert _histogram.count_above(state, jnp.float32(0.01)) == 9
    assert _histogram.count_above(state, jnp.float32(1.01)) == 5
    assert _histogram.count_above(state, jnp.float32(1e30)) == 0


@pytest.mark.parametrize(("percentile", "window"), [(10.0, 100), (50.0, 1), (97.5, 7)])
def test_a_percentile_is_exact_first_and_close_later(percentile, window):
    norms = np.random.default_rng(1).lognormal(sigma=2, size=300).astype(np.float32)
    found, state = follow(thresholds.percentile(percentile, window=window), norms)
    for step, threshold in enumerate(found):
        exact = order_statistic(norms[: step + 1].tolist(), percentile / 100)
        if step < window:
            assert threshold == np.float32(exact)
        else:
            assert abs(np.log2(threshold / exact)) <= 1 / 16 + 1e-6
    np.testing.assert_array_equal(state.ordered, np.sort(norms[:window]))


def test_a_percentile_forgets_nothing():
    norms = np.r_[np.full(900, 1.0), np.full(300, 100.0)]
    found, _ = follow(thresholds.percentile(50.0, window=100), norms)
    assert found[-1] == pytest.approx(1, rel=0.05)
    windowed, _ = follow(thresholds.quantile(0.5, window=100), norms)
    assert windowed[-1] == 100


def test_the_default_percentile_clips_nine_steps_in_ten():
    random = np.random.default_rng(2)
    gradients = jnp.asarray(random.normal(size=(400, 5)), jnp.float32)
    clip = clipax.clip_by_percentile(window=200)

    def step(state, gradient):
        update, state = clip.update(gradient, state)
        return state, update

    state, updates = jax.jit(lambda: jax.lax.scan(step, clip.init(gradients[0]), gradients))()
    assert clipax.metrics(state)["clip_fraction"] == pytest.approx(0.9, abs=0.04)
    kept = (updates == gradients).all(axis=1)
    assert 0 < kept.mean() < 0.2
    assert kept[0]


def test_percentiles_are_checked():
    for bad in (0, 100, -1.0, float("nan")):
        with pytest.raises(ValueError, match=r"`percentile` must be in \[1, 100\), in percent"):
            clipax.clip_by_percentile(bad)
    with pytest.raises(ValueError, match="`window` must be at least 1, got 0"):
        thresholds.percentile(window=0)


REGIMES = {"design": lambda a: 1 / (2 * a), "convex": lambda a: 1 / a}


@pytest.mark.parametrize("regime", REGIMES)
def test_the_exponent_of_pareto_norms_is_found(regime):
    steps, index = 10_000, 1.5
    uniform = np.random.default_rng(3).random((steps, 4))
    norms = (1 - uniform) ** (-1 / index)
    found, state = follow(thresholds.tail_power(2.0, regime), norms)
    exponent = np.log(found[-1] / 2.0) / np.log(steps)
    # Of the index within .1, which is what 500 norms of tail are good for.
    tolerance = np.abs(REGIMES[regime](index + 0.15) - REGIMES[regime](index))
    np.testing.assert_allclose(exponent, REGIMES[regime](index), atol=tolerance)
    for block in range(4):
        alpha = float(_histogram.tail_index(_histogram.HistogramState(state.cumulative[block])))
        known = thresholds.power(2.0, alpha, regime)(steps - 1)
        assert found[-1, block] == pytest.approx(float(known), rel=1e-5)


def test_a_tail_index_of_two_is_taken_during_the_warmup_and_for_light_tails():
    norms = np.abs(np.random.default_rng(4).normal(size=600)) + 1
    heavy = (1 - np.random.default_rng(4).random(600)) ** (-1 / 1.3)
    schedule = np.array([float(thresholds.power(3.0, 2.0)(step)) for step in range(600)])
    for given, steps in ((norms, 600), (heavy, 499), (np.ones(600), 600)):
        found, _ = follow(thresholds.tail_power(3.0, warmup=500), given)
        np.testing.assert_allclose(found[:steps], schedule[:steps], rtol=1e-5)
    assert found[-1] == pytest.approx(schedule[-1])
    grown, _ = follow(thresholds.tail_power(3.0, warmup=500), heavy)
    assert (grown[499:] > 1.1 * schedule[499:]).all()


def test_without_a_scale_it_is_the_median():
    norms = np.random.default_rng(5).lognormal(size=50)
    found, _ = follow(thresholds.tail_power(), norms)
    for step in (0, 1, 20, 49):
        median = order_statistic(norms[: step + 1].tolist(), 0.5)
        assert abs(np.log2(found[step] / (median * (step + 1) ** 0.25))) <= 1 / 16 + 1e-5


def test_options_of_the_growing_threshold_are_checked():
    for keywords, name in (
        ({"sigma": 0.0}, "sigma"),
        ({"regime": "concave"}, "regime"),
        ({"warmup": 0}, "warmup"),
        ({"fraction": 1.0}, "fraction"),
    ):
        with pytest.raises(ValueError, match=f"`{name}` must be"):
            thresholds.tail_power(**keywords)


GRADIENT = {"a": jnp.array([3.0, 4.0]), "b": jnp.array(12.0)}


@pytest.mark.parametrize(
    ("scope", "value"), [("global", jnp.nan), ("leaf", -jnp.inf), ("unit", jnp.inf)]
)
def test_a_monitor_passes_what_is_not_finite_and_forgets_it(scope, value):
    monitor = clipax.monitor_norms(scope=scope)
    update = jax.jit(monitor.update)
    _, before = update(GRADIENT, jax.jit(monitor.init)(GRADIENT))
    bad = {**GRADIENT, "a": jnp.array([3.0, value])}
    passed, after = update(bad, before)
    for path, leaf in bad.items():
        np.testing.assert_array_equal(passed[path], leaf)
    assert clipax.metrics(after)["nonfinite_count"] == 1
    assert not clipax.metrics(after)["is_finite"]
    grown = int(_histogram.total(histogram_of(after)) - _histogram.total(histogram_of(before)))
    assert grown == (0 if scope == "global" else 1)


def test_a_monitor_that_guards_zeroes_the_block():
    monitor = clipax.monitor_norms(scope="leaf", nonfinite="zero")
    bad = {**GRADIENT, "a": jnp.array([3.0, jnp.nan])}
    passed, _ = jax.jit(monitor.update)(bad, monitor.init(bad))
    np.testing.assert_array_equal(passed["a"], [0, 0])
    np.testing.assert_array_equal(passed["b"], 12)


def test_a_monitor_sees_what_stands_before_it():
    clip = clipax.clip_by_global_norm(1.0)
    monitor = clipax.monitor_norms()
    for links, seen in (((monitor, clip), 13.0), ((clip, monitor), 1.0)):
        optimizer = optax.chain(*links)
        _, state = jax.jit(optimizer.update)(GRADIENT, optimizer.init(GRADIENT))
        assert clipax.metrics(state)["monitor/grad_norm"] == pytest.approx(seen)
        median = clipax.diagnostics.norm_quantiles(state, (0.5,))[0]
        assert median == pytest.approx(seen, rel=0.05)


def test_a_monitor_watches_shards_as_one():
    mesh = jax.make_mesh((2,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    monitor = clipax.monitor_norms(axis_name="data")
    spec = jax.sharding.PartitionSpec("data")

    def step(gradient):
        passed, state = monitor.update(gradient, monitor.init(gradient))
        return passed, state.watch.telemetry.grad_norm, state.watch.rules.before

    gradient = jnp.array([3.0, 4.0])
    none = jax.sharding.PartitionSpec()
    sharded = jax.shard_map(step, mesh=mesh, in_specs=spec, out_specs=(spec, none, none))
    passed, norm, rows = jax.jit(sharded)(gradient)
    np.testing.assert_array_equal(passed, gradient)
    assert norm == 5
    expected = _histogram.from_norms(jnp.array([5.0]))
    np.testing.assert_array_equal(histogram_of(rows).cumulative, expected.cumulative)
