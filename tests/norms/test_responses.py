"""The responses of the smooth clips, on norms and on single entries."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import clipax
from clipax.thresholds import Context
from tests.oracles.clip_by_smooth_norm import bent

# Of rounding, in the code that users get.
OPTIMISED = True

RESPONSES = ["sqrt", "rational", "tanh", "hard", "huber"]
EACH = pytest.mark.parametrize("response", RESPONSES)
SIZES = [0.0, 1e-20, 0.3, 0.999, 1.0, 1.001, 1.5, 2.0, 2.5, 2.999, 3.0, 3.001, 7.0, 1e5, 1e30, 3e38]
LIMIT = 2.0


def factors(response, sizes, threshold=LIMIT):
    bend = clipax.norms.clip(threshold, response=response)
    sizes = jnp.asarray(sizes)
    return bend.update(sizes, bend.init(sizes.shape), Context(jnp.array(0)))[0].factor


def entries(response, values, threshold=LIMIT, **options):
    clip = clipax.clip_by_value(threshold, response=response, **options)
    values = jnp.asarray(values)
    return clip.update(values, clip.init(values))[0]


@EACH
def test_norms_and_entries_are_bent_alike(response):
    expected = np.array([bent(size, LIMIT, response) for size in SIZES])
    signs = np.resize([1.0, -1.0], len(SIZES))
    np.testing.assert_allclose(entries(response, signs * SIZES), signs * expected, rtol=3e-7)
    # A factor may be too small for a normal number, an entry is not.
    np.testing.assert_allclose(
        factors(response, SIZES[:-1]) * np.float32(SIZES[:-1]), expected[:-1], rtol=3e-7
    )


@EACH
def test_bent_entries_never_exceed_the_threshold(response):
    for threshold in (1e-30, 0.3, 1.0, 3.3e30):
        values = np.random.default_rng(0).standard_cauchy(2000).astype(np.float32) * threshold
        out = np.abs(entries(response, values, threshold))
        assert out.max() <= np.float32(threshold)
        order = np.argsort(np.abs(values))
        assert (np.diff(out[order]) >= -4e-7 * threshold).all()


def test_huber_is_the_identity_then_a_parabola_then_constant(x64):
    inside = np.random.default_rng(1).uniform(-LIMIT / 2, LIMIT / 2, 1000)
    np.testing.assert_array_equal(entries("huber", inside), inside)
    np.testing.assert_array_equal(factors("huber", np.abs(inside)), 1)
    far = np.array([1.5 * LIMIT, 4.0, 1e5])
    np.testing.assert_array_equal(entries("huber", far), LIMIT)
    slope = jax.vmap(jax.grad(lambda value: entries("huber", value)))
    points = np.array([0.0, 0.99, 1.0, 1.01, 2.0, 2.99, 3.0, 3.01])
    expected = np.array([1.0, 1.0, 1.0, 0.995, 0.5, 0.005, 0.0, 0.0])
    np.testing.assert_allclose(slope(jnp.asarray(points)), expected, atol=1e-12)


@EACH
def test_slopes_at_zero_are_one(response):
    norm_slope = jax.grad(lambda size: factors(response, size) * size)
    assert norm_slope(0.0) == 1
    assert jax.grad(lambda value: entries(response, value))(0.0) == 1


@EACH
def test_entries_that_are_not_finite(response):
    bad = [np.inf, -np.inf, np.nan]
    for threshold in (1.0, 1e30):
        out = entries(response, bad, threshold)
        np.testing.assert_allclose(out, np.float32([threshold, -threshold, 0]), rtol=1e-6)
    np.testing.assert_array_equal(entries(response, bad, np.inf), 0)
    assert np.isnan(entries(response, bad, nonfinite="propagate")).all()
    turned = entries(response, [complex(np.inf, 1), complex(np.nan, 0), 3 + 4j])
    expected = [0, 0, bent(5.0, LIMIT, response) * (0.6 + 0.8j)]
    np.testing.assert_allclose(turned, expected, rtol=1e-6)


@EACH
def test_an_infinite_threshold_is_the_identity(response):
    values = np.float32([0.0, 1e-30, -3.0, 1e30])
    np.testing.assert_array_equal(entries(response, values, np.inf), values)
    np.testing.assert_array_equal(factors(response, np.abs(values), np.inf), 1)


@EACH
@pytest.mark.parametrize("value", [0.0, -1.0, np.nan])
def test_schedules_that_undershoot_let_next_to_nothing_pass(response, value):
    out = entries(response, [0.0, 1.0, -1e30], lambda count: jnp.full((), value))
    np.testing.assert_allclose(out, 0, atol=1e-30)


def test_the_hard_response_is_the_clip_bit_for_bit():
    values = np.random.default_rng(2).standard_cauchy((50, 4)).astype(np.float32)
    hard = clipax.clip_by_smooth_norm(LIMIT, response="hard", scope="leaf")
    clip = clipax.clip_by_leaf_norm(LIMIT)
    for row in values:
        np.testing.assert_array_equal(
            hard.update(row, hard.init(row))[0], clip.update(row, clip.init(row))[0]
        )
    np.testing.assert_array_equal(entries("hard", values), np.clip(values, -LIMIT, LIMIT))


def test_a_floor_bounds_the_factor_from_below():
    context = Context(jnp.array(0))
    for floor, expected in (
        (None, [1, 1, 0.5, 0.05]),
        (0.0, [1, 1, 0.5, 0.05]),
        (0.2, [1, 1, 0.5, 0.2]),
        (1.0, [1, 1, 1, 1]),
    ):
        clip = clipax.norms.clip(LIMIT, floor=floor)
        found = clip.update(jnp.array([0.0, 2.0, 4.0, 40.0]), clip.init((4,)), context)[0]
        np.testing.assert_allclose(found.factor, expected, rtol=1e-6)
        np.testing.assert_array_equal(found.threshold, LIMIT)


def test_a_floor_holds_for_the_shifted_norm_too():
    clip = clipax.norms.clip(LIMIT, floor=0.2, offset=1.0)
    found, _ = clip.update(jnp.array([0.5, 3.0, 40.0]), clip.init((3,)), Context(jnp.array(0)))
    np.testing.assert_allclose(found.factor, [1, 0.5, 0.2], rtol=1e-6)
    np.testing.assert_allclose(found.threshold, 1, rtol=1e-6)


def test_a_traced_floor_above_one_does_not_amplify():
    def factor(floor):
        clip = clipax.norms.clip(LIMIT, floor=floor)
        return clip.update(jnp.array(8.0), (), Context(jnp.array(0)))[0].factor

    assert jax.jit(factor)(3.0) == 1
    assert jax.jit(factor)(0.5) == 0.5


@pytest.mark.parametrize("response", ["sqrt", "rational", "tanh", "huber"])
@pytest.mark.parametrize("option", ["floor", "offset"])
def test_floor_and_offset_belong_to_the_hard_clip(response, option):
    message = rf"`{option}` must be None with `response='{response}'`.*, got 0\.5\."
    with pytest.raises(ValueError, match=message):
        clipax.norms.clip(LIMIT, response=response, **{option: 0.5})


def test_the_options_of_the_clip_are_checked():
    for options, message in (
        ({"floor": 1.5}, r"`floor` must be in \[0, 1\], got 1\.5"),
        ({"floor": -0.1}, r"`floor` must be in \[0, 1\], got -0\.1"),
        ({"response": "soft"}, "`response` must be one of 'sqrt', .*, got 'soft'"),
    ):
        with pytest.raises(ValueError, match=message):
            clipax.norms.clip(LIMIT, **options)
    for make in (
        lambda delta: clipax.clip_by_regularized_norm(1.0, delta),
        lambda delta: clipax.regularized_clip_sgd(0.1, 1.0, delta),
    ):
        with pytest.raises(ValueError, match=r"`delta` must be in \[0, 1\], got 2\.0"):
            make(2.0)
        with pytest.raises(TypeError, match="`delta` must be a number, got None"):
            make(None)


def test_an_observer_records_and_never_clips():
    watch = clipax.scale_by_norm(clipax.norms.observe(clipax.thresholds.median(2.0, window=3)))
    clip = clipax.clip_by_median(2.0, window=3)
    states = watch.init(jnp.zeros(2)), clip.init(jnp.zeros(2))
    for size in (1.0, 3.0, 2.0, 1e30, 5.0):
        gradient = size * jnp.array([0.6, -0.8])
        update, watching = watch.update(gradient, states[0])
        _, clipping = clip.update(gradient, states[1])
        states = watching, clipping
        np.testing.assert_array_equal(update, gradient)
        # The same memory, threshold and count as the clip: a dry run of it.
        jax.tree.map(np.testing.assert_array_equal, watching.rules, clipping.rules)
        seen, clipped = clipax.metrics(watching), clipax.metrics(clipping)
        assert seen["threshold"] == clipped["threshold"]
        assert seen["clip_fraction"] == clipped["clip_fraction"]
        assert seen["clip_factor"] == 1
    assert seen["clip_fraction"] > 0
