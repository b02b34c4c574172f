"""What is said of zeros, drift, tails, spikes and equal norms, in the words of a user."""

from __future__ import annotations

import math

import numpy as np
import pytest

import clipax
from tests.diagnostics.advice.reading import found, tenths

RANDOM = np.random.default_rng(0)
STEPS = np.arange(900)
NOISE = np.exp(0.25 * RANDOM.standard_normal(900))
DRIFTS = {
    "falls": (1.2 + 10 * np.exp(-STEPS / 60)) * NOISE,
    "rises": (1 + STEPS / 300) * NOISE,
    "a phase in the middle": np.where((STEPS > 400) & (STEPS < 500), 5.0, 1.0) * NOISE,
    "a jump": np.where(STEPS > 300, 1.0, 0.1) * NOISE,
    "in both directions": np.exp(np.sin(STEPS / 150)) * NOISE,
}


@pytest.mark.parametrize("name", DRIFTS)
@pytest.mark.parametrize("scale", [1.0, 1e-200, 1e300])
def test_a_drift_is_told_by_tenths(name, scale):
    norms = DRIFTS[name] * scale
    advice = clipax.advise(norms)
    (line,) = [line for line in advice.findings if "drift" in line]
    assert "(the first tenth: steps 0 to 89, the last: steps 810 to 899)" in line
    said = [float(part) for part in line.split(" is ")[1].split(" (")[0].split(", ")]
    parts = np.array_split(norms, 10)
    medians = [np.quantile(part, 0.5, method="inverted_cdf") for part in parts]
    assert said == pytest.approx(medians, rel=0.005)
    assert "`clip_by_zscore`, `clip_by_percentile`" in line
    # The same norms in another order do not.
    shuffled = clipax.advise(RANDOM.permutation(norms))
    assert "drift" not in str(shuffled)
    assert "Not evenly" not in str(shuffled)


@pytest.mark.parametrize("index", [1.1, 3.0, 20.0])
@pytest.mark.parametrize("steps", [50, 1000])
def test_chance_is_no_drift(index, steps):
    told = uneven = 0
    for seed in range(100):
        norms = 1 + np.random.default_rng(seed).pareto(index, steps)
        text = str(clipax.advise(norms))
        told += "drift" in text
        uneven += "Not evenly" in text
    assert told <= 1
    assert uneven <= 1


def test_a_threshold_of_an_early_phase_is_told_to_act_there_alone():
    norms = DRIFTS["falls"]
    advice = clipax.advise(norms)
    shares = tenths(advice, "A threshold")
    assert shares[0] > 0.8
    assert shares[-1] == 0
    last = np.flatnonzero(norms > advice.threshold)[-1]
    assert f"0 %, none after step {last}." in str(advice)
    value, said = found(advice, r"second half alone \(steps 450 to 899\) NUMBER clips NUMBER %")
    assert float(said) == pytest.approx(100 * np.mean(norms[450:] > float(value)), abs=0.05)
    assert float(said) == pytest.approx(10, abs=1.5)


def test_a_share_that_differs_without_a_drift_of_the_median_is_told():
    spread = np.where(STEPS < 450, 0.05, 1.0)
    norms = np.exp(spread * np.random.default_rng(3).standard_normal(900))
    advice = clipax.advise(norms)
    assert "drift" not in str(advice)
    assert "Not evenly: by tenth of the run 0, 0, 0, 0, 0, " in str(advice)


def test_zeros_are_mentioned_and_left_out():
    random = np.random.default_rng(0)
    norms = np.where(random.random(1000) < 0.6, 0.0, 0.5 + random.random(1000))
    advice, others = clipax.advise(norms), clipax.advise(norms[norms > 0])
    zeros = np.sum(norms == 0)
    assert f"{zeros} of 1,000 norms are 0, {zeros / 10:.3g} %: no gradient" in str(advice)
    assert advice.quantiles == others.quantiles
    assert advice.tail_index == others.tail_index
    assert advice.threshold == others.threshold
    assert "Spikes" not in str(advice)
    assert "inf" not in str(advice)
    share = 100 * others.threshold_share
    assert f", {share:.3g} % of those above zero." in str(advice)
    assert "0 finite steps with a norm above zero are too few" in str(clipax.advise(np.zeros(60)))
    assert "60 of 60 norms are 0, 100 %: no step has a gradient." in str(
        clipax.advise(np.zeros(60))
    )


@pytest.mark.parametrize("value", [1.0, 1e30, 1e-30, 5e-324, 1.7e308, 0.1])
def test_equal_norms_have_no_threshold(value):
    advice = clipax.advise(np.full(600, value))
    assert advice.threshold is None
    assert advice.findings == (
        "600 norms, steps 0 to 599.",
        f"All 600 norms are equal ({float(f'{value:.2e}'):g}): no threshold clips about 10 % of "
        "such steps. One below them scales all alike, one above them does nothing.",
    )
    # Equal up to the rounding of float32.
    rounded = value * (1 + 1e-7 * np.random.default_rng(0).uniform(-1, 1, 600))
    assert clipax.advise(rounded).threshold is None


