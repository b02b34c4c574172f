"""Thresholds at quantiles of the norms: ranks, memory, privacy noise."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import clipax
from clipax import thresholds
from clipax._statistics import _window
from clipax.thresholds import Context


def follow(threshold, norms, example_norms=None):
    """The thresholds of all steps and the states after them; norms along the first axis."""

    def step(carry, given):
        count, state = carry
        norms, examples = given
        now, state = threshold.update(norms, state, Context(count, None, examples))
        return (count + 1, state), (now, state)

    norms = jnp.asarray(norms)
    start = (jnp.zeros((), jnp.int32), threshold.init(norms.shape[1:]))
    run = jax.jit(lambda *given: jax.lax.scan(step, start, given)[1])
    return run(norms, example_norms)


@pytest.mark.parametrize(
    ("share", "window"),
    [(0.1, 30), (0.25, 100), (0.5, 1), (0.7, 7), (0.99, 100)],
)
def test_the_threshold_is_an_order_statistic(share, window):
    norms = np.random.default_rng(0).lognormal(size=150).astype(np.float32)
    found, _ = follow(thresholds.quantile(share, window=window), norms)
    for step, threshold in enumerate(found):
        last = norms[max(0, step + 1 - window) : step + 1]
        # In exact arithmetic: hundredths of the number of norms, rounded up.
        rank = -(-round(100 * share) * len(last) // 100)
        assert threshold == np.sort(last)[rank - 1]
        assert threshold in last


@pytest.mark.parametrize("share", [0.25, 0.5, 0.875])
def test_the_threshold_is_numpys_quantile(share):
    norms = np.random.default_rng(1).lognormal(size=64).astype(np.float32)
    found, _ = follow(thresholds.quantile(share, window=64), norms)
    expected = [
        np.quantile(norms[: step + 1], share, method="inverted_cdf") for step in range(len(norms))
    ]
    np.testing.assert_array_equal(found, expected)


def test_it_lags_more_on_norms_that_fall_than_on_norms_that_rise():
    steps = np.arange(300)
    spread = np.random.default_rng(0).uniform(0.9, 1.1, 300)
    norms = np.stack(
        [
            spread * np.where(steps < 150, 1.0, 0.1),
            spread * np.where(steps < 150, 1.0, 10.0),
            0.99**steps,
        ],
        axis=1,
    )
    found, _ = follow(thresholds.quantile(0.9), norms)
    clipped = norms > np.asarray(found) * (1 + 1e-6)
    assert (found[150:239, 0] > 0.85).all()
    assert not clipped[150:239, 0].any()
    assert found[239, 0] < 0.12
    assert clipped[239:, 0].any()
    # As long as those that have risen are no more than a tenth of the window.
    assert (found[150:160, 1] < 1.2).all()
    assert clipped[150:160, 1].all()
    assert found[160, 1] > 8
    np.testing.assert_allclose(found[299, 2] / norms[299, 2], 0.99**-89, rtol=1e-4)
    assert round(0.99**-89, 1) == 2.4


def test_whole_ranks_do_not_tip_up_in_either_precision():
    shares = [number / 1000 for number in range(1, 1000)]
    for x64 in (False, True):
        with jax.enable_x64(x64):
            share, count = jnp.asarray(shares, float)[:, None], jnp.arange(1, 1001)
            ranks = jax.jit(_window.rank)(share, count)
        # Thousandths times whole numbers, rounded up: exact in integers.
        exact = -(-np.arange(1, 1000)[:, None] * np.arange(1, 1001) // 1000)
        np.testing.assert_array_equal(ranks, exact)


def test_a_quantile_clips_its_share_of_the_steps():
    norms = np.random.default_rng(2).lognormal(sigma=2, size=2000).astype(np.float32)
    found, _ = follow(thresholds.quantile(0.8, window=100), norms)
    assert np.mean(norms > found) == pytest.approx(0.2, abs=0.03)
    largest, _ = follow(thresholds.quantile(0.995, window=100), norms)
    assert (norms <= largest).all()


def test_a_quantile_of_zeros_is_infinite_and_the_next_norm_is_the_first():
    found, _ = follow(thresholds.quantile(0.5, window=10), np.r_[np.zeros(10), np.ones(10)])
    np.testing.assert_array_equal(found, np.r_[np.full(10, np.inf), np.ones(10)])


def test_a_schedule_of_quantiles_moves_up():
    norms = np.random.default_rng(3).lognormal(size=400).astype(np.float32)
    schedule = thresholds.quantile_schedule(0.2, 0.5)
    assert float(schedule(0)) == pytest.approx(0.2)
    found, _ = follow(thresholds.quantile(schedule, window=50), norms)
    for step in (60, 200, 399):
        rank = int(np.ceil(50 * (1 - 0.8 * (step + 1) ** -0.5)))
        assert found[step] == np.sort(norms[step - 49 : step + 1])[rank - 1]
    # At t = (50 * .8)^2 = 1600 the window has no higher quantile than its largest norm.
    late = _window.rank(schedule(1601), jnp.asarray(50))
    early = _window.rank(schedule(1500), jnp.asarray(50))
    assert (int(early), int(late)) == (49, 50)


@pytest.mark.parametrize(("value", "rank"), [(-1.0, 1), (jnp.nan, 1), (2.0, 10)])
def test_a_schedule_may_overshoot(value, rank):
    found, _ = follow(thresholds.quantile(lambda count: value, window=10), np.arange(1.0, 11.0))
    assert found[-1] == rank


def test_fixed_quantiles_keep_a_bias_and_increasing_ones_do_not():
    # Skewed noise with a mean of zero; the step is clipped at the quantile of |x + noise|.
    noise = np.random.default_rng(4).exponential(size=(16, 4000)) - 1

    def end(quantile):
        optimizer = clipax.quantile_clip_sgd(
            lambda count: 0.5 / (1 + count) ** 0.75, quantile, window=50
        )

        def run(noise):
            def step(carry, noise):
                x, state = carry
                updates, state = optimizer.update(x + noise, state, x)
                return (optax.apply_updates(x, updates), state), None

            start = jnp.zeros(())
            return jax.lax.scan(step, (start, optimizer.init(start)), noise)[0][0]

        return float(jnp.mean(jax.jit(jax.vmap(run))(jnp.asarray(noise, jnp.float32))))

    fixed = end(0.5)
    increasing = end(thresholds.quantile_schedule(0.5, 0.4))
    assert abs(fixed) > 0.1
    assert abs(increasing) < abs(fixed) / 4


def lognormal(rounds, count, median, seed=0):
    return np.random.default_rng(seed).lognormal(np.log(median), 1.0, (rounds, count))


@pytest.mark.parametrize("noise", [None, 5.0])
def test_the_median_is_found_from_a_hundredth_of_it(noise):
    examples = jnp.asarray(lognormal(400, 100, 10.0), jnp.float32)
    threshold = thresholds.geometric_quantile(0.5, initial=0.1, noise=noise)
    found, _ = follow(threshold, np.ones(400), examples)
    assert found[0] == np.float32(0.1)
    assert found[40] < 9  # it takes its time: 10 % a round
    assert np.abs(found[79] / 10 - 1) < 0.1
    assert np.abs(np.log(found[100:] / 10)).mean() < 0.1


def test_noise_of_the_count_is_what_it_says():
    # All records within: b = 1 + N(0, s^2)/m, and the logarithm moves by -eta (b - q).
    threshold = thresholds.geometric_quantile(0.5, initial=1e20, noise=4.0, seed=3)
    examples = jnp.ones((2000, 8))
    _, states = follow(threshold, np.ones(2000), examples)
    steps = np.diff(np.log(np.asarray(states.threshold, np.float64)))
    inside = steps[: int(np.argmax(states.threshold < 10))]
    assert len(inside) > 300
    assert inside.mean() == pytest.approx(-0.2 * 0.5, abs=0.015)
    assert inside.std() == pytest.approx(0.2 * 4 / 8, rel=0.15)


def test_a_schedule_moves_the_quantile_that_is_tracked():
    examples = jnp.asarray(lognormal(600, 100, 10.0), jnp.float32)
    schedule = optax.piecewise_constant_schedule(0.5, {300: 0.9 / 0.5})
    found, _ = follow(thresholds.geometric_quantile(schedule, initial=10.0), np.ones(600), examples)
    assert np.exp(np.log(found[200:300]).mean()) == pytest.approx(10, rel=0.1)
    upper = 10 * np.exp(1.2816)  # the normal distribution's .9 quantile
    assert np.exp(np.log(found[500:]).mean()) == pytest.approx(upper, rel=0.1)


def test_without_examples_the_blocks_own_norms_count():
    norms = np.random.default_rng(5).lognormal(np.log([1.0, 100.0]), 1.0, (4000, 2))
    threshold = thresholds.geometric_quantile(0.5, learning_rate=0.05)
    found, _ = follow(threshold, norms.astype(np.float32))
    assert found.shape == (4000, 2)
    middle = np.exp(np.log(np.asarray(found[1000:])).mean(axis=0))
    np.testing.assert_allclose(middle, [1, 100], rtol=0.15)


LEFT_OUT = [jnp.nan, jnp.inf, -jnp.inf, 0.0, -1.0]


@pytest.mark.parametrize("noise", [None, 1.0])
def test_examples_that_say_nothing_of_the_size_count_neither_as_within_nor_as_above(noise):
    threshold = thresholds.geometric_quantile(0.3, initial=1.0, noise=noise)
    good = [[0.5, 0.5, 2.0], [0.5, 2.0, 3.0]]
    _, wanted = follow(threshold, np.ones(2), jnp.array(good))
    _, found = follow(threshold, np.ones(2), jnp.array([[*LEFT_OUT, *row] for row in good]))
    np.testing.assert_array_equal(found.threshold, wanted.threshold)
    # Nor does the norm of what is left of them: examples of opposite gradients may cancel out.
    _, found = follow(threshold, np.zeros(2), jnp.array(good))
    np.testing.assert_array_equal(found.threshold, wanted.threshold)
    # Nothing moves where there is no other example, nor is noise drawn.
    for examples in (jnp.zeros((3, 0)), jnp.array([LEFT_OUT] * 3)):
        _, states = follow(threshold, np.ones(3), examples)
        for now, start in zip(states, threshold.init(()), strict=True):
            if now is not None:
                np.testing.assert_array_equal(now, np.broadcast_to(start, now.shape))
    with pytest.raises(ValueError, match="`example_norms` must be a vector"):
        threshold.update(jnp.ones(()), threshold.init(()), Context(0, None, jnp.ones((2, 2))))


@pytest.mark.parametrize(("size", "end"), [(1e-37, 1e-30), (1e38, 1e30)])
def test_the_threshold_stays_where_it_can_walk_back(size, end):
    threshold = thresholds.geometric_quantile(0.5, learning_rate=5.0)
    norms = np.full(200, size, np.float32)
    found, _ = follow(threshold, norms)
    assert found[-1] == np.float32(end)
    again, _ = follow(threshold, np.r_[norms, np.ones(200, np.float32)])
    assert 0.05 < again[-1] < 20


def test_examples_reach_the_threshold_through_a_transformation():
    optimizer = clipax.clip_by_global_norm(thresholds.geometric_quantile(0.5, initial=1.0))
    gradient = {"w": jnp.array([3.0, 4.0])}
    update = jax.jit(lambda g, s, n: optimizer.update(g, s, example_norms=n))
    updates, state = update(gradient, optimizer.init(gradient), jnp.array([9.0, 9.0, 9.0]))
    assert jnp.linalg.norm(updates["w"]) == pytest.approx(1.0)
    after = state.rules.before.rows
    assert after.threshold == pytest.approx(np.exp(0.1))


def test_noise_is_that_of_the_seed_and_independent_between_blocks():
    def states(seed):
        threshold = thresholds.geometric_quantile(noise=1.0, seed=seed, initial=1.0)
        return follow(threshold, np.ones((50, 3), np.float32))[1].threshold

    first = states(0)
    np.testing.assert_array_equal(first, states(0))
    assert not np.array_equal(first, states(1))
    steps = np.diff(np.log(np.asarray(first)), axis=0)
    assert np.abs(np.corrcoef(steps.T) - np.eye(3)).max() < 0.5


@pytest.mark.parametrize("scope", ["global", "leaf", "unit"])
def test_a_bad_step_keeps_threshold_and_key(scope):
    params = {"empty": jnp.zeros((2, 0)), "w": jnp.ones((2, 3))}
    optimizer = clipax.scale_by_norm(
        clipax.norms.clip(thresholds.geometric_quantile(noise=1.0)), scope=scope
    )
    update = jax.jit(optimizer.update)
    _, state = update(params, optimizer.init(params))
    bad = {**params, "w": jnp.full((2, 3), jnp.nan)}
    _, after = update(bad, state)

    def of_w(state):
        if scope == "global":
            return state.rules.before.rows
        if scope == "unit":
            return state.rules.before.units["block:w"]
        return jax.tree.map(
            lambda rows: rows[clipax.block_names(state).index("w")], state.rules.before.rows
        )

    kept = of_w(state)
    np.testing.assert_array_equal(kept.threshold, of_w(after).threshold)
    np.testing.assert_array_equal(kept.noise_key, of_w(after).noise_key)
    # A good step draws again.
    _, good = update(params, state)
    assert not np.array_equal(kept.noise_key, of_w(good).noise_key)


def test_runs_with_noise_side_by_side_are_those_alone():
    threshold = thresholds.geometric_quantile(noise=1.0)
    norms = lognormal(20, 4, 1.0).astype(np.float32).T
    together = jax.vmap(lambda norms: follow(threshold, norms)[0])(jnp.asarray(norms))
    for alone, found in zip(norms, together, strict=True):
        np.testing.assert_allclose(follow(threshold, alone)[0], found, rtol=1e-6)


@pytest.mark.parametrize("bad", [0, 1, -0.5, 1.5, float("nan")])
def test_quantiles_are_checked(bad):
    for factory in (thresholds.quantile, thresholds.geometric_quantile):
        with pytest.raises(ValueError, match=r"`quantile` must be in \(0, 1\), got"):
            factory(bad)


def test_options_are_checked():
    with pytest.raises(ValueError, match="`window` must be at least 1, got 0"):
        thresholds.quantile(0.5, window=0)
    with pytest.raises(TypeError, match="`window` must be a concrete integer"):
        thresholds.quantile(0.5, window=1.5)
    with pytest.raises(TypeError, match="`quantile` must be a number"):
        clipax.quantile_clip_sgd(0.1, "half")
    for keywords, name in (
        ({"initial": 0.0}, "initial"),
        ({"initial": 1e31}, "initial"),
        ({"learning_rate": 0}, "learning_rate"),
        ({"noise": -1}, "noise"),
        ({"seed": -1}, "seed"),
    ):
        with pytest.raises(ValueError, match=f"`{name}` must be"):
            thresholds.geometric_quantile(**keywords)
    with pytest.raises(ValueError, match=r"`initial` must be in \(0, 1\)"):
        thresholds.quantile_schedule(1.0)
    with pytest.raises(ValueError, match="`exponent` must be positive"):
        thresholds.quantile_schedule(0.5, 0)
