"""The thresholds of "To clip or not to clip" on norms: root mean square and max-CCC."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special

import clipax
from clipax import norms as rules
from clipax import thresholds
from clipax.thresholds import Context
from tests.oracles.max_ccc import best_threshold, criterion
from tests.thresholds.test_quantile import follow


def last(threshold, norms):
    """The threshold after the last of the norms."""
    return float(follow(threshold, np.asarray(norms, np.float32))[0][-1])


def last_of_rule(rule, norms):
    """Threshold of a rule, and what it multiplies passing norms with, after the last norm."""
    decisions, _ = follow(rule, np.asarray(norms, np.float32))
    threshold = decisions.threshold[-1]
    passing = np.minimum(1, threshold / norms[-1])
    return float(threshold), float(decisions.factor[-1] / passing)


# --- the root mean square


def test_the_root_mean_square_of_constant_norms():
    for size in (1e-30, 3.0, 1e30):
        assert last(thresholds.rms_of_norms(0.5), [size] * 5) == pytest.approx(0.5 * size, rel=1e-5)


@pytest.mark.parametrize("decay", [0.9, 0.99])
def test_one_spike_raises_the_threshold_by_no_more_than_its_limit(decay):
    norms = np.ones(600)
    norms[300] = 1e30
    found, _ = follow(thresholds.rms_of_norms(0.5, decay=decay), norms)
    assert found[299] == pytest.approx(0.5, rel=1e-4)
    weight = 1 - decay**301
    highest = 0.5 * np.sqrt((weight + (1 - decay) * 99) / weight)
    assert found[300] == pytest.approx(highest, rel=1e-4)
    assert found.max() == found[300]
    assert found[-1] == pytest.approx(0.5, rel=0.1)
    free, _ = follow(thresholds.rms_of_norms(0.5, decay=decay, limit=None), norms)
    assert free[300] == pytest.approx(0.5e30 * np.sqrt((1 - decay) / weight), rel=1e-4)


def test_the_threshold_of_clipped_norms_would_collapse_but_this_does_not():
    kappa, size, clipped = 0.5, 8.0, 8.0
    for _ in range(50):
        clipped = min(clipped, kappa * clipped)  # what feeding the clipped norm back would do
    assert clipped < 1e-10
    assert last(thresholds.rms_of_norms(kappa), [size] * 500) == pytest.approx(
        kappa * size, rel=1e-5
    )


@pytest.mark.parametrize("first", [0.0, 1e-12, 1e-38])
def test_a_small_first_norm_does_not_hold_the_threshold_down(first):
    # The limit lets the root mean square grow by sqrt(decay + (1 - decay) 100) a step.
    found, _ = follow(thresholds.rms_of_norms(1.0), np.r_[first, np.ones(600)])
    assert found[-1] == pytest.approx(1.0, rel=0.05)


def test_the_compensation_of_the_root_mean_square():
    norms = np.abs(np.random.default_rng(0).normal(size=4000))
    for kappa in (0.25, 0.5, 2.0):
        bound = max(1.0, 1 / kappa)
        _, factor = last_of_rule(rules.rms_clip(kappa, compensate="bound"), norms)
        assert factor == pytest.approx(bound, rel=1e-6)
        share = special.erf(kappa / np.sqrt(2))  # of half-normal norms
        expected = min(bound, 1 / share)
        _, factor = last_of_rule(rules.rms_clip(kappa, decay=0.999), norms)
        assert factor == pytest.approx(expected, rel=0.06)
        assert factor <= bound * (1 + 1e-6)


def test_nothing_passes_above_the_root_mean_square_though_compensated():
    norms = np.random.default_rng(1).lognormal(sigma=2, size=(500, 1)).astype(np.float32)
    for kappa in (0.3, 1.5):
        for compensate in ("bound", "fraction"):
            root, _ = follow(thresholds.rms_of_norms(1.0), norms[:, 0])
            clip = clipax.scale_by_norm(rules.rms_clip(kappa, compensate=compensate))

            def step(state, gradient, clip=clip):
                update, state = clip.update(gradient, state)
                return state, jnp.linalg.norm(update)

            sizes = jax.lax.scan(step, clip.init(norms[0]), norms)[1]
            assert (sizes <= max(1, kappa) * root * (1 + 1e-5)).all()
            assert (sizes < norms[:, 0]).any()


def test_the_options_of_the_root_mean_square_are_checked():
    for keywords, message in (
        ({"kappa": 0.0}, "`kappa` must be positive and finite"),
        ({"kappa": np.inf}, "`kappa` must be positive and finite"),
        ({"kappa": 1.0, "decay": 1.0}, r"`decay` must be in \[0, 1\)"),
        ({"kappa": 1.0, "limit": 1.0}, "`limit` must be above 1"),
    ):
        for make in (thresholds.rms_of_norms, rules.rms_clip):
            with pytest.raises(ValueError, match=message):
                make(**keywords)
    with pytest.raises(ValueError, match="`compensate` must be one of 'bound', 'fraction'"):
        rules.rms_clip(1.0, compensate="both")


# --- the largest comparison criterion


def residuals(count, noise, share, seed=0):
    """Absolute values of `Z - eps`, `eps` being `+-noise/sqrt(share)` with probability `share`."""
    random = np.random.default_rng(seed)
    spikes = random.choice([-1, 1], count) * (random.random(count) < share)
    return np.abs(random.normal(size=count) - noise / np.sqrt(share) * spikes)


def margin(norms, threshold):
    """By what factor the criterion is larger there than at all candidates 5 % away or more."""
    others = [
        criterion(norms, value)
        for value in norms
        if abs(value / threshold - 1) > 0.05 and np.sum(norms <= value) >= len(norms) / 10
    ]
    return criterion(norms, threshold) / max(others)


def test_the_threshold_is_where_the_criterion_is_largest():
    # Gradients of 100 Gaussian entries, every tenth of them an outlier.
    random = np.random.default_rng(0)
    norms = np.linalg.norm(random.normal(size=(400, 100)), axis=1)
    norms[::10] *= random.uniform(5, 50, 40)
    norms = np.float64(np.float32(norms))
    best = best_threshold(norms)
    assert margin(norms, best) > 1.01  # so that it is about something
    assert criterion(norms, best) > 3
    found, factor = last_of_rule(rules.max_ccc_clip(window=400), norms)
    assert found == np.float32(best)
    assert found == last(thresholds.max_ccc(window=400), norms)
    assert factor == pytest.approx(len(norms) / np.sum(norms <= best))
    # Between the bulk, all of which lies within, and the outliers.
    assert 10 < found < 15
    assert 0.85 < 1 / factor <= 0.9


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("window", [20, 64])
def test_every_window_has_its_own_largest_criterion(seed, window, x64):
    random = np.random.default_rng(seed)
    norms = np.exp(random.standard_t(2, size=150))
    norms[random.integers(150, size=10)] = 0.0
    norms[random.integers(150, size=3)] = 1e30
    norms[random.integers(150, size=20)] = 2.0  # equal ones
    found, states = follow(thresholds.max_ccc(window=window), norms)
    for step, threshold in enumerate(found):
        seen = norms[: step + 1]
        seen = seen[seen > 0][-window:]
        expected = best_threshold(seen)
        assert threshold == expected, step
        assert states.fraction[step] == pytest.approx(np.mean(seen <= expected))
    assert np.isfinite(found).any()


@pytest.mark.parametrize(("huge", "scale"), [(1e12, 1.0), (1e30, 1e-30), (3e38, 1.0)])
def test_a_huge_norm_does_not_hide_the_others(huge, scale):
    bulk = scale * residuals(300, noise=0.0, share=0.1)
    norms = np.r_[bulk[:150], huge, bulk[150:]].astype(np.float32)
    found, factor = last_of_rule(rules.max_ccc_clip(window=400), norms)
    # What is best for the bulk does not depend on how large the outlier is.
    moderate = np.where(norms == np.float32(huge), np.float32(scale * 1e4), norms)
    assert (found, factor) == last_of_rule(rules.max_ccc_clip(window=400), moderate)
    assert scale < found < 10 * scale


def test_nothing_is_clipped_where_that_does_not_help():
    random = np.random.default_rng(0)
    for norms in (
        np.ones(200),
        np.linalg.norm(random.normal(size=(400, 20)), axis=1),  # the norms of Gaussian gradients
        np.zeros(50),
        np.r_[np.zeros(50), 1.0],
    ):
        assert last_of_rule(rules.max_ccc_clip(window=500), norms) == (np.inf, 1.0)


def test_nothing_is_clipped_before_eleven_norms():
    norms = np.r_[np.ones(9), 1e6, np.ones(40)]
    found, _ = follow(thresholds.max_ccc(window=30), norms)
    assert np.isinf(found[:10]).all()
    np.testing.assert_array_equal(found[10:39], 1)
    assert np.isinf(found[39:]).all()  # the outlier is forgotten


def test_a_single_small_norm_is_no_threshold():
    norms = np.r_[1e-6, residuals(99, noise=0.0, share=0.1)]
    assert max(norms, key=lambda value: criterion(norms, value)) == 1e-6
    threshold, factor = last_of_rule(rules.max_ccc_clip(window=100), norms)
    assert threshold > 0.05
    assert factor <= 10
    _, factor = last_of_rule(rules.max_ccc_clip(window=100, min_fraction=0.5), norms)
    assert factor <= 2


def test_the_threshold_alone_does_not_amplify():
    norms = residuals(400, noise=10.0, share=0.1)
    clip = clipax.norms.clip(thresholds.max_ccc(window=400))
    found, factor = last_of_rule(clip, norms)
    assert factor == pytest.approx(1)
    assert found == last_of_rule(rules.max_ccc_clip(window=400), norms)[0] < np.inf


def test_clipping_by_the_criterion_reduces_the_noise_of_a_mean():
    # Estimates of a mean of 1 under rare large noise, from one run of SGD each.
    random = np.random.default_rng(3)
    shape = (64, 1500)
    spikes = random.choice([-1.0, 1.0], shape) * (random.random(shape) < 0.05)
    targets = jnp.asarray(1 + 0.1 * random.normal(size=shape) + 20 * spikes, jnp.float32)

    def error(optimizer):
        def run(targets):
            def step(carry, target):
                x, state = carry
                update, state = optimizer.update(x - target, state, x)
                return (x + update, state), x

            start = jnp.zeros(())
            return jax.lax.scan(step, (start, optimizer.init(start)), targets)[1][-500:]

        return float(jnp.sqrt(jnp.mean((jax.jit(jax.vmap(run))(targets) - 1) ** 2)))

    unclipped = error(clipax.clip_sgd(0.02, np.inf))
    assert error(clipax.max_ccc_sgd(0.02, window=200)) < unclipped / 3


def test_the_options_of_the_criterion_are_checked():
    for make in (thresholds.max_ccc, rules.max_ccc_clip):
        with pytest.raises(ValueError, match="`window` must be at least 20, got 19"):
            make(window=19)
        with pytest.raises(ValueError, match=r"`min_fraction` must be in \(0, 1\], got 0"):
            make(min_fraction=0)
    with pytest.raises(ValueError, match="`learning_rate` must be non-negative"):
        clipax.max_ccc_sgd(-1.0)


@pytest.mark.parametrize("rule", [rules.rms_clip(0.5), rules.max_ccc_clip(window=20)])
def test_hostile_norms_leave_states_finite(rule):
    random = np.random.default_rng(7)
    sizes = [0.0, 1e-45, 1e-38, 1e-20, 1.0, 1e20, 1e30, 3.4e38]
    norms = random.choice(sizes, (300, 4)).astype(np.float32)
    decisions, states = follow(rule, norms)
    assert (decisions.threshold > 0).all()
    for leaf in jax.tree.leaves(states):
        assert np.isfinite(leaf).all()
    passes = norms <= decisions.threshold
    factor = np.asarray(decisions.factor)[passes]
    assert ((factor >= 1) & (factor <= 10)).all()


def test_the_start_has_no_nan():
    for rule in (rules.rms_clip(0.5), rules.max_ccc_clip(window=20)):
        with jax.debug_nans(True):
            context = Context(jnp.zeros((), jnp.int32))
            decision, _ = rule.update(jnp.zeros(2), rule.init((2,)), context)
        assert (decision.factor >= 1).all()
        assert (decision.threshold > 0).all()