def test_coarse_norms_have_the_nearest_threshold_named():
    text = str(clipax.advise(np.repeat([25.0, 25.125], 400)))
    assert "No threshold clips about 10 % of these steps, as many norms are equal" in text
    assert "the nearest, 25.1, clips 50 % (400 of 800)." in text
    assert "median 25, 90 % up to 25.125" in text


@pytest.mark.parametrize(
    ("spread", "share"), [(0.005, 0.1), (0.0005, 0.1), (1e-5, 0.1), (0.1, 0.01)]
)
def test_a_threshold_has_the_digits_that_its_share_takes(spread, share):
    norms = 1.08 * (1 + spread * np.random.default_rng(0).standard_normal(2000))
    advice = clipax.advise(norms, quantile=1 - share)
    assert advice.threshold_share == pytest.approx(share, rel=0.1)
    (value,) = found(advice, "A threshold of NUMBER would")
    assert float(value) == advice.threshold
    assert len(value) <= 5 - math.log10(spread)


def test_the_tail_index_comes_with_its_uncertainty():
    covered = 0
    for seed in range(100):
        norms = (1 - np.random.default_rng(seed).random(1000)) ** (-1 / 1.5)
        advice = clipax.advise(norms)
        low, high = advice.tail_interval
        covered += low <= 1.5 <= high
        assert low < advice.tail_index < high
    assert 88 <= covered <= 99
    assert f"about {advice.tail_index:.2g} (95 %: {low:.2g} to {high:.2g}, from " in str(advice)
    few = clipax.advise(norms[:499])
    assert few.tail_index is None
    assert few.tail_interval is None
    assert "Too few norms for a tail index: it takes 500, there are 499." in few.findings


def test_a_class_that_the_interval_leaves_open_is_probable():
    random = np.random.default_rng(0).random(100_000)
    for index, said in ((0.7, "): heavy (no mean)"), (1.5, "): heavy (no variance)")):
        assert said in str(clipax.advise((1 - random) ** (-1 / index)))
    assert "): probably heavy (no variance)" in str(clipax.advise((1 - random[:600]) ** (-1 / 1.6)))


def test_a_few_outliers_make_no_tail():
    norms = np.r_[np.ones(600), 1e3, 1e4, 1e5]
    advice = clipax.advise(norms)
    assert "No tail index: only 3 of 603 norms stand out of the others" in str(advice)
    assert (
        "Spikes: 3 of 603 norms are more than 10 times the median (1): steps 600, 601 and 602."
        in (advice.findings)
    )
    light = clipax.advise(np.random.default_rng(0).uniform(1, 2, 1000))
    assert "The tail is light: the largest 5 % of the norms are within a factor 1.0" in str(light)


def test_a_drift_makes_no_tail_and_no_spikes():
    scale = np.exp(np.linspace(6, 0, 3000))
    norms = scale * np.exp(0.1 * np.random.default_rng(0).standard_normal(3000))
    norms[[2000, 2500]] = 30 * scale[[2000, 2500]]
    advice = clipax.advise(norms)
    spikes = "Spikes: 2 of 3,000 norms are more than 10 times the median of their tenth of the run"
    assert f"{spikes}: steps 2,000 and 2,500." in advice.findings
    assert advice.tail_index > 4


@pytest.mark.parametrize(
    ("threshold", "said"),
    [
        (1e-3, "clips all 900 finite steps, at most 900 steps in a row (steps 0 to 899); the same"),
        (1.0, ". The clip sets the size of most steps: under SGD the threshold is then part of"),
        (2.0, ". It cuts many steps, step 7 the most: to 0.138 of its length."),
        (8.0, ". It cuts few steps, step 7 the most: to 0.552 of its length."),
        (20.0, "clips none of 900 finite steps: the largest norm is 14.5, so it does nothing but"),
        (math.inf, "The threshold inf clips none of 900 finite steps"),
    ],
)
def test_a_given_threshold_is_judged(threshold, said):
    norms = DRIFTS["falls"].copy()
    norms[7] = 14.5
    assert norms.argmax() == 7
    advice = clipax.advise(norms, threshold=threshold)
    assert said in str(advice)
    assert advice.clip_fraction == np.mean(norms > threshold)


def test_a_given_threshold_without_norms_is_not_judged():
    for nothing in ([], [np.nan, np.inf]):
        advice = clipax.advise(nothing, threshold=1.0)
        assert advice.clip_fraction is None
        assert "The threshold 1 cannot be judged: there is no finite step." in advice.findings
    state = clipax.clip_by_global_norm(1.0).init(np.ones(2, np.float32))
    assert "cannot be judged: the norms are not remembered" in str(
        clipax.advise(state, threshold=2)
    )


@pytest.mark.parametrize(
    ("norms", "said"),
    [
        ([], "0 finite steps are too few to judge by: it takes 50."),
        ([3], "1 finite step is too few to judge by: it takes 50."),
        ([1, 2], "2 finite steps are too few to judge by: it takes 50."),
        ([0.0, 1.0], "1 finite step with a norm above zero is too few to judge by: it takes 50."),
    ],
)
def test_few_norms(norms, said):
    advice = clipax.advise(norms)
    assert said in advice.findings
    assert (advice.threshold, advice.tail_index, advice.quantiles) == (None, None, {})
