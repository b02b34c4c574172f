"""The tail index of norms, against its laws and its oracle."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import clipax
from clipax.diagnostics import norm_quantiles, tail_index
from tests.oracles import tail_power as oracle

INDICES = (1.2, 1.5, 1.8)


def samples(law, index, count, norms, seed=0):
    random = np.random.default_rng(seed)
    if law == "Pareto":
        return (1 - random.random((count, norms))) ** (-1 / index)
    return np.abs(random.standard_t(index, (count, norms)))


@pytest.mark.parametrize("index", INDICES)
def test_the_index_of_student_norms_is_found(index):
    found = np.asarray(tail_index(samples("Student-t", index, 40, 10_000)))
    assert np.abs(found - index).mean() < 0.1


@pytest.mark.parametrize("index", INDICES)
def test_the_index_of_pareto_norms_is_found(index):
    found = np.asarray(tail_index(samples("Pareto", index, 40, 10_000)))
    assert np.abs(found - index).mean() < 0.1
    # Without bias, up to what 40 samples can tell.
    assert abs(found.mean() - index) < 3 * found.std() / np.sqrt(40) + 0.01


@pytest.mark.parametrize("index", [0.6, 3.0])
def test_bins_cost_no_bias(index):
    found = np.asarray(tail_index(samples("Pareto", index, 40, 10_000), fraction=0.5))
    assert found.mean() == pytest.approx(index, rel=0.01)


@pytest.mark.parametrize("fraction", [0.05, 0.1, 0.5])
def test_it_is_the_estimate_of_the_oracle(fraction):
    norms = samples("Student-t", 1.5, 1, 700, seed=1)[0]
    expected = oracle.tail_index(norms.tolist(), fraction)
    assert float(tail_index(norms, fraction=fraction)) == pytest.approx(expected, rel=1e-5)


def test_without_a_tail_it_is_infinite():
    for norms in ([], [3.0], np.ones(1000), np.zeros(1000), [jnp.nan, jnp.inf]):
        assert float(tail_index(norms)) == np.inf
    assert np.isnan(norm_quantiles([])).all()


def test_what_is_not_finite_is_left_out():
    norms = samples("Pareto", 1.5, 1, 2000)[0]
    spoiled = np.insert(norms, [5, 700, 2000], [np.nan, np.inf, np.inf])
    assert tail_index(spoiled) == tail_index(norms)
    np.testing.assert_array_equal(norm_quantiles(spoiled), norm_quantiles(norms))


def test_norms_beyond_float32_count_as_the_largest():
    norms = samples("Pareto", 1.5, 1, 2000)[0]
    beyond = np.r_[norms, 1e39, 1e300]
    for one in (beyond, beyond.tolist()):
        assert tail_index(one) == tail_index(np.r_[norms, 1e30, 1e30])
        np.testing.assert_array_equal(norm_quantiles(one, (1.0,)), norm_quantiles([1e30], (1.0,)))


def test_norms_lie_along_the_last_axis():
    norms = samples("Pareto", 1.5, 6, 500).reshape(2, 3, 500)
    together, quantiles = tail_index(norms), norm_quantiles(norms, (0.25, 1.0))
    assert together.shape == (2, 3)
    assert quantiles.shape == (2, 2, 3)
    assert float(together[1, 2]) == pytest.approx(oracle.tail_index(norms[1, 2].tolist(), 0.05))
    np.testing.assert_allclose(quantiles[1], norms.max(axis=-1), rtol=0.045)


def test_it_reads_what_a_run_remembers():
    norms = samples("Pareto", 1.5, 1, 400)[0].astype(np.float32)
    readers = (
        clipax.monitor_norms(scope="unit"),
        clipax.clip_by_percentile(50.0, window=10),
        clipax.clip_by_global_norm(clipax.thresholds.tail_power()),
    )
    gradients = jnp.asarray(norms)[:, None] * jnp.ones((1, 1))

    def step(states, gradient):
        states = [tx.update(gradient, one)[1] for tx, one in zip(readers, states, strict=True)]
        return states, [tail_index(one) for one in states]  # inside of compiled code too

    start = [tx.init(gradients[0]) for tx in readers]
    states, along = jax.jit(lambda: jax.lax.scan(step, start, gradients))()
    for state, found in zip(states, along, strict=True):
        assert float(tail_index(state)) == pytest.approx(float(tail_index(norms)), rel=1e-6)
        assert found[-1] == pytest.approx(float(tail_index(state)), rel=1e-6)
        np.testing.assert_array_equal(norm_quantiles(state), norm_quantiles(norms))
    assert float(tail_index(start)) == np.inf


def test_blocks_are_taken_together():
    monitor = clipax.monitor_norms(scope="leaf")
    gradient = {"a": jnp.ones(1), "b": 100 * jnp.ones(1)}
    _, state = jax.jit(monitor.update)(gradient, monitor.init(gradient))
    np.testing.assert_allclose(norm_quantiles(state, (0.5, 1.0)), [1, 100], rtol=0.045)


def test_what_holds_no_norms_is_refused():
    state = optax.adam(0.1).init({"w": jnp.ones(3)})
    for nothing in (state, clipax.clip_by_global_norm(1.0).init(jnp.ones(3)), "norms", 3.0):
        with pytest.raises(ValueError, match="`norms` must"):
            tail_index(nothing)
    for bad in (0, 1, -0.1):
        with pytest.raises(ValueError, match=r"`fraction` must be in \(0, 1\)"):
            tail_index(np.ones(3), fraction=bad)
    with pytest.raises(ValueError, match=r"`quantiles` must be in \(0, 1\]"):
        norm_quantiles(np.ones(3), (0.5, 1.5))
