"""Norms are cut and raised into a band around their average, as AGGC and AdaNorm do."""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import clipax
from clipax import norms, scopes
from tests.oracles.band import band as oracle


def norms_of(steps: int = 300, seed: int = 0) -> np.ndarray:
    """Norms that wander, with spikes, dips, a fall for good and a zero."""
    random = np.random.default_rng(seed)
    sizes = np.exp(0.5 * random.standard_normal(steps))
    sizes[[0, 50, 51, 90]] *= [1e5, 30.0, 1e4, 1e30]
    sizes[[60, 61, 100]] *= [1e-3, 0.1, 1e-8]
    sizes[150:] *= 1e-4
    sizes[120] = 0.0
    return sizes


def follow(rule: Any, sizes: Any, scale: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """The norms that the rule leaves, and its thresholds."""

    def step(state: Any, given: Any) -> Any:
        count, size = given
        decision, state = rule.update(size, state, clipax.thresholds.Context(count))
        return state, (decision.factor * size, decision.threshold)

    sizes = jnp.asarray(sizes * scale, jnp.float32)
    given = jnp.arange(len(sizes)), sizes
    _, (left, limits) = jax.jit(lambda: jax.lax.scan(step, rule.init(()), given))()
    return np.asarray(left, float), np.asarray(limits, float)


ADANORM = {"low": 1.0, "high": math.inf}


@pytest.mark.parametrize(
    "options",
    [
        {"low": 0.5, "high": 2.0},
        {"low": 0.95, "high": 1.05, "decay": 0.98, "max_factor": 1.1},
        {"low": 0.0, "high": 1.5, "decay": 0.0},
        ADANORM,
        ADANORM | {"max_factor": 1e4},
        {"low": lambda count: 1 / (1 + count), "high": lambda count: 1.1 + count / 50},
    ],
    ids=["both", "narrow", "above", "adanorm", "adanorm-far", "schedules"],
)
@pytest.mark.parametrize("scale", [1.0, 1e-6, 1e6])
def test_every_step_is_that_of_the_oracle(options: Any, scale: float) -> None:
    sizes = norms_of()
    left, _ = follow(norms.band(**options), sizes, scale)
    given = [{"w": np.array([size * scale])} for size in sizes]
    wanted = [float(update["w"][0]) for update in oracle(given, {}, **options)]
    np.testing.assert_allclose(left, wanted, rtol=2e-5)
    changed = np.abs(left / np.where(sizes > 0, sizes * scale, 1) - 1) > 1e-3
    assert 10 < changed[sizes > 0].sum() < 295


def test_adanorm_is_the_published_recurrence() -> None:
    # Its average starts at zero; behind the first hundred steps nothing is left of that.
    sizes = np.exp(0.5 * np.random.default_rng(2).standard_normal(400))
    left, limits = follow(norms.band(1.0, math.inf), sizes)
    average, wanted = 0.0, []
    for size in sizes:
        average = 0.95 * average + 0.05 * size
        wanted.append(max(size, average))
    np.testing.assert_allclose(left[200:], wanted[200:], rtol=1e-4)
    assert (limits > 1e38).all()


def test_norms_that_are_within_are_kept_to_the_bit() -> None:
    random = np.random.default_rng(3)
    given = jnp.asarray(random.standard_normal((100, 5)), jnp.bfloat16)
    clip = clipax.scale_by_norm(norms.band(0.5, 1.5))

    def step(state: Any, gradient: Any) -> Any:
        update, state = clip.update(gradient, state)
        return state, (update, state.telemetry)

    _, (updates, telemetry) = jax.lax.scan(step, clip.init(given[0]), given)
    within = np.asarray(telemetry.clip_factor == 1)
    assert 20 < within.sum() < 95
    assert updates.dtype == jnp.bfloat16
    np.testing.assert_array_equal(within, (np.asarray(updates) == np.asarray(given)).all(axis=1))
    np.testing.assert_array_equal(
        np.asarray(telemetry.clip_factor < 1), telemetry.grad_norm > telemetry.threshold
    )


@pytest.mark.parametrize("first", [1e-30, 1e-6, 1e6, 1e37])
def test_after_any_first_step_two_are_off_and_no_more(first: float) -> None:
    left, _ = follow(norms.band(0.9, 1.5), np.array([first] + [1.0] * 20))
    np.testing.assert_array_equal(left[3:], 1.0)


@pytest.mark.parametrize("size", [1e3, 1e30])
def test_a_spike_is_cut_and_what_follows_is_not_raised(size: float) -> None:
    left, _ = follow(norms.band(0.9, 1.5), np.array([1.0] * 50 + [size] + [1.0] * 20))
    np.testing.assert_allclose(left[50], 1.5, rtol=1e-5)
    np.testing.assert_array_equal(left[51:], 1.0)


def test_a_jump_for_good_is_followed() -> None:
    left, _ = follow(norms.band(0.9, 1.5), np.array([1.0] * 50 + [10.0] * 200))
    assert left[50] < 1.6
    assert (left[150:] == 10).all()


def test_a_small_norm_is_raised_by_the_largest_factor_at_most() -> None:
    sizes = np.array([1.0] * 50 + [0.5, 1.0, 0.02, 1.0, 1e-38, 1.0])
    left, _ = follow(norms.band(1.0, math.inf, decay=0.99, max_factor=5.0), sizes)
    np.testing.assert_allclose(left[[50, 52]], [1.0, 0.1], rtol=0.03)
    assert left[54] <= 5.1e-38


def test_each_group_has_a_band_of_its_own() -> None:
    scope = scopes.by_label({"q": "attention", "k": "attention", "mlp": "mlp"})
    clip = clipax.scale_by_norm(norms.band(0.9, 1.5), scope=scope)
    good = {"q": jnp.array([0.6]), "k": jnp.array([0.8]), "mlp": jnp.array([1e3])}
    state = clip.init(good)
    for _ in range(5):
        updates, state = clip.update(good, state)
    spiked = good | {"q": jnp.array([60.0]), "k": jnp.array([80.0])}
    updates, state = clip.update(spiked, state)
    np.testing.assert_allclose([updates["q"][0], updates["k"][0]], [0.9, 1.2], rtol=1e-5)
    assert updates["mlp"][0] == 1e3


def test_derivatives_are_finite() -> None:
    rule = norms.band(0.9, 1.5)

    def total(sizes: Any) -> Any:
        state, result = rule.init(()), 0.0
        for size in sizes:
            decision, state = rule.update(size, state, clipax.thresholds.Context(jnp.array(0)))
            result += decision.factor * size
        return result

    for sizes in ([0.0, 1.0, 0.0], [1.0, 1e30, 1e-38], [1e-38, 1.0, 1.0, 1.0]):
        assert np.isfinite(jax.grad(total)(jnp.asarray(sizes))).all()


@pytest.mark.parametrize("edge", [1.0, 0.7, math.nan])
def test_an_upper_edge_that_would_shrink_every_step_is_refused(edge: float) -> None:
    with pytest.raises(ValueError, match="`high` must be above 1, got"):
        norms.band(0.5, edge)
    with pytest.raises(TypeError, match="`low`"):
        norms.band("0.5", 2.0)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="`max_factor` must be at least 1 and finite, got inf"):
        norms.band(0.5, 2.0, max_factor=math.inf)
