"""Every number that a finding states is the number that counting the norms gives."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import clipax
from tests.diagnostics.advice.reading import close, found, tenths, whole

BOUNDED = settings(database=None, deadline=None, derandomize=True, max_examples=150)
# Equal norms, zeros, neighbours in bfloat16, the ends of float64, and what is not finite.
SPECIAL = [0.0, 0.0, 1.0, 1.0, 25.0, 25.125, 5e-324, 1e-310, 1e30, 1e-30, 1.7e308, np.nan, np.inf]
NORMS = st.one_of(
    st.floats(0, 1e3),
    st.floats(0, allow_nan=False, allow_infinity=False),
    st.integers(1, 5).map(float),
    st.sampled_from(SPECIAL),
)
SHORT = st.lists(NORMS, max_size=120)


@st.composite
def runs(draw):
    """Runs of 50 to 400 norms: a law, a drift, a grain, zeros and gaps."""
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    steps = draw(st.integers(50, 400))
    spread, drift = (
        draw(st.sampled_from([0.0, 0.003, 0.5, 2.0])),
        draw(st.sampled_from([0, 0, 3, -8])),
    )
    norms = np.exp(spread * random.standard_normal(steps) + drift * np.linspace(0, 1, steps))
    if draw(st.booleans()):  # few digits, as in bfloat16
        norms = np.array([float(f"{norm:.1e}") for norm in norms])
    scale = draw(st.sampled_from([1.0, 1e-300, 1e300, 2.0**-20]))
    norms = norms * scale
    norms[random.random(steps) < draw(st.sampled_from([0, 0, 0.6]))] = 0.0
    norms[random.random(steps) < draw(st.sampled_from([0, 0, 0.1]))] = np.nan
    return norms


ALL = st.one_of(SHORT.map(np.array), runs())


def shares_by_tenth(clipped, finite):
    parts = np.array_split(np.arange(len(clipped)), 10)
    with np.errstate(invalid="ignore"):
        return np.array([clipped[part].sum() / max(finite[part].sum(), 1) for part in parts])


@BOUNDED
@given(ALL, st.sampled_from([0.5, 0.9, 0.95]))
def test_a_proposed_threshold_clips_what_it_says(norms, quantile):
    advice = clipax.advise(norms, quantile=quantile)
    finite = np.isfinite(norms)
    if advice.threshold is None:
        assert "would clip" not in str(advice)
        return
    clipped = finite & (norms > advice.threshold)
    value, said, count, total = found(
        advice, r"threshold of NUMBER would clip about NUMBER % of the steps \(COUNT of COUNT\)"
    )
    assert float(value) == advice.threshold
    assert (whole(count), whole(total)) == (clipped.sum(), finite.sum())
    assert close(said, clipped.sum() / finite.sum())
    assert advice.threshold_share == clipped.sum() / finite.sum()
    # About what was asked for, of the steps with a gradient, in float32 as in float64.
    of_gradients = clipped.sum() / (norms[finite] > 0).sum()
    allowed = min(quantile, 1 - quantile) / 2 + 0.1 * min(of_gradients, 1 - of_gradients)
    assert abs(of_gradients - (1 - quantile)) <= allowed
    by_tenth = tenths(advice, "A threshold")
    if by_tenth is not None:
        counted = shares_by_tenth(clipped, finite)
        assert all(
            close(100 * one, share)
            for one, share in zip(by_tenth, counted, strict=True)
            if one == one
        )


@BOUNDED
@given(ALL)
def test_without_a_proposal_no_threshold_clips_the_share(norms):
    advice = clipax.advise(norms)
    useful = np.sort(norms[np.isfinite(norms) & (norms > 0)])
    if advice.threshold is not None or len(useful) < 50:
        assert advice.threshold is None or len(useful) >= 50
        return
    if useful[0] >= useful[-1] * (1 - 1e-6):
        assert f"All {len(useful)} norms are equal" in str(advice)
        return
    # Between norms that float32 tells apart.
    fraction, exponent = np.frexp(useful)
    single = np.round(fraction * 2**24) / 2**24
    apart = (exponent[:-1] < exponent[1:]) | (single[:-1] < single[1:])
    shares = (len(useful) - 1 - np.flatnonzero(apart)) / len(useful)
    assert not np.any(np.abs(shares - 0.1) < 0.045)
    text = str(advice)
    assert "norms are equal" in text
    assert "no threshold clips about 10 %" in text or "No threshold clips about 10 %" in text


@BOUNDED
@given(ALL, st.one_of(NORMS.filter(lambda norm: norm > 0), st.just(np.inf)))
def test_a_given_threshold_is_judged_by_counting(norms, threshold):
    advice = clipax.advise(norms, threshold=threshold)
    finite = np.isfinite(norms)
    clipped = finite & (norms > threshold)
    if not finite.any():
        assert advice.clip_fraction is None
        return
    assert advice.clip_fraction == clipped.sum() / finite.sum()
    if not clipped.any():
        assert found(advice, r"The threshold \S+ clips none of COUNT finite steps")
    elif clipped.sum() == finite.sum():
        assert whole(found(advice, r"clips all COUNT finite steps")[0]) == finite.sum()
    else:
        said, total, count = found(advice, r"clips NUMBER % of COUNT finite steps \(COUNT\)")
        assert (whole(count), whole(total)) == (clipped.sum(), finite.sum())
        assert close(said, clipped.mean() * len(clipped) / finite.sum())
    lengths = [len(run) for run in "".join("x" if hit else " " for hit in clipped).split()]
    longest = found(advice, r"at most COUNT steps? in a row \(steps? COUNT(?: to COUNT)?\)")
    if max(lengths, default=0) > 1:
        count, first, last = map(whole, longest)
        assert count == max(lengths) == last - first + 1
        assert clipped[first : last + 1].all()
    else:
        assert longest is None
    by_tenth = tenths(advice, "The threshold")
    if by_tenth is not None:
        counted = shares_by_tenth(clipped, finite)
        assert all(
            close(100 * one, share)
            for one, share in zip(by_tenth, counted, strict=True)
            if one == one
        )
    elif finite.sum() >= 50 and clipped.any():
        counted = shares_by_tenth(clipped, finite)
        assert np.ptp(counted[[f.any() for f in np.array_split(finite, 10)]]) == 0


@BOUNDED
@given(ALL)
def test_zeros_and_what_is_not_finite_are_counted(norms):
    advice = clipax.advise(norms)
    finite = np.isfinite(norms)
    assert (advice.steps, advice.nonfinite_count) == (len(norms), (~finite).sum())
    assert advice.zero_count == (norms == 0).sum()
    zeros = found(advice, r"^COUNT of COUNT norms (?:are|is) 0, NUMBER %")
    bad = found(advice, r"^COUNT of COUNT steps \(NUMBER %\) not finite")
    for hit, count, total in (
        (zeros, advice.zero_count, finite.sum()),
        (bad, advice.nonfinite_count, len(norms)),
    ):
        if count:
            assert (whole(hit[0]), whole(hit[1])) == (count, total)
            assert close(hit[2], count / total)
        else:
            assert hit is None


@BOUNDED
@given(ALL)
def test_spikes_are_counted(norms):
    advice = clipax.advise(norms)
    useful = np.isfinite(norms) & (norms > 0)
    hit = found(
        advice, r"^Spikes: COUNT of COUNT norms (?:are|is) more than 10 times the median (\S+)"
    )
    if hit is None:
        return
    reference = np.full(len(norms), np.quantile(norms[useful], 0.5, method="inverted_cdf"))
    if hit[2] == "of":  # their tenth of the run
        for part in np.array_split(np.arange(len(norms)), 10):
            if useful[part].any():
                own = norms[part][useful[part]]
                reference[part] = np.quantile(own, 0.5, method="inverted_cdf")
    assert whole(hit[0]) == np.sum(useful & (norms / 10 > reference))
    assert whole(hit[1]) == useful.sum()


@BOUNDED
@given(runs())
def test_quantiles_are_norms_and_so_many_lie_up_to_them(norms):
    advice = clipax.advise(norms)
    useful = norms[np.isfinite(norms) & (norms > 0)]
    for quantile, value in advice.quantiles.items():
        assert value == np.quantile(useful, quantile, method="inverted_cdf")
    hit = found(
        advice, "Norms: median NUMBER, 90 % up to NUMBER, 99 % up to NUMBER, the largest NUMBER"
    )
    if hit is not None:
        for said, share in zip(hit, (0.5, 0.9, 0.99, 1.0), strict=True):
            at_least = np.mean(useful <= float(said) * (1 + 1e-6))
            assert at_least >= share - 0.0101


@pytest.mark.parametrize("power", [-900, -149, -40, 40, 127, 900])
def test_the_scale_changes_no_finding_but_the_norms(power):
    norms = np.exp(np.random.default_rng(0).standard_normal(700))
    norms[::9] = 0.0
    plain, scaled = clipax.advise(norms), clipax.advise(norms * 2.0**power)
    assert scaled.tail_index == plain.tail_index
    assert scaled.zero_count == plain.zero_count
    assert scaled.quantiles == {key: value * 2.0**power for key, value in plain.quantiles.items()}
    assert scaled.threshold / 2.0**power == pytest.approx(plain.threshold, rel=0.01)
    assert scaled.threshold_share == pytest.approx(plain.threshold_share, abs=0.01)


def test_what_is_counted_in_float64_holds_in_float32():
    norms = np.random.default_rng(0).integers(1, 40, 600).astype(np.float32) / np.float32(10)
    advice = clipax.advise(norms)
    assert np.mean(norms > np.float32(advice.threshold)) == advice.threshold_share
    assert np.mean(norms.astype(float) > advice.threshold) == advice.threshold_share
