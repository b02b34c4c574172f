"""Advice on where to clip, from the states that a run leaves."""

from __future__ import annotations

import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import clipax
from tests.diagnostics.runs import STEPS, after, at, gradients, monitored, of_norms, watched


def test_a_threshold_that_clips_nearly_every_step():
    norms, given = gradients()
    advice = clipax.advise(at(watched(given)))
    assert (advice.steps, advice.nonfinite_count) == (STEPS, 0)
    share = np.mean(norms.astype(np.float32) > 1.02)
    assert advice.clip_fraction == pytest.approx(share, abs=2e-3)
    assert advice.clip_fraction > 0.9
    assert advice.findings[0].startswith("600 steps so far")
    assert advice.findings[1].startswith(f"{100 * advice.clip_fraction:.3g} % of 600 finite steps")
    assert "The clip sets the size of most steps" in advice.findings[1]
    assert advice.tail_index == pytest.approx(1.6, abs=0.4)
    low, high = advice.tail_interval
    said = f"Tail index about {advice.tail_index:.2g} (95 %: {low:.2g} to {high:.2g}, from "
    assert said in str(advice)
    assert "norms): probably heavy (no variance)" in str(advice)
    least, most = re.search(r"Spikes: (\d+) to (\d+) of 600 norms", str(advice)).groups()
    assert int(least) <= np.sum(norms > 10 * np.median(norms)) <= int(most)
    for quantile, value in advice.quantiles.items():
        assert value == pytest.approx(np.quantile(norms, quantile), rel=0.06)
    assert set(advice.quantiles) == {0.5, 0.9, 0.99}
    assert advice.threshold == pytest.approx(advice.quantiles[0.9], rel=0.05)
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
    assert "half the threshold takes twice the learning rate" in found[0]
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
    assert advice.findings[1] == "Never clipped in 600 finite steps: the threshold does nothing."
    assert advice.tail_index > 4
    assert "The tail is light: the largest 5 % of the norms are" in str(advice)
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
    clip_fraction = clipax.metrics(state)["clip_fraction"]
    assert advice.clip_fraction == pytest.approx(float(clip_fraction), rel=1e-6)
    assert (advice.steps, advice.nonfinite_count) == (STEPS, 1)
    both = np.r_[0.6 * norms, 0.8 * norms]
    assert advice.threshold == pytest.approx(np.quantile(both, 0.9), rel=0.06)


def test_advice_is_frozen():
    advice = clipax.advise(np.ones(60))
    with pytest.raises(AttributeError):
        advice.threshold = 3.0


def test_what_cannot_be_judged_is_refused():
    text = r"must be an optimizer state with a clipax .*`optax.chain\(clipax.monitor_norms\(\), opt"
    for state in (
        optax.adam(0.1).init(jnp.ones(3)),
        clipax.skip_nonfinite(optax.adam(0.1)).init(jnp.ones(3)),
        clipax.clip_by_global_norm(1.0),
    ):
        with pytest.raises(ValueError, match=text):
            clipax.advise(state)
    for bad in (0, 1, 1.5):
        with pytest.raises(ValueError, match=r"`quantile` must be in \(0, 1\)"):
            clipax.advise([1.0], quantile=bad)
    for bad in (0, -1, float("nan")):
        with pytest.raises(ValueError, match="`threshold` must be positive"):
            clipax.advise([1.0], threshold=bad)
    many = jax.vmap(monitored().init)({"a": jnp.ones((2, 3))})
    with pytest.raises(ValueError, match="vectorised"):
        clipax.advise(many)
