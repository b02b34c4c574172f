"""Thresholds that follow norms: the ways in which published implementations broke, one by one."""

from __future__ import annotations

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from clipax import thresholds
from clipax.thresholds import Context

# One object for each set of arguments, so that compiled runs are shared.
ema, median, zscore = map(functools.cache, (thresholds.ema, thresholds.median, thresholds.zscore))
REMEMBERING = {
    "zscore": (zscore(), 33),
    "zscore, hard": (zscore(cut_to="hard"), 33),
    "zscore, mean": (zscore(cut_to="mean"), 33),
    "ema": (ema(1.2), 50),
    "median": (median(), 100),
}
"""Defaults, but for a ratio that leaves room for scatter; and how long each remembers."""
EACH = pytest.mark.parametrize("name", REMEMBERING)
STEPS = 460


@functools.partial(jax.jit, static_argnums=0)
def _follow(threshold, norms, totals):
    def step(carry, given):
        count, state = carry
        norm, total = given
        now, state = threshold.update(norm, state, Context(count, total_norm=total))
        return (count + 1, state), (now, state)

    start = (jnp.zeros((), jnp.int32), threshold.init(norms.shape[1:]))
    return jax.lax.scan(step, start, (norms, totals))[1]


def follow(threshold, norms, totals=None):
    """The thresholds of all steps and the states after them; norms along the first axis."""
    norms = np.asarray(norms, np.float32)
    totals = None if totals is None else np.asarray(totals, np.float32)
    return jax.tree.map(np.asarray, _follow(threshold, norms, totals))


def factors(threshold, norms, totals=None):
    """The factors of the hard clip."""
    found, _ = follow(threshold, norms, totals)
    return np.minimum(1, np.asarray(found) / np.maximum(norms, 1e-37))


def ordinary(steps, seed=0):
    """Norms that scatter by 5 %, of blocks over six decades of size, below the absolute clip."""
    random = np.random.default_rng(seed)
    sizes = 10.0 ** -np.arange(1, 9, 2)
    return sizes * (1 + 0.05 * random.uniform(-1, 1, size=(steps, 4)))


@EACH
def test_ordinary_norms_pass_and_spikes_are_cut(name):
    threshold, _ = REMEMBERING[name]
    norms = ordinary(STEPS)
    norms[300] *= 50
    found = factors(threshold, norms)
    # In the z-score there is an absolute eps, larger than the smallest blocks.
    assert (found[300, : 2 if "zscore" in name else 4] < 0.1).all()
    assert (np.delete(found, 300, axis=0) == 1).all()


@EACH
@pytest.mark.parametrize("place", [0, 20, 110, 250])
def test_a_spike_of_1e30_is_soon_forgotten(name, place):
    threshold, memory = REMEMBERING[name]
    norms = ordinary(STEPS)
    later = place + 2 * memory + 1
    norms[place] = 1e30
    norms[later] *= 50
    found, states = follow(threshold, norms)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(states))
    found = np.minimum(1, found / norms)
    assert (found[later, : 2 if "zscore" in name else 4] < 0.1).all()
    assert (np.delete(found, [place, later], axis=0) == 1).all()


def test_a_spike_of_the_warm_up_fades_or_is_dropped():
    norms = np.tile(ordinary(700)[:, :1], 2)
    norms[7] *= [30, 1e7]
    found, states = follow(zscore(), norms)
    # The larger one starts a warm-up of its own, and is forgotten with the second norm after it.
    np.testing.assert_array_equal(states.steps[7:10].T, [[8, 9, 10], [1, 1, 1]])
    assert found[40, 0] > 10 * norms[40, 0]
    assert found[40, 1] < 0.2
    assert (found[-1] < 0.2).all()
    blind, _ = follow(zscore(restart=0.0), norms)
    np.testing.assert_array_equal(blind[:, 0], found[:, 0])
    assert blind[-1, 1] > 1


def test_norms_that_fall_for_good_start_the_zscore_anew():
    norms = np.r_[ordinary(100)[:, 0], 1e-3 * ordinary(100)[:, 0] / 2]
    norms[150] *= 50
    found, states = follow(zscore(), norms)
    assert states.steps[101] == 1
    steps = np.arange(200)
    # A single low norm, as that of step 100, is left out; two start the statistics.
    np.testing.assert_array_equal(np.isinf(found), (steps < 25) | ((steps > 100) & (steps < 126)))
    assert found[150] < norms[150] / 10


@pytest.mark.parametrize(
    ("cut_to", "around", "above"), [("adaptive", 50, 150), ("hard", 50, 50), ("mean", 100, None)]
)
def test_constant_norms_do_not_freeze_the_zscore(cut_to, around, above):
    random = np.random.default_rng(0)
    late = np.stack(
        [*random.uniform(0.8, 1.2, size=(10, 900)), *random.uniform(1.0, 1.2, size=(10, 900))], 1
    )
    norms = np.concatenate([np.ones((1000, 20)), late])
    clipped = factors(zscore(cut_to=cut_to), norms)[1000:] < 1
    assert clipped[:5, :10].any()
    assert clipped[around:, :10].mean() < 1e-3
    if above is not None:
        assert clipped[:20, 10:].mean() > 0.5
        assert clipped[above:, 10:].mean() < 1e-3
    # The paper's rule learns nothing of norms above those that froze it.
    frozen = factors(zscore(cut_to=cut_to, floor=0.0), norms)[1000:] < 1
    assert frozen[:, 10:].all()


def test_the_hard_zscore_follows_norms_that_jump_for_good():
    norms = np.r_[ordinary(300)[:, 0], 3 * ordinary(300)[:, 0]]
    found = {one: factors(zscore(cut_to=one), norms) for one in ("hard", "adaptive")}
    assert found["hard"][300] < 0.5
    assert (found["hard"][400:] == 1).all()
    assert (found["adaptive"][300:] < 0.5).all()


def test_norms_of_zero_alone_do_not_freeze_the_zscore():
    norms = np.r_[np.zeros(60), ordinary(60)[:, 0], np.zeros(2000), ordinary(60)[:, 0]]
    found, states = follow(zscore(), norms)
    assert (norms <= found).all()
    assert states.steps[59] == 0
    # Nor does a zero start anything anew.
    np.testing.assert_allclose(found[121:2120], found[120], rtol=1e-6)
    assert states.mean[-1] == pytest.approx(0.1, rel=0.05)


def test_a_cap_limits_the_update_and_not_the_statistics():
    norms = ordinary(100)[:, 0]
    found, states = follow(zscore(max_norm=0.05), norms)
    np.testing.assert_array_equal(found, np.float32(0.05))
    _, without = follow(zscore(), norms)
    np.testing.assert_array_equal(states.mean, without.mean)


def test_the_warm_up_starts_from_mean_and_population_variance():
    norms = 1e30 * np.random.default_rng(0).lognormal(size=25)
    _, states = follow(zscore(), norms)
    assert states.mean[-1] == pytest.approx(np.mean(norms), rel=1e-5)
    assert states.deviation[-1] == pytest.approx(np.std(norms), rel=1e-5)


@pytest.mark.parametrize(
    ("places", "bad"),
    [([0], 0.0), ([0, 1, 2, 40], 0.0), ([150], 0.0), ([40], 1e-20), ([40, 41, 150], 1e-20)],
)
def test_a_zero_gradient_does_not_freeze_the_average(places, bad):
    norms = ordinary(STEPS)
    norms[places] *= bad
    found = factors(ema(), norms)[: STEPS - len(places)]
    # As if the step had not been, but for 2 % of the average where a tiny norm enters it.
    without = np.delete(norms, places, axis=0)
    wanted = factors(ema(), np.concatenate([without, without[: len(places)]]))
    kept = np.delete(np.arange(STEPS), places)[: len(found) - len(places)]
    np.testing.assert_allclose(found[kept], wanted[: len(kept)], rtol=0.05)


def test_nothing_but_zeros_for_long_does_not_freeze_the_average():
    norms = np.r_[np.zeros(150), ordinary(200)[:, 0], np.zeros(2000), ordinary(60)[:, 0]]
    found, states = follow(ema(1.2), norms)
    assert (states.average[:150] == 0).all()
    assert states.average[150] == np.float32(norms[150])
    assert (norms <= found).all()


@pytest.mark.parametrize("place", [0, 1, 50])
def test_a_spike_of_another_block_in_the_warm_up_does_not_freeze_a_block(place):
    norms = ordinary(STEPS)
    norms[place, 0] = 1e30
    totals = np.linalg.norm(norms, axis=1)
    found = factors(ema(1.2, absolute=1.0), norms, totals)
    # In warm-up there is one factor for all.
    np.testing.assert_allclose(found[place], 1 / totals[place], rtol=1e-5)
    assert (np.delete(found, place, axis=0) == 1).all()
    # Without the floor, the paper's rule, what was left of the others limits them for ever.
    frozen = factors(ema(1.2, absolute=1.0, floor=0.0), norms, totals)
    assert (frozen[-1, 1:] < 1e-6).all()


def test_the_warm_up_clips_all_blocks_together():
    norms = np.random.default_rng(0).lognormal(size=(30, 5))
    totals = np.linalg.norm(norms, axis=1)
    absolute = float(np.median(totals))
    found, states = follow(ema(absolute=absolute, warmup=30), norms, totals)
    factor = np.minimum(1, absolute / totals)
    np.testing.assert_allclose(np.minimum(norms, found), factor[:, None] * norms, rtol=1e-6)
    # Where the global clip does not act, no block counts as clipped.
    quiet = totals <= absolute
    assert 0 < quiet.sum() < 30
    assert (found[quiet] >= norms[quiet]).all()
    np.testing.assert_allclose(
        states.average, np.minimum.accumulate(factor[:, None] * norms, axis=0), rtol=1e-6
    )


def test_an_average_grows_by_a_thousandth_a_step():
    norms = np.r_[np.full(100, 1e-3), np.full(200, 1.0)]
    found, states = follow(ema(), norms)
    growth = np.asarray(states.average[101:] / states.average[100:-1])
    np.testing.assert_allclose(growth, 1 + 0.02 * 0.05, rtol=1e-6)
    np.testing.assert_allclose(found[101:], 1.05 * states.average[100:-1], rtol=1e-6)


def test_a_spike_does_not_move_the_median():
    norms = ordinary(250)[:, 0]
    found, _ = follow(median(), norms)
    for step, threshold in enumerate(found):
        last = np.sort(norms[max(0, step - 99) : step + 1].astype(np.float32))
        assert threshold == 2 * last[math.ceil(len(last) / 2) - 1]
    spiked = np.full(250, 0.1)
    spiked[::3] = 1e30
    found, _ = follow(median(), spiked)
    np.testing.assert_array_equal(found[1:], np.float32(0.2))


@pytest.mark.parametrize("bad", [1e-30, 1e-5, 1e5, 1e30])
@pytest.mark.parametrize("places", [[0], [0, 1, 2], [1, 3], [40, 41, 60]])
def test_the_majority_of_the_warm_up_sets_the_average(places, bad):
    norms = ordinary(STEPS)
    norms[places] *= bad
    found, states = follow(ema(), norms)
    kept = np.delete(norms[:100], places, axis=0)
    # But for those that were outvoted with the bad ones in front of them.
    assert (states.average[99] >= kept.min(axis=0).astype(np.float32)).all()
    assert (states.average[99] <= kept.max(axis=0)).all()
    assert (found[100:] >= norms[100:] * 0.9).all()


def test_the_default_leaves_most_of_norms_of_any_size():
    noise = np.exp(0.4 * np.random.default_rng(0).standard_normal(1000))
    for size in (1e-3, 18.0, 1e3):
        found = factors(ema(), size * noise)
        assert found[500:].mean() > 0.6


def test_a_first_spike_leaves_the_root_mean_square_after_two_steps():
    norms = np.tile(ordinary(60)[:, :1], 4)
    norms[0, 0] = 1e30
    norms[30, 1] = 1e-20  # one low norm is remembered as any other
    norms[30:, 2] *= 1e-4
    norms[30:, 3] *= 1e-4
    norms[31::2, 3] *= 1e4  # not twice in a row
    found, states = follow(thresholds.rms_of_norms(2.0), norms)
    np.testing.assert_allclose(found[2:, 0], found[:-2, 3][:1].repeat(58), rtol=0.2)
    assert (found[:, 1] > norms[:, 1]).all()
    np.testing.assert_allclose(found[31:, 2], 2 * norms[31:, 2], rtol=0.2)
    assert (found[:, 3] > 0.05).all()
    assert (states.was_low[-1] == [0, 0, 0, 0]).all()
    # Without a limit all norms are remembered as they are.
    blind, _ = follow(thresholds.rms_of_norms(2.0, limit=None), norms)
    assert blind[-1, 0] > 1e28


@pytest.mark.parametrize("place", [0, 10, 60])
def test_one_tiny_norm_does_not_reset_the_zscore(place):
    norms = ordinary(200)[:, 0]
    wanted, _ = follow(zscore(), np.delete(norms, place))
    norms[place] *= 1e-6
    found, _ = follow(zscore(), norms)
    np.testing.assert_array_equal(np.delete(found, place), wanted)
